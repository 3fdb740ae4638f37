"""Every oracle by name: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from orderhead.body.mar import MAR
from orderhead.core.names import unknown
from orderhead.oracles import foresight, recognition
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.oracles.importance import Oracle

CLASSIFIER_ORACLES: Mapping[str, Callable[..., Oracle]] = {
    "cls_k": recognition.cls_k,
    "cls_k_random": partial(recognition.cls_k, clusters=recognition.at_random, draws=8),
    "cls_k_quadrants": partial(recognition.cls_k, clusters=recognition.quadrants),
    "cumulative": recognition.cumulative,
    "marginal": recognition.marginal,
    "saliency_attn": recognition.saliency_attn,
}
BODY_ORACLES: Mapping[str, Callable[..., Oracle]] = {
    "entropy": foresight.entropy,
    "reconstruction": foresight.reconstruction,
    "future_gain": foresight.future_gain,
    "predictability": foresight.predictability,
}
ORACLES: Mapping[str, str] = {
    "cls_k": "p(true class) of the cell's chunk of the ranking, shown alone",
    "cls_k_random": "the same with random partitions, eight averaged",
    "cls_k_quadrants": "the same with square blocks",
    "cumulative": "gain in p(true class) when the cell's chunk joins those before it",
    "marginal": "mean gain in p(true class) over random visible sets",
    "saliency_attn": "the classifier's class-token attention",
    "entropy": "minus the variance that the body's diffusion head has learned",
    "reconstruction": "fall of the rest's diffusion loss when the cell alone is seen",
    "future_gain": "fall of the rest's diffusion loss, expected over contexts",
    "predictability": "minus the cell's own diffusion loss",
}
"""Name -> what it measures."""


def make_oracle(
    name: str, *, classifier: PartialVisClassifier | None = None, body: MAR | None = None, **options: object
) -> Oracle:
    """The oracle called `name`, on the network that it asks; `options` are its own (`cluster_size`, `draws`).

    ValueError for an unknown name (with the nearest match), or where its network is missing.
    """
    if name in CLASSIFIER_ORACLES:
        if classifier is None:
            raise ValueError(f"the oracle {name} asks a partial-visibility classifier; give one (load_classifier)")
        return CLASSIFIER_ORACLES[name](classifier, **options)
    if name in BODY_ORACLES:
        if body is None:
            raise ValueError(f"the oracle {name} asks the body; give one (load_body)")
        return BODY_ORACLES[name](body, **options)
    raise unknown("oracle", name, ORACLES)

"""What a body's images are measured by: real images, a judge network, a classifier of partial images.

What ships is a row a kind of image, found by the body's tokenizer; anything else is given by name.

Legend: N generated images, M real images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MARConfig
from orderhead.core.assets import shipped
from orderhead.core.device import default_device
from orderhead.core.names import unknown
from orderhead.data.images import IMAGES, MODES, ImageSet, RealImages, read_folder
from orderhead.data.latents import fingerprint
from orderhead.metrics import clip, fidelity
from orderhead.metrics import judge as judging
from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.judge import Judge, metric_net
from orderhead.metrics.registry import measure
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.oracles.load import fitting_classifier

METRICS = (  # not cmmd, which is mmd_rbf on CLIP's features
    "fd", "kid", "mmd_rbf", "is", "agreement", "clip_score", "precision", "recall",
)  # fmt: skip
LEAST_IMAGES = 5  # what precision and recall need


@dataclass(frozen=True)
class Sources:
    """Names: real images (of `data.images.IMAGES`, or a folder), the judge whose features count (of `PUBLISHED`, a
    shipped one or its folder), a published judge's weights (a file), the classifier of partial images (a shipped one or
    its folder)."""

    real: str | None = None
    features: str | None = None
    weights: str | None = None
    classifier: str | None = None


WORLDS: Mapping[str, Sources] = {
    "fashion": Sources(real="fashion-test", features="fashion", classifier="fashion"),
}


@dataclass(frozen=True)
class Published:
    """A network whose weights are a file that users bring: (file, names of the body's classes) -> judge; which file."""

    judge: Callable[[str, Sequence[str]], Judge]
    file: str
    url: str


PUBLISHED: Mapping[str, Published] = {
    "inception": Published(lambda weights, _: fidelity.inception(weights), fidelity.WEIGHTS, fidelity.WEIGHTS_FROM),
    "clip": Published(clip.clip, clip.WEIGHTS, clip.WEIGHTS_FROM),
}


def sources(tokenizer: str, given: Mapping[str, str]) -> Sources:
    """The tokenizer's row with what is `given`; features are Inception's where neither says.

    ValueError for an unknown field, and where images of this tokenizer can be compared to nothing.
    """
    row = asdict(WORLDS.get(tokenizer, Sources()))
    for field in given:
        if field not in row:
            raise unknown("source", field, row)
    chosen = Sources(**row | dict(given))
    if chosen.real is None:
        raise ValueError(
            f"no real images ship for the tokenizer {tokenizer!r}, only for {', '.join(WORLDS)}; give --real FOLDER "
            "--features inception --weights FILE (`orderhead sample` works with any body)"
        )
    return chosen


@dataclass(frozen=True, eq=False)
class World:
    """The sources, opened. `classifier` is None where nobody recognises partial images; `classes` are the body's."""

    real: RealImages
    judge: Judge
    classifier: PartialVisClassifier | None
    classes: int

    @classmethod
    def of(cls, config: MARConfig, given: Mapping[str, str]) -> World:
        """ValueError, before anything is computed, where a source is missing or does not fit the body."""
        chosen = sources(config.tokenizer, given)
        assert chosen.real
        watching = None if chosen.classifier is None else fitting_classifier(chosen.classifier, config)
        return cls(real_images(chosen.real, config), _judge(chosen, config), watching, config.classes)

    @property
    def labels_M(self) -> Tensor | None:
        """Classes of the real images, where as many are known as the body has."""
        labels = self.real.labels_M
        return labels if labels is not None and int(labels.max()) + 1 == self.classes else None

    @cached_property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of all real images, by the judge on the default device."""
        self.judge.network.to(default_device())
        return judging.see(self.judge, self.real)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be measured here."""
        can = {"agreement": self.judge.knows_classes, "clip_score": self.judge.reads_prompts}
        return tuple(metric for metric in METRICS if can.get(metric, True))

    @property
    def left_out(self) -> list[str]:
        """What cannot, each with its reason."""
        reasons = {
            "class agreement (the judge's outputs are not the body's classes)": not self.judge.knows_classes,
            "AUC and AUAC (no classifier of partial images: --classifier)": self.classifier is None,
            f"what real images score (their folder is not {self.classes} subfolders, one a class)": (
                self.labels_M is None
            ),
        }
        return [reason for reason, holds in reasons.items() if holds]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Names and fingerprints, as they stand in the protocol of every result."""
        recognising = None if self.classifier is None else fingerprint(self.classifier)
        return {"real": self.real.identity, "judge": self.judge.identity, "classifier": recognising}


def real_images(name: str, config: MARConfig) -> RealImages:
    """Images by name (of `IMAGES`) or of a folder, as large as the body's. ValueError where they do not fit."""
    made = load_tokenizer(config.tokenizer).config
    if made.image_channels not in MODES:
        raise ValueError(f"the body's images have {made.image_channels} channels; a judge reads grey or RGB images")
    real = IMAGES[name]() if name in IMAGES else read_folder(name, made.image_channels, made.image_size)
    shape = (made.image_channels, made.image_size, made.image_size)
    if isinstance(real, ImageSet) and real[:1].shape[1:] != shape:
        raise ValueError(
            f"{real.name} are no images of {' x '.join(map(str, shape))} as the body's; give --real FOLDER"
        )
    if len(real) < 2 * LEAST_IMAGES:
        raise ValueError(f"{name} holds {len(real)} real images; a comparison takes at least {2 * LEAST_IMAGES}")
    return real


def _judge(chosen: Sources, config: MARConfig) -> Judge:
    judge = _named_judge(chosen, config.class_names)
    channels = load_tokenizer(config.tokenizer).config.image_channels
    classes_fit = judge.outputs == config.classes if judge.knows_classes else judge.outputs >= config.classes
    if judge.channels not in (None, channels) or not classes_fit:
        raise ValueError(
            f"the judge {judge.name} reads {judge.channels or 'any'}-channel images of {judge.outputs} classes, "
            f"the body draws {channels}-channel images of {config.classes}; choose other --features"
        )
    return judge


def _named_judge(chosen: Sources, class_names: Sequence[str]) -> Judge:
    name = chosen.features or "inception"
    if name in PUBLISHED:
        if chosen.weights is None:
            raise ValueError(
                f"features of {name} need --weights {PUBLISHED[name].file}; get it from {PUBLISHED[name].url}"
            )
        return PUBLISHED[name].judge(chosen.weights, class_names)
    if chosen.weights is not None:
        raise ValueError(f"the features of {name} need no --weights; add --features {' or '.join(PUBLISHED)}")
    if "/" not in name and not Path(name).exists() and name not in shipped("metrics"):
        raise unknown("features", name, (*PUBLISHED, *shipped("metrics")))
    return metric_net(name)


@dataclass(frozen=True, eq=False)
class Jury:
    """A world at work: the reference that generated images are compared with, and what `stand_ins` real ones score."""

    world: World
    reference: Reference
    real: Mapping[str, float]
    stand_ins: int

    @property
    def summary(self) -> dict[str, Any]:
        name = self.world.real.identity["name"]
        return {"name": name, "n": len(self.reference), "stand_ins": self.stand_ins, "real": dict(self.real)}

    @classmethod
    def of(cls, world: World, n: int) -> Jury:
        """`n` real images (at most half), classes in turn, stand for generated ones and are measured against the rest.

        Generated images are compared with that rest too where images ship, so that both are measured alike, and with
        all images of a folder, as published distances are.
        """
        features, logits = world.seen
        if world.labels_M is None:
            return cls(world, Reference(features), {}, 0)
        order, k = in_turn(world.labels_M).numpy(), min(n, len(features) // 2)
        rest = Reference(features[order[k:]])
        chosen = Judged(features[order[:k]], logits[order[:k]], world.labels_M.numpy()[order[:k]])
        real = {name: estimate.value for name, estimate in measure(chosen, rest, world.metrics).items()}
        return cls(world, rest if isinstance(world.real, ImageSet) else Reference(features), real, k)


def in_turn(labels_N: Tensor) -> Tensor:
    """Indices (N,) that go through the classes in turn, as generated images do: 0, 1, ..., K - 1, 0, 1, ..."""
    nth_N = torch.zeros_like(labels_N)  # how many of its class come before an image
    for label in labels_N.unique():
        nth_N[labels_N == label] = torch.arange(int((labels_N == label).sum()))
    return (nth_N * (labels_N.max() + 1) + labels_N).argsort()

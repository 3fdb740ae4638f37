"""From a row of the study to a recipe: on which body, classifier and images a head is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass

from torch import nn

from orderhead.body.load import load_body
from orderhead.body.mar import MAR
from orderhead.core.device import default_device
from orderhead.core.names import unknown
from orderhead.data.latents import fingerprint
from orderhead.oracles.cache import cached_importance
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.oracles.importance import Oracle
from orderhead.oracles.load import load_classifier
from orderhead.oracles.table import make_oracle
from orderhead.training.heads import (
    HeadAndBody,
    HeadRecipe,
    asked,
    head_loss,
    known,
    save_head,
    scales,
    untrained_head,
    warmup_images,
)
from orderhead.training.loop import Evaluation, LoopConfig, Loss
from orderhead.training.recipe import Recipe, configure, image_tokens
from orderhead.training.variants import HEAD_RECIPES


@dataclass(frozen=True)
class Ground:
    """What a head is trained on: names or folders of a body and a classifier, and the name of the images.

    The study's own ground is MAR-B, its classifier and ImageNet, which are the user's to bring.
    """

    body: str = "fashion"
    classifier: str = "fashion"
    images: str = "fashion-train"


def on_ground(row: HeadRecipe, ground: Ground) -> Recipe:
    """A row of the study on a ground. The body is loaded once; what trains it trains a copy."""

    body = load_body(ground.body).to(default_device()).requires_grad_(False)

    def build() -> nn.Module:
        head = untrained_head(row, body)
        return HeadAndBody(head, deepcopy(body).requires_grad_(True)) if row.body_mode == "full" else head

    def task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
        classifier = load_classifier(ground.classifier).to(default_device()).requires_grad_(False)
        tokens, labels = image_tokens(ground.images, body.config.tokenizer)
        oracle = _oracle(row, body, classifier)
        target = asked(oracle)
        if row.oracle_images:
            tokens, labels = tokens[: row.oracle_images], labels[: row.oracle_images]
            key = f"{row.oracle} {fingerprint(body)} {fingerprint(classifier)}"
            target = known(cached_importance(oracle, key, tokens, labels, body.device))
        frozen = None if row.body_mode == "full" else body
        return len(tokens), head_loss(row, frozen, target, tokens, labels, warmup_images(row, config)), None

    about = {k: v for k, v in asdict(row).items() if k not in ("summary", "reported", "modes")}
    about |= asdict(ground) | {"body_weights": fingerprint(body)}
    return Recipe(row.summary, build, task, scales(row), save_head, about)


def _oracle(row: HeadRecipe, body: MAR, classifier: PartialVisClassifier) -> Oracle:
    chunked = row.oracle.startswith("cls_k") or row.oracle == "cumulative"
    options = {"cluster_size": row.clusters(body.grid.L)} if chunked else {}
    return make_oracle(row.oracle, body=body, classifier=classifier, **options)


def _split(overrides: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The overrides that are a head's, and the loop's own. ValueError for a name that is neither's."""
    loop = {f.name for f in dataclasses.fields(LoopConfig)}
    head = {f.name for f in dataclasses.fields(HeadRecipe)} - loop - {"summary", "reported", "modes"}
    for name in overrides:
        if name not in loop | head:
            raise unknown("recipe field", name, loop | head)
    return {k: v for k, v in overrides.items() if k in head}, {k: v for k, v in overrides.items() if k in loop}


def ground_at(scale: str, ground: Ground | None) -> Ground:
    """The ground, or where none is named the world that ships. ValueError for `full` without one."""
    if ground is None and scale == "full":
        raise ValueError(
            "the study's full scale is MAR-B, a classifier of its latents and ImageNet, which do not ship: "
            "give --body, --classifier and --train-images, or take --scale mini"
        )
    return ground or Ground()


def head_recipe(
    name: str, scale: str, overrides: Mapping[str, str], ground: Ground | None
) -> tuple[Recipe, dict[str, str]]:
    """The row called `name` with those overrides that are its own, and the overrides that are left for the loop.

    ValueError for `full` without a ground.
    """
    own, rest = _split(overrides)
    return on_ground(configure(HEAD_RECIPES[name], own), ground_at(scale, ground)), rest

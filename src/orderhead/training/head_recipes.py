"""From a row of the study to a recipe: on which body, classifier and images a head is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from orderhead.body.mar import MAR
from orderhead.core.names import unknown
from orderhead.data.latents import fingerprint
from orderhead.oracles.cache import cached_importance
from orderhead.oracles.importance import Oracle
from orderhead.oracles.load import fitting_classifier
from orderhead.oracles.table import CLASSIFIER_ORACLES, make_oracle
from orderhead.training.bodies import BODY_MODES
from orderhead.training.ground import Ground, few, ground_at, ground_body, image_tokens, images_identity, opened
from orderhead.training.heads import (
    HeadAndBody,
    HeadRecipe,
    asked,
    head_loss,
    known,
    saver,
    scales,
    untrained_head,
    warmup_images,
)
from orderhead.training.loop import Evaluation, LoopConfig, Loss
from orderhead.training.recipe import Recipe, configure
from orderhead.training.teachers import load_teacher, slow_ranking
from orderhead.training.variants import HEAD_RECIPES

UNTRAINED = ("summary", "reported", "modes")  # fields that change no weight


def on_ground(row: HeadRecipe, ground: Ground) -> Recipe:
    """A row of the study on a ground. The body is loaded once; what trains it trains a copy."""
    body = ground_body(ground)
    folder = opened(ground.images, body.config)
    oracle, network = _taught(row, body) if row.teacher else _oracle(row, body, ground.classifier)

    def build() -> nn.Module:
        head, own = untrained_head(row, body), BODY_MODES[row.body_mode](body)
        return head if own is None else HeadAndBody(head, own)

    def task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
        tokens, labels = image_tokens(ground.images, body.config, folder)
        target = asked(oracle)
        if row.oracle_images:
            tokens, labels = few(tokens, labels, min(row.oracle_images, config.images))  # no run sees more
            name = f"slow {fingerprint(body)}" if row.teacher else row.oracle
            key = " ".join([name, fingerprint(network), *(f"{k} {v}" for k, v in _options(row, body).items())])
            target = known(cached_importance(oracle, key, tokens, labels, body.device))
        frozen = body if row.body_mode == "frozen" else None
        return len(tokens), head_loss(row, frozen, target, tokens, labels, warmup_images(row, config)), None

    about = {k: v for k, v in asdict(row).items() if k not in (*UNTRAINED, "scaling", "teacher")}
    about |= {"body_weights": fingerprint(body), "oracle_weights": fingerprint(network)}
    about |= images_identity(ground.images, body.config, folder)
    return Recipe(row.summary, build, task, scales(row), saver(row), about)


def _taught(row: HeadRecipe, body: MAR) -> tuple[Oracle, nn.Module]:
    """The teacher's ranking as an oracle, and the teacher."""
    head = load_teacher(row.teacher, body)
    return slow_ranking(body, head), head


def _oracle(row: HeadRecipe, body: MAR, classifier: str) -> tuple[Oracle, nn.Module]:
    """The row's oracle, and the network that it asks: the body, or the classifier of that name."""
    if row.oracle not in CLASSIFIER_ORACLES:
        return make_oracle(row.oracle, body=body), body
    network = fitting_classifier(classifier, body.config).to(body.device).requires_grad_(False)
    return make_oracle(row.oracle, classifier=network, **_options(row, body)), network


def _options(row: HeadRecipe, body: MAR) -> dict[str, Any]:
    """What the row's oracle is told beside its network."""
    chunked = row.oracle.startswith("cls_k") or row.oracle == "cumulative"
    return {"cluster_size": row.clusters(body.grid.L)} if chunked and not row.teacher else {}


def _split(overrides: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The overrides that are a head's, and the loop's own. ValueError for a name that is neither's."""
    loop = {f.name for f in dataclasses.fields(LoopConfig)}
    head = {f.name for f in dataclasses.fields(HeadRecipe)} - loop - {*UNTRAINED}
    for name in overrides:
        if name not in loop | head:
            raise unknown("recipe field", name, loop | head)
    return {k: v for k, v in overrides.items() if k in head}, {k: v for k, v in overrides.items() if k in loop}


def head_recipe(
    name: str, scale: str, overrides: Mapping[str, str], ground: Ground | None
) -> tuple[Recipe, dict[str, str]]:
    """The row called `name` with those overrides that are its own, and the overrides that are left for the loop.

    ValueError for `full` without a ground.
    """
    own, rest = _split(overrides)
    return on_ground(configure(HEAD_RECIPES[name], own), ground_at(scale, ground)), rest

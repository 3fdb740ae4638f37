"""Everything that ships was trained by a recipe: `orderhead train NAME`.

A recipe is a model, a loss on named data, and how long: `smoke` takes seconds, `mini` minutes on two cores (the body an
hour or two), `full` a GPU. Heads have a table of their own in `variants.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from orderhead.body.mar import MAR, SIZES
from orderhead.body.tokenizer import TOKENIZERS, KLTokenizer
from orderhead.core import dist
from orderhead.core.checkpoint import save_model
from orderhead.core.names import lookup, unknown
from orderhead.data import fashion
from orderhead.metrics.network import MetricNet, MetricNetConfig
from orderhead.oracles.classifier import TINY, PartialVisClassifier
from orderhead.training import losses
from orderhead.training.evaluations import accuracy, partial_accuracy, reconstruction
from orderhead.training.head_recipes import Ground, head_recipe
from orderhead.training.loop import Evaluation, LoopConfig, Loss, train
from orderhead.training.recipe import Recipe, configure, image_tokens, seeded
from orderhead.training.variants import HEAD_RECIPES


def _scales(shipped: LoopConfig, longer: int = 10) -> dict[str, LoopConfig]:
    """`mini` is what shipped; `full` the same for `longer` times as many images; `smoke` a few steps."""
    smoke = replace(shipped, images=8 * shipped.batch, warmup_images=shipped.batch, cooldown_images=0)
    return {"smoke": smoke, "mini": shipped, "full": replace(shipped, images=longer * shipped.images)}


def _tokenizer_task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
    images, _ = fashion.training_set()
    return len(images), losses.tokenizer_loss(images), reconstruction(fashion.test_set()[0][:1000])


@torch.no_grad()
def _save_with_unit_variance(model: nn.Module, out: Path, images: int = 4096) -> None:
    """Save it with the latent shift and scale with which the training images' tokens have mean 0 and variance 1."""
    assert isinstance(model, KLTokenizer)
    device = next(model.parameters()).device
    pixels = fashion.training_set()[0][:images]
    latents = torch.cat([model.moments(chunk.to(device))[0].cpu() for chunk in pixels.split(256)]).double()
    shift, scale = latents.mean().item(), 1 / latents.std().item()
    model.config = replace(model.config, latent_shift=round(shift, 6), latent_scale=round(scale, 6))
    save_model(model, out)


def _metric_task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
    images, labels = fashion.training_set()
    return len(images), losses.image_class_loss(images, labels), accuracy(*fashion.test_set())


def _body_task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
    tokens, labels = image_tokens("fashion-train")
    return len(tokens), losses.body_loss(tokens, labels, repeats=2), None


def _classifier_task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
    tokens, labels = image_tokens("fashion-train")
    return len(tokens), losses.partial_class_loss(tokens, labels), partial_accuracy(*image_tokens("fashion-test"))


RECIPES: Mapping[str, Recipe] = {
    "fashion-tokenizer": Recipe(
        "KL autoencoder, 32 x 32 x 1 -> 8 x 8 x 4, on Fashion-MNIST",
        lambda: KLTokenizer(TOKENIZERS["fashion"]),
        _tokenizer_task,
        _scales(LoopConfig(images=200_000, batch=64, base_lr=6e-3, cooldown_images=90_000, weight_decay=0.0, clip=1.0)),
        _save_with_unit_variance,
    ),
    "fashion-metric": Recipe(
        "the judge: a convolutional classifier of pixels, on Fashion-MNIST",
        lambda: MetricNet(MetricNetConfig()),
        _metric_task,
        _scales(LoopConfig(images=240_000, batch=64, base_lr=6e-3, cooldown_images=180_000, weight_decay=0.05)),
    ),
    "fashion-classifier": Recipe(
        "partial-visibility classifier (the oracle's) on the tokens of Fashion-MNIST",
        lambda: PartialVisClassifier(TINY),
        _classifier_task,
        _scales(LoopConfig(images=140_000, batch=128, base_lr=2e-3, cooldown_images=60_000, weight_decay=0.05)),
    ),
    "fashion-body": Recipe(
        "MAR body (size tiny) on the tokens of Fashion-MNIST",
        lambda: MAR(replace(SIZES["tiny"], class_names=fashion.CLASS_NAMES, token_bound=5.0)),
        _body_task,
        _scales(
            LoopConfig(images=600_000, batch=128, base_lr=2e-3, cooldown_images=120_000, cycles=2, ema_decay=0.998)
        ),
    ),
}


def run_recipe(
    name: str, scale: str, out: str | Path, overrides: Mapping[str, str] | None = None, ground: Ground | None = None
) -> nn.Module:
    """Train a recipe into the folder `out` (resuming what is there) and save the averaged model in it.

    `ground` is what a head is trained on (the world that ships, but for `full`). ValueError for an unknown recipe,
    scale or field, and where training data is missing.
    """
    if name not in RECIPES and name not in HEAD_RECIPES:
        raise unknown("recipe", name, [*RECIPES, *HEAD_RECIPES])
    overrides = overrides or {}
    recipe, rest = (RECIPES[name], overrides) if name in RECIPES else head_recipe(name, scale, overrides, ground)
    config = configure(lookup("scale", scale, recipe.scales), rest)
    n, loss, evaluation = recipe.task(config)
    every = [(60_000, evaluation)] if evaluation else []
    model = train(seeded(recipe.build, config.seed), loss, n, config, Path(out), every, about=recipe.about)
    if dist.rank() == 0:
        recipe.save(model, Path(out))
    dist.barrier()
    return model

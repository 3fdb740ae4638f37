"""Everything that ships was trained by a row of this table: `orderhead train NAME --scale full`.

A recipe is a model, a loss on named data, and how long; `mini` takes minutes on two cores, `smoke` seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from orderhead.body.load import load_tokenizer
from orderhead.body.mar import MAR, SIZES
from orderhead.body.tokenizer import TOKENIZERS, KLTokenizer
from orderhead.core.checkpoint import save_model
from orderhead.core.names import lookup, unknown
from orderhead.core.rng import torch_generator
from orderhead.data import fashion
from orderhead.data.latents import cached_tokens, fingerprint
from orderhead.metrics.network import MetricNet, MetricNetConfig
from orderhead.oracles.classifier import TINY, PartialVisClassifier
from orderhead.training import losses
from orderhead.training.evaluations import accuracy, partial_accuracy, reconstruction
from orderhead.training.loop import Evaluation, LoopConfig, Loss, train


@dataclass(frozen=True)
class Recipe:
    """`build` makes the untrained model, `task` its data: item count, loss, evaluation of the averaged model.

    `finish` maps the trained model to the one that is saved (the identity where nothing is to be done).
    """

    summary: str
    build: Callable[[], nn.Module]
    task: Callable[[], tuple[int, Loss, Evaluation | None]]
    scales: Mapping[str, LoopConfig]
    finish: Callable[[nn.Module], nn.Module] = lambda model: model


def _scales(shipped: LoopConfig, longer: int = 10) -> dict[str, LoopConfig]:
    """`mini` is what shipped; `full` the same for `longer` times as many images; `smoke` a few steps."""
    smoke = replace(shipped, images=8 * shipped.batch, warmup_images=shipped.batch, cooldown_images=0)
    return {"smoke": smoke, "mini": shipped, "full": replace(shipped, images=longer * shipped.images)}


def _tokenizer_task() -> tuple[int, Loss, Evaluation | None]:
    images, _ = fashion.training_set()
    return len(images), losses.tokenizer_loss(images), reconstruction(fashion.test_set()[0][:1000])


@torch.no_grad()
def _unit_variance(model: nn.Module, images: int = 4096) -> nn.Module:
    """Set the latent shift and scale so that the training images' tokens have mean 0 and variance 1."""
    assert isinstance(model, KLTokenizer)
    device = next(model.parameters()).device
    pixels = fashion.training_set()[0][:images]
    latents = torch.cat([model.moments(chunk.to(device))[0].cpu() for chunk in pixels.split(256)]).double()
    shift, scale = latents.mean().item(), 1 / latents.std().item()
    model.config = replace(model.config, latent_shift=round(shift, 6), latent_scale=round(scale, 6))
    return model


def _metric_task() -> tuple[int, Loss, Evaluation | None]:
    images, labels = fashion.training_set()
    return len(images), losses.image_class_loss(images, labels), accuracy(*fashion.test_set())


def fashion_tokens(split: str) -> tuple[Tensor, Tensor]:
    """Tokens and labels of Fashion-MNIST's `train` or `test` images under the shipped tokenizer."""
    tokenizer = load_tokenizer("fashion")
    return cached_tokens(f"fashion-{split}", tokenizer.encode, fingerprint(tokenizer))


def _body_task() -> tuple[int, Loss, Evaluation | None]:
    tokens, labels = fashion_tokens("train")
    return len(tokens), losses.body_loss(tokens, labels, repeats=2), None


def _classifier_task() -> tuple[int, Loss, Evaluation | None]:
    tokens, labels = fashion_tokens("train")
    return len(tokens), losses.partial_class_loss(tokens, labels), partial_accuracy(*fashion_tokens("test"))


def _seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The same initial weights every time, without touching the global generator."""

    def built() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(0, 3).initial_seed())
            return build()

    return built


RECIPES: Mapping[str, Recipe] = {
    "fashion-tokenizer": Recipe(
        "KL autoencoder, 32 x 32 x 1 -> 8 x 8 x 4, on Fashion-MNIST",
        _seeded(lambda: KLTokenizer(TOKENIZERS["fashion"])),
        _tokenizer_task,
        _scales(LoopConfig(images=200_000, batch=64, base_lr=6e-3, cooldown_images=90_000, weight_decay=0.0, clip=1.0)),
        _unit_variance,
    ),
    "fashion-metric": Recipe(
        "the judge: a convolutional classifier of pixels, on Fashion-MNIST",
        _seeded(lambda: MetricNet(MetricNetConfig())),
        _metric_task,
        _scales(LoopConfig(images=240_000, batch=64, base_lr=6e-3, cooldown_images=180_000, weight_decay=0.05)),
    ),
    "fashion-classifier": Recipe(
        "partial-visibility classifier (the oracle's) on the tokens of Fashion-MNIST",
        _seeded(lambda: PartialVisClassifier(TINY)),
        _classifier_task,
        _scales(LoopConfig(images=140_000, batch=128, base_lr=2e-3, cooldown_images=60_000, weight_decay=0.05)),
    ),
    "fashion-body": Recipe(
        "MAR body (size tiny) on the tokens of Fashion-MNIST",
        _seeded(lambda: MAR(replace(SIZES["tiny"], class_names=fashion.CLASS_NAMES, token_bound=5.0))),
        _body_task,
        _scales(
            LoopConfig(images=600_000, batch=128, base_lr=2e-3, cooldown_images=120_000, cycles=2, ema_decay=0.998)
        ),
    ),
}


def configure(config: LoopConfig, overrides: Mapping[str, str]) -> LoopConfig:
    """`config` with `field=value` overrides from the command line. ValueError for an unknown field or a bad value."""
    fields = {f.name: type(getattr(config, f.name)) for f in dataclasses.fields(config)}
    changes: dict[str, object] = {}
    for name, text in overrides.items():
        if name not in fields:
            raise unknown("recipe field", name, fields)
        try:
            changes[name] = tuple(map(float, text.split(","))) if fields[name] is tuple else fields[name](text)
        except ValueError:
            raise ValueError(f"{name} is a {fields[name].__name__}, got {text!r}") from None
    return replace(config, **changes)  # type: ignore[arg-type]


def run_recipe(name: str, scale: str, out: str | Path, overrides: Mapping[str, str] | None = None) -> nn.Module:
    """Train a recipe into the folder `out` (resuming what is there) and save the averaged model in it.

    ValueError for an unknown recipe, scale or field, and where training data is missing.
    """
    recipe = lookup("recipe", name, RECIPES)
    config = configure(lookup("scale", scale, recipe.scales), overrides or {})
    out = Path(out)
    n, loss, evaluation = recipe.task()
    every = [(60_000, evaluation)] if evaluation else []
    model = recipe.finish(train(recipe.build(), loss, n, config, out, every))
    save_model(model, out)
    return model

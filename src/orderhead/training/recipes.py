"""Everything that ships was trained by a recipe: `orderhead train NAME`.

A recipe is a model, a loss on named data, and how long: `smoke` takes seconds, `mini` minutes on two cores (the body an
hour or two), `full` a GPU. Those called `latent-` make models of one's own: of a body's sizes, on a data set or a
folder of images. Heads have a table of their own in `variants.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from orderhead.body.mar import MAR, SIZES, MARConfig
from orderhead.body.tokenizer import TOKENIZERS, KLTokenizer
from orderhead.core import dist
from orderhead.core.checkpoint import save_model
from orderhead.core.files import read_json, write_json
from orderhead.core.names import lookup, unknown
from orderhead.data import fashion
from orderhead.data.posteriors import Tokens
from orderhead.metrics.network import MetricNet, MetricNetConfig
from orderhead.oracles.classifier import TINY, ClassifierConfig, PartialVisClassifier
from orderhead.training import losses
from orderhead.training.evaluations import accuracy, partial_accuracy, reconstruction
from orderhead.training.ground import Ground, GroundRecipe, ground_at, image_tokens
from orderhead.training.head_recipes import head_recipe
from orderhead.training.loop import Evaluation, LoopConfig, Loss, check_identity, identity_of, train
from orderhead.training.masks import MASKS
from orderhead.training.recipe import Recipe, configure, seeded
from orderhead.training.scratch import PLAIN
from orderhead.training.variants import HEAD_RECIPES

TRAINED = "trained.json"  # in the folder of a finished run: with what it was trained
IMAGENET = 1_281_167  # training images, an epoch of the full scale
HELD_OUT = 128  # every so manyth image is not trained on


def _scales(shipped: LoopConfig, full: LoopConfig | None = None) -> dict[str, LoopConfig]:
    """`mini` is what shipped; `full`, if not given, the same for ten times as many images; `smoke` a few steps."""
    smoke = replace(shipped, images=8 * shipped.batch, warmup_images=shipped.batch, cooldown_images=0)
    return {"smoke": smoke, "mini": shipped, "full": full or replace(shipped, images=10 * shipped.images)}


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


def _body() -> MAR:
    return MAR(replace(SIZES["tiny"], class_names=fashion.CLASS_NAMES, token_bound=5.0))


def _body_recipe(summary: str, masks: str) -> Recipe:
    def task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
        tokens, labels = image_tokens("fashion-train")
        return len(tokens), losses.body_loss(tokens, labels, repeats=2, masks=MASKS[masks]), None

    return Recipe(summary, _body, task, _scales(_BODY, _GPU_BODY), about={"masks": masks})


def _classifier_task(config: LoopConfig) -> tuple[int, Loss, Evaluation | None]:
    tokens, labels = image_tokens("fashion-train")
    seen_later, their_labels = image_tokens("fashion-test")
    return len(tokens), losses.partial_class_loss(tokens, labels), partial_accuracy(seen_later[:], their_labels)


def _latent_classifier(body: MARConfig) -> nn.Module:
    """DeiT-S for a body of MAR-S's width or more, else the small one that ships, in either case for its tokens."""
    size = ClassifierConfig() if body.decoder_width >= 384 else TINY
    sizes = {name: getattr(body, name) for name in ("grid_h", "grid_w", "channels", "classes")}
    return PartialVisClassifier(replace(size, **sizes))


def _latent_classifier_task(tokens: Tokens, labels_N: Tensor) -> tuple[int, Loss, Evaluation | None]:
    held_out = torch.arange(len(tokens)) % HELD_OUT == 0
    trained, tested = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
    loss = losses.among(trained, losses.partial_class_loss(tokens, labels_N))
    return len(trained), loss, partial_accuracy(tokens[tested], labels_N[tested])


def _latent_body_recipe(summary: str, masks: str) -> GroundRecipe:
    def task(tokens: Tokens, labels_N: Tensor) -> tuple[int, Loss, Evaluation | None]:
        return len(tokens), losses.body_loss(tokens, labels_N, repeats=4, masks=MASKS[masks]), None

    return GroundRecipe(
        summary, lambda body: MAR(replace(body, dropout=0.1)), task, _scales(_BODY, _MAR), {"masks": masks}
    )


_CLASSIFIER = LoopConfig(images=140_000, batch=128, base_lr=2e-3, cooldown_images=60_000, weight_decay=0.05)
_BODY = LoopConfig(images=600_000, batch=128, base_lr=2e-3, cooldown_images=120_000, cycles=2, ema_decay=0.998)
_GPU_BODY = LoopConfig(  # fashion-published, -uniform and -ordered: four minutes on an H200
    images=1_588_224, batch=512, base_lr=1e-3, warmup_images=100_000, cooldown_images=635_289, ema_decay=0.999,
)  # fmt: skip
_DEIT = LoopConfig(  # lr and weight decay: Touvron et al. 2021; their 300 epochs are cut to 100, which is ours
    images=100 * IMAGENET, batch=1024, base_lr=2.5e-4, warmup_images=5 * IMAGENET, cooldown_images=50 * IMAGENET,
    weight_decay=0.05, ema_decay=0.9999,
)  # fmt: skip
_MAR = LoopConfig(  # LTH14/mar's README and main_mar.py: 400 epochs, the lr constant after 100
    images=400 * IMAGENET, batch=2048, base_lr=1e-4, warmup_images=100 * IMAGENET, weight_decay=0.02, clip=3.0,
    ema_decay=0.9999,
)  # fmt: skip

RECIPES: Mapping[str, Recipe | GroundRecipe] = {
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
        _scales(_CLASSIFIER),
    ),
    "fashion-body": _body_recipe("MAR body (size tiny) on the tokens of Fashion-MNIST", "published"),
    "fashion-body-uniform": _body_recipe("the same under random masks of any ratio, which MAR's are not", "uniform"),
    "fashion-body-ordered": _body_recipe("the same, half of it under contexts of raster and both spirals", "ordered"),
    "latent-classifier": GroundRecipe(
        "partial-visibility classifier (the oracle's) of a body's tokens, on images of your own",
        _latent_classifier,
        _latent_classifier_task,
        _scales(_CLASSIFIER, _DEIT),
    ),
    "latent-body": _latent_body_recipe(
        "MAR body from random weights, of another body's sizes, on your images", "published"
    ),
    "latent-body-uniform": _latent_body_recipe("the same under random masks of any ratio", "uniform"),
    "latent-body-ordered": _latent_body_recipe(
        "the same, half of it under contexts of raster and both spirals", "ordered"
    ),
    **PLAIN,
}


def run_recipe(
    name: str,
    scale: str,
    out: str | Path,
    overrides: Mapping[str, str] | None = None,
    ground: Ground | None = None,
    watch: tuple[int, Evaluation] | None = None,
) -> None:
    """Train a recipe into the folder `out` (resuming what is there) and save the averaged model in it.

    What is trained already is passed over: `out/trained.json` says with what. `ground` is what heads and models of
    one's own are trained on (the world that ships, but for `full`). `watch`: times, evenly spread over the run, at
    which the averaged model is evaluated, beside the recipe's own evaluation.
    ValueError for an unknown recipe, scale or field, and where training data is missing.
    """
    recipe, rest = _recipe(name, scale, overrides or {}, ground)
    config = configure(lookup("scale", scale, recipe.scales), rest)
    about = {"name": name, **recipe.about}
    identity, done = identity_of(config, about), Path(out) / TRAINED
    if done.is_file() and (Path(out) / "model.safetensors").is_file():
        check_identity(read_json(done), identity, Path(out))
        return
    Path(out).mkdir(parents=True, exist_ok=True)  # before hours of encoding
    n, loss, evaluation = recipe.task(config)
    every = [(max(60_000, config.images // 100), evaluation)] if evaluation else []
    every += [(config.images // watch[0], watch[1])] if watch else []
    model = train(seeded(recipe.build, config.seed), loss, n, config, Path(out), every, about=about)
    if dist.rank() == 0:
        recipe.save(model, Path(out))
        write_json(done, identity)
    dist.barrier()


def _recipe(
    name: str, scale: str, overrides: Mapping[str, str], ground: Ground | None
) -> tuple[Recipe, Mapping[str, str]]:
    """The recipe called `name` on its ground, and the overrides that are left for the loop."""
    if name in HEAD_RECIPES:
        return head_recipe(name, scale, overrides, ground)
    if name not in RECIPES:
        raise unknown("recipe", name, [*RECIPES, *HEAD_RECIPES])
    row = RECIPES[name]
    if isinstance(row, GroundRecipe):
        return row.on(ground_at(scale, ground)), overrides
    if ground is not None:
        raise ValueError(
            f"{name} is trained on what ships; leave out --body, --classifier, --tokenizer and --train-images, or take "
            "a recipe of your own models (latent-classifier, latent-body) or a head's"
        )
    return row, overrides

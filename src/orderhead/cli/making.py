"""Verbs that make images and models: sample, import, train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from orderhead.console import number, wrote
from orderhead.options import GroundOptions, SamplingOptions, parse_labels

if TYPE_CHECKING:
    from orderhead.sampling.settings import Settings


def sample(
    *,
    body: str = "fashion",
    order: str = "random",
    labels: Annotated[str, arg(metavar="0,3|NAMES")] = "all",
    n: Annotated[int, number(int), arg(aliases=("-n",), name="images")] = 16,
    preset: Literal["own", "fast"] = "own",
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    rng: Literal["paired", "official"] = "paired",
    tokenizer: str = "auto",
    out: Annotated[str, arg(metavar="FILE.png|.gif|.npz|DIR/")],
) -> None:
    """Sample images under an order.

    For example:
        orderhead sample --order multiscale --labels sandal,bag -n 16 --out out/sample.png
        orderhead sample --preset fast -n 100 --out out/fast.png
        orderhead sample --order halton --steps 8 --out out/reveal.gif
        orderhead sample --order learned --head fashion-aligned --rescore slow --out out/learned.png

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        order: A name from `orderhead list orders`, or names combined, as in shift(raster) (`orderhead list combinators`).
        labels: Classes by number or name, -1 for none, taken in turn.
        n: How many images.
        preset: What is left out is the body's own, or fast: an eighth as many steps as cells (in random order, of informed sizes: `orderhead schedule`), 10 denoising steps, dpm.
        rng: Noise of our own, or the published code's stream of random numbers.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: A grid of images, an animation of the reveal, arrays (images, tokens, order, labels), or a PNG an image.
    """  # noqa: E501
    import torch

    from orderhead.body.load import load_body, with_tokenizer
    from orderhead.core.device import default_device
    from orderhead.sampling.export import progress, writer
    from orderhead.sampling.settings import Settings

    write = writer(out)
    if n < 1:
        raise ValueError(f"-n is the number of images, at least 1; got {n}")
    model = load_body(body).to(default_device())
    sampling.check([order])
    chosen = sampling.fields(body, model.config, order, preset)
    model.config = with_tokenizer(model.config, tokenizer)
    numbers = parse_labels(labels, model.config)
    settings = Settings(order, rng=rng, **chosen)
    settings.check(model)
    labels_N = torch.tensor([numbers[i % len(numbers)] for i in range(n)], device=model.device)
    with progress(settings, model, n) as seen:
        write(settings, seen, labels_N)
    print(_told(settings, n, model.grid.L))
    wrote(out)


def _told(settings: Settings, images: int, cells: int) -> str:
    """With what was sampled, presets and all."""
    counts = settings.counts(cells)
    listed = not isinstance(settings.schedule, str | None)
    sizes = f" of {', '.join(map(str, counts))} cells" if listed else ""
    guidance = "none" if settings.cfg_scale == 1 else f"{settings.cfg_scale:g} ({settings.cfg_schedule})"
    return (
        f"{images} images: {settings.order}, {len(counts)} steps{sizes}, {settings.denoise_steps} denoising steps "
        f"({settings.solver}), guidance {guidance}, seed {settings.seed}"
    )


def import_(checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]], *, out: str, ema: bool = True) -> None:
    """Turn a checkpoint of LTH14/mar (a body's checkpoint-last.pth, or kl16.ckpt) into a model folder.

    Code in the file's pickle is refused, never run; names and shapes are checked strictly. A thousand classes are given
    ImageNet's names.

    For example:
        orderhead import checkpoint-last.pth --out bodies/mar-base
        orderhead import kl16.ckpt --out tokenizers/kl16

    Args:
        checkpoint: The official file.
        out: Folder for config.json and model.safetensors.
        ema: Take the moving average of the weights (a body's).
    """
    from orderhead.body.official import import_checkpoint

    wrote(import_checkpoint(checkpoint, out, ema))


def train(
    recipe: Positional[Annotated[str, arg(metavar="RECIPE")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="FIELD=VALUE")]] = (),
    *,
    scale: Annotated[str, arg(metavar="smoke|mini|full")] = "mini",
    ground: OmitArgPrefixes[GroundOptions] = GroundOptions(),
    out: str = "runs/RECIPE-SCALE",
) -> None:
    """Train a model by its recipe. Running it again goes on from the last checkpoint.

    For example:
        orderhead train fashion-body --scale mini --out runs/body images=100000 base_lr=0.001
        orderhead train oracle_aligned --scale mini --out runs/head order_loss_weight=0.5
        orderhead train latent-classifier --scale full --body bodies/mar-base --tokenizer tokenizers/kl16 --train-images imagenet/train --out classifiers/imagenet
        orderhead train oracle_aligned --scale full --body bodies/mar-base --tokenizer tokenizers/kl16 --classifier classifiers/imagenet --train-images imagenet/train --out heads/aligned

    Args:
        recipe: A name from `orderhead list recipes`.
        overrides: Changes to the recipe's settings, for example images=100000.
        scale: Seconds, minutes, or hours.
        out: Folder for the model, checkpoints and logs.
    """  # noqa: E501
    from orderhead.training.recipes import run_recipe

    changes = [text.partition("=") for text in overrides]
    for name, equals, value in changes:
        if not (name and equals and value):
            raise ValueError(f"changes to a recipe are written FIELD=VALUE, got {name + equals + value!r}")
    out = out.replace("RECIPE-SCALE", f"{recipe}-{scale}")
    run_recipe(recipe, scale, out, {name: value for name, _, value in changes}, ground.given())
    wrote(out)

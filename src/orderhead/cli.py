"""The command `orderhead`: one plain function a verb.

Importing this module costs neither torch nor NumPy; each verb imports what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from orderhead import console
from orderhead.catalogue import KINDS
from orderhead.console import Float, Int, OptionalInt, number, show, wrote
from orderhead.core.names import unknown
from orderhead.options import (
    GroundOptions,
    JudgeOptions,
    JudgingOptions,
    Names,
    SamplingOptions,
    parse_labels,
    parse_seeds,
    split,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orderhead.studies.plan import Plan

# Verbs.


def demo(
    *,
    out: str = "out/demo",
    orders: Names = "default",
    images: OptionalInt = None,
    steps: OptionalInt = None,
    seed: Int = 0,
) -> None:
    """Compare the orders on the body that ships, and write one page about it.

    Running it again goes on where it stopped.

    For example:
        orderhead demo --out out/demo

    Args:
        out: Folder for results.jsonl, traces and report.html.
        orders: Names from `orderhead list orders`.
        images: Images an order, 100 where this is left out.
        steps: Unmasking steps, 16 where this is left out.
        seed: Every order starts from this seed's noise.
    """
    from orderhead.studies.compare import DEMO_ORDERS, LEARNED_ORDERS

    options = SamplingOptions(steps=steps, seed=seed)
    if orders == "default":
        orders = ",".join((*DEMO_ORDERS, *LEARNED_ORDERS))
    _compare("demo", out, "fashion", orders, images, options)


def compare(
    *,
    body: str = "fashion",
    orders: Names = "default",
    images: OptionalInt = None,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    judging: OmitArgPrefixes[JudgingOptions] = JudgingOptions(),
    tokenizer: str = "auto",
    out: str,
) -> None:
    """Compare orders on any body: results.jsonl, traces and one page with paired intervals.

    Running it again goes on where it stopped. The second example gives FID-5K: the real images are centre-cropped and
    resized as MAR's, their features are kept in ~/.cache/orderhead (or ORDERHEAD_CACHE).

    For example:
        orderhead compare --body fashion --orders random,raster,halton --images 500 --steps 8 --out out/compare
        orderhead compare --body bodies/mar-base --tokenizer tokenizers/kl16 --orders random,multiscale --images 5000 --real imagenet/val --features inception --weights pt_inception-2015-12-05-6726825d.pth --out out/mar

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        orders: Names from `orderhead list orders`.
        images: Images an order, 100 where this is left out.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: Folder for results.jsonl, traces and report.html.
    """  # noqa: E501
    _compare("compare", out, body, orders, images, sampling, judging.given(), tokenizer)


def _compare(
    study: str,
    out: str,
    body: str,
    orders: str,
    images: int | None,
    sampling: SamplingOptions,
    judging: Mapping[str, str] | None = None,
    tokenizer: str = "auto",
) -> None:
    from orderhead.body.load import body_config
    from orderhead.core import dist
    from orderhead.report import build
    from orderhead.studies.compare import DEMO_ORDERS
    from orderhead.studies.compare import compare as run

    given = {"orders": None if orders == "default" else split(orders), "images": images}
    sampling.check(given["orders"] or DEMO_ORDERS)
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = sampling.fields(body, body_config(body))
    run(out, body=body, study=study, judging=judging or {}, tokenizer=tokenizer, **chosen, **settings)
    if dist.rank() == 0:
        wrote(build(out))


def sample(
    *,
    body: str = "fashion",
    order: str = "random",
    labels: Annotated[str, arg(metavar="0,3|NAMES")] = "all",
    n: Annotated[int, number(int), arg(aliases=("-n",), name="images")] = 16,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    rng: Literal["paired", "official"] = "paired",
    tokenizer: str = "auto",
    out: Annotated[str, arg(metavar="FILE.png|.gif|.npz|DIR/")],
) -> None:
    """Sample images under an order.

    For example:
        orderhead sample --order multiscale --labels sandal,bag -n 16 --out out/sample.png
        orderhead sample --order halton --steps 8 --out out/reveal.gif
        orderhead sample --order learned --head fashion-aligned --rescore slow --out out/learned.png

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        order: A name from `orderhead list orders`.
        labels: Classes by number or name, -1 for none, taken in turn.
        n: How many images.
        rng: Noise of our own, or the published code's stream of random numbers.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: A grid of images, an animation of the reveal, arrays (images, tokens, order, labels), or a PNG an image.
    """
    import torch

    from orderhead.body.load import load_body, with_tokenizer
    from orderhead.core.device import default_device
    from orderhead.sampling.export import progress, writer
    from orderhead.sampling.sample import Settings

    write = writer(out)
    if n < 1:
        raise ValueError(f"-n is the number of images, at least 1; got {n}")
    model = load_body(body).to(default_device())
    sampling.check([order])
    preset = sampling.fields(body, model.config, order)
    model.config = with_tokenizer(model.config, tokenizer)
    numbers = parse_labels(labels, model.config)
    settings = Settings(order, rng=rng, **preset)
    settings.check(model)
    labels_N = torch.tensor([numbers[i % len(numbers)] for i in range(n)], device=model.device)
    with progress(settings, model, n):
        write(settings, model, labels_N)
    wrote(out)


def lint(
    *,
    order: str = "all",
    grid: Annotated[str, arg(metavar="ROWSxCOLUMNS")] = "16x16",
    steps: OptionalInt = None,
    cfg: Float = 2.9,
    json: bool = False,
) -> None:
    """Tell what an order does without any model: neighbours drawn together, context, guidance, entropy.

    For example:
        orderhead lint --order all --grid 16x16 --steps 64

    Columns:
        same_step_pairs     pairs of neighbours (the eight around a cell) drawn in one step, blind to each other
        visible_neighbours  neighbours that a cell sees when it is drawn, mean over cells
        mean_guidance       mean over cells of the linear guidance; a matter of the schedule, not of the order
        guidance_spread     how unevenly cells get it: standard deviation over cells of a cell's mean; 0 is even
        entropy_bits        how much a cell's step varies from image to image: -log2 of the chance that two agree

    Args:
        order: A name from `orderhead list orders`, several with commas between, or all.
        grid: The grid of cells.
        steps: Unmasking steps (orders of one token a step ignore it); 64, or one a cell, where this is left out.
        cfg: Guidance scale, which rises over the steps from 1 to this.
        json: Print JSON instead of a table.
    """
    from tqdm import tqdm

    from orderhead.core.grid import Grid
    from orderhead.core.names import lookup
    from orderhead.orders.lint import lint as report_on
    from orderhead.orders.spatial import SCHEDULE_OF, SPATIAL
    from orderhead.sampling.schedule import counts_of

    cells, legend = Grid.parse(grid), console.section(lint, "Columns")
    steps, names = min(64, cells.L) if steps is None else steps, SPATIAL if order == "all" else split(order)
    figures, rows = [line.split()[0] for line in legend.splitlines()], []
    for name in names:
        lookup("order", name, SPATIAL)
    for name in tqdm(names, desc="linting", unit="order", delay=2, leave=False):
        counts = counts_of(SCHEDULE_OF.get(name, "cosine"), steps, cells.L)
        found = report_on(SPATIAL[name], cells, counts, cfg_scale=cfg)
        rows.append({"order": name} | {figure: round(getattr(found, figure), 4) for figure in figures})
    show(rows, json)
    if not json:
        print(f"\n{legend}")


def import_(checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]], *, out: str, ema: bool = True) -> None:
    """Turn a checkpoint of LTH14/mar (a body's checkpoint-last.pth, or kl16.ckpt) into a model folder.

    Code in the file's pickle is refused, never run; names and shapes are checked strictly.

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


def study(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    *,
    scale: Annotated[str, arg(metavar="smoke|mini|full")] = "mini",
    only: Annotated[str, arg(metavar="ROW,...")] = "all",
    images: OptionalInt = None,
    seeds: Annotated[str, arg(metavar="0,1,...")] = "0",
    cfg_schedule: Literal["linear", "constant", "equalized"] = "linear",
    ground: OmitArgPrefixes[GroundOptions] = GroundOptions(),
    judging: OmitArgPrefixes[JudgeOptions] = JudgeOptions(),
    models: Annotated[str, arg(metavar="DIR")] = "OUT",
    out: str = "out/study-NAME",
) -> None:
    """Run a section of the study, or all: train its rows, measure them against random, write the page.

    Running it again goes on where it stopped; a row that is done is passed over. Several seeds (of heuristics and
    variants) are runs of their own, in OUT/seed-0, OUT/seed-1, ..., and a table of what they have in common. `all`
    tells what it will cost, runs every section in OUT/SECTION, and ends in a table of the document's claims: which hold
    here, which fail.

    For example:
        orderhead study variants --scale mini --out out/variants
        orderhead study variants --scale smoke --only oracle_aligned,oracle_unfrozen --out out/smoke
        orderhead study variants --cfg-schedule equalized --models out/variants --out out/equalized
        orderhead study heuristics --only multiscale,raster --images 200 --out out/heuristics
        orderhead study all --scale smoke --out out/all

    Args:
        name: A section from `orderhead list studies`, or all.
        scale: Seconds, an hour or two on two cores, or the document's own.
        only: Rows of the section; sections of all.
        images: Images a row.
        seeds: Of training and of noise.
        cfg_schedule: How guidance is spread over steps.
        models: Another run of the study, whose trained models are measured again.
        out: Folder for the trained models, results.jsonl and report.html.
    """
    from pathlib import Path

    from orderhead.core import dist
    from orderhead.core.names import lookup
    from orderhead.report import build
    from orderhead.studies import ALL, STUDIES, check_pooled, pool
    from orderhead.studies.plan import Plan

    numbers, out = parse_seeds(seeds), out.replace("NAME", name)
    if name != ALL:
        lookup("study", name, {**STUDIES, ALL: None})
    if len(numbers) > 1:
        check_pooled(name)
    rows = () if only == "all" else tuple(split(only))
    trained = None if models == "OUT" else Path(models)
    plan = Plan(
        Path(out), scale, rows, ground.given(), images, judging.given(), {"cfg_schedule": cfg_schedule}, trained
    )
    each = [plan.seeded(seed, alone=len(numbers) == 1) for seed in numbers]
    for one in each:
        folder = STUDIES[name](one) if name != ALL else _everything(one)
        if dist.rank() == 0:
            wrote(build(folder))
    if len(each) > 1:
        wrote(pool(name, Path(out), [one.out for one in each]))


def _everything(plan: Plan) -> Path:
    """The whole study, its cost told before and its claims after."""
    from orderhead.studies.everything import costs, everything, listing

    show(listing(costs(plan)), False)
    folder = everything(plan)
    print((folder / "findings.md").read_text(encoding="utf-8"))
    return folder


def diagnose(
    *,
    body: str = "fashion",
    order: Annotated[str, arg(metavar="A,B,...")],
    images: OptionalInt = None,
    sampling: OmitArgPrefixes[SamplingOptions] = SamplingOptions(),
    judging: OmitArgPrefixes[JudgeOptions] = JudgeOptions(),
    tokenizer: str = "auto",
    out: str,
) -> None:
    """Take an order's gap to random apart: guidance, cells drawn together, sameness, its own mistakes, mismatch.

    One thing is switched at a time, on common noise; bits of real images say the same without sampling. Running it
    again goes on where it stopped.

    For example:
        orderhead diagnose --order raster --out out/raster
        orderhead diagnose --order raster,learned_slow --images 1000 --out out/why

    Args:
        body: A shipped name, a folder (from `orderhead import` or `train`), or a hub id.
        order: One name from `orderhead list orders`, or several; their random runs are shared.
        images: Images a run, 400 where this is left out; there are seven runs an order, and three of random.
        tokenizer: What turns tokens into images: a name, a folder, or a hub id; auto is the body's.
        out: Folder for results.jsonl, samples and report.html.
    """
    from orderhead.body.load import body_config
    from orderhead.report import build
    from orderhead.studies.diagnose import diagnose as run

    chosen = {} if images is None else {"images": images}
    sampling.check(split(order))
    settings = sampling.fields(body, body_config(body))
    run(out, body=body, orders=split(order), judging=judging.given(), tokenizer=tokenizer, **chosen, **settings)
    wrote(build(out))


def bench(
    *,
    size: Annotated[str, arg(metavar="tiny|small|base|large|huge")] = "base",
    steps: Int = 64,
    denoise_steps: Int = 100,
    batch: Int = 1,
    rounds: Int = 3,
    threads: Int = 1,
    json: bool = False,
) -> None:
    """Measure what asking a head costs: seconds of fast, semifast-8 and slow over those of random, end to end.

    For example:
        orderhead bench --size base --rounds 3
        orderhead bench --size tiny --steps 16 --denoise-steps 25 --batch 16

    Args:
        size: The body's size; its weights are untrained.
        steps: Unmasking steps.
        denoise_steps: Denoising steps a token.
        batch: Images at once.
        rounds: Interleaved rounds; the ratio is their median.
        threads: Threads of the CPU.
        json: Print JSON instead of a table.
    """
    import torch

    from orderhead.studies.bench import Setting, rescoring

    if threads < 1:
        raise ValueError(f"threads is at least 1, got {threads}")
    torch.set_num_threads(threads)
    show(rescoring(Setting(size, steps, denoise_steps, batch), rounds), json)


def report(folder: Positional[Annotated[str, arg(metavar="DIR")]]) -> None:
    """Write DIR/report.html, one page that opens offline, from DIR/results.jsonl and its traces.

    For example:
        orderhead report out/demo

    Args:
        folder: What `orderhead demo` or `compare` wrote.
    """
    from orderhead.report import build

    wrote(build(folder))


def list_(
    kind: Positional[Annotated[str, arg(metavar="bodies|heads|orders|oracles|recipes|studies")]], *, json: bool = False
) -> None:
    """List what there is, with a line on each.

    For example:
        orderhead list orders
        orderhead list bodies --json

    Args:
        kind: What to list.
        json: Print JSON instead of a table.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    show([{"name": name, "summary": summary} for name, summary in KINDS[kind]()], json)


VERBS: dict[str, Callable[..., None]] = {
    "demo": demo, "compare": compare, "sample": sample, "lint": lint, "import": import_, "train": train,
    "study": study, "diagnose": diagnose, "bench": bench, "report": report, "list": list_,
}  # fmt: skip


ABOUT = """In which order should a masked autoregressive image model reveal its tokens, and why?

For example:
    orderhead demo --out out/demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input (told in one line), 130 for Ctrl-C."""
    return console.run(VERBS, ABOUT, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())

"""Verbs that tell something at once, and run no study: lint, bench, report, list."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from orderhead import console
from orderhead.catalogue import KINDS
from orderhead.console import Float, Int, OptionalInt, show, wrote
from orderhead.core.names import unknown
from orderhead.options import JudgeOptions, Names, parse_seeds, split


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
        order: A name from `orderhead list orders`, or names combined, as in shift(raster) (`orderhead list
            combinators`); several with commas between, or all.
        grid: The grid of cells.
        steps: Unmasking steps (orders of one token a step ignore it); 64, or one a cell, where this is left out.
        cfg: Guidance scale, which rises over the steps from 1 to this.
        json: Print JSON instead of a table.
    """
    from tqdm import tqdm

    from orderhead.core.grid import Grid
    from orderhead.orders.lint import lint as report_on
    from orderhead.orders.spatial import SCHEDULE_OF, SPATIAL
    from orderhead.orders.written import spatial_order
    from orderhead.sampling.schedule import counts_of

    cells, legend = Grid.parse(grid), console.section(lint, "Columns")
    steps, names = min(64, cells.L) if steps is None else steps, SPATIAL if order == "all" else split(order)
    figures, rows = [line.split()[0] for line in legend.splitlines()], []
    orders = {name: spatial_order(name) for name in names}
    for name, each in tqdm(orders.items(), desc="linting", unit="order", delay=2, leave=False):
        counts = counts_of(SCHEDULE_OF.get(name, "cosine"), steps, cells.L)
        found = report_on(each, cells, counts, cfg_scale=cfg)
        rows.append({"order": name} | {figure: round(getattr(found, figure), 4) for figure in figures})
    show(rows, json)
    if not json:
        print(f"\n{legend}")


def bench(
    *,
    size: Annotated[str, arg(metavar="tiny|small|base|large|huge")] = "base",
    body: str = "none",
    modes: Names = "heads",
    reference: Annotated[str, arg(metavar="PATH")] = "none",
    steps: Int = 64,
    denoise_steps: Int = 100,
    batch: Int = 1,
    dtype: Literal["float32", "bfloat16"] = "float32",
    rounds: Int = 3,
    threads: Int = 1,
    brief: bool = False,
    pareto: bool = False,
    images: OptionalInt = None,
    seeds: Annotated[str, arg(metavar="0,1,...")] = "0,1,2,3,4",
    judging: OmitArgPrefixes[JudgeOptions] = JudgeOptions(),
    out: str = "out/pareto",
    json: bool = False,
) -> None:
    """Measure what asking a head costs, what savings save, and the published code: seconds over those of random order.

    Modes fast, semifast-8 and slow ask a head once, eight times and at every step; null-2, full-2 and full-4 save by
    --null-every and --full-every; apart draws a batch's images in ten batches, as ten orders are sampled.

    With a reference: `error` is how far our tokens are from its, relative to their norm; `own_error` how far its tokens
    are from themselves where its sums are taken in another order; `flops` and `memory` (above the loaded model) are
    ours over its.

    With --pareto: how much of the work of one cell a step and 100 denoising steps do images of the same quality need?
    A page of orders, steps and solvers, each with its Frechet distance and its cost beside that.

    For example:
        orderhead bench --size base --rounds 3
        orderhead bench --pareto --images 100 --out out/pareto
        orderhead bench --body fashion --modes none --reference ~/mar --batch 16
        orderhead bench --size base --modes full-4 --rounds 1

    Args:
        size: The body's size; its weights are untrained.
        body: A trained body instead: a shipped name, a folder, or a hub id.
        modes: Of fast, semifast-8, slow (heads: these three), null-2, full-2, full-4, apart; or none.
        reference: A checkout of github.com/LTH14/mar, run as it is; without a GPU on the CPU.
        steps: Unmasking steps.
        denoise_steps: Denoising steps a token.
        batch: Images at once.
        dtype: Of the weights; the published code runs under autocast to it.
        rounds: Interleaved rounds; the ratio is their median.
        threads: Threads of the CPU.
        brief: Leave out memory and own_error, for which all runs again, slowly.
        pareto: Measure quality against cost instead, on a trained body (fashion where none is named).
        images: Images a point and seed, of --pareto; 200 where this is left out.
        seeds: Of noise, of --pareto; at least two.
        out: Folder for what --pareto measures and its page.
        json: Print JSON instead of a table.
    """
    _refuse_idle(pareto, locals())
    import torch

    from orderhead.studies.bench import ASKINGS, Setting, measure

    if threads < 1:
        raise ValueError(f"threads is at least 1, got {threads}")
    torch.set_num_threads(threads)
    if pareto:
        from orderhead.report import build
        from orderhead.studies import pareto as quality

        chosen = {"body": "fashion" if body == "none" else body, "images": quality.IMAGES if images is None else images}
        wrote(build(quality.pareto(Path(out), **chosen, seeds=parse_seeds(seeds), judging=judging.given())))
        return
    asked = {"heads": ASKINGS, "none": ()}.get(modes, split(modes))
    trained, checkout = ("" if given == "none" else given for given in (body, reference))
    setting = Setting(size, trained, steps, denoise_steps, batch, dtype=dtype)
    show(measure(setting, rounds, asked, checkout, brief), json)


TIMING = ("size", "modes", "reference", "steps", "denoise_steps", "batch", "dtype", "rounds", "brief", "json")
QUALITY = ("images", "seeds", "judging", "out")
"""Options of `bench` without and with --pareto; the rest are of both."""


def _refuse_idle(pareto: bool, given: Mapping[str, object]) -> None:
    """ValueError for an option that would be ignored."""
    usual = {name: parameter.default for name, parameter in inspect.signature(bench).parameters.items()}
    for name in (name for name in (TIMING if pareto else QUALITY) if given[name] != usual[name]):
        option = "--real, --features or --weights" if name == "judging" else f"--{name.replace('_', '-')}"
        told = "is of timing and changes nothing with" if pareto else "changes nothing without"
        raise ValueError(f"{option} {told} --pareto; leave one of them out")


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
    kind: Positional[Annotated[str, arg(metavar="bodies|heads|orders|combinators|oracles|recipes|studies")]],
    *,
    json: bool = False,
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

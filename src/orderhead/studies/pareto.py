"""Quality against cost: how much of the work of one cell a step and 100 denoising steps do the same images need?

Every point is an order, a number of unmasking steps and of denoising steps, and a solver. Its Frechet distance is
compared with that of the reference (random order, the published settings) on the same noise; its cost is in FLOPs
(`sampling.flops`) and in seconds, both over the reference's, the seconds of runs that go forward together.

OUT/seed-S/ (a comparison each: samples -> results.jsonl -> report.html), OUT/cost.json -> OUT/pareto.json and
OUT/table.md. Run again, it goes on where it stopped.

Legend: L cells, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from orderhead.body.load import load_body
from orderhead.body.mar import MAR
from orderhead.body.watched import watched
from orderhead.core.device import default_device
from orderhead.core.files import read_json, write_json, write_text
from orderhead.sampling import flops
from orderhead.sampling.presets import filled
from orderhead.sampling.sample import Settings, run
from orderhead.sampling.schedule import Denoise
from orderhead.studies.beside import Difference, differences
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.seeds import pooled
from orderhead.studies.turns import Pause, Run, together
from orderhead.studies.worlds import LEAST_IMAGES, World

OWN = ("steps", "denoise_steps", "solver")  # what a point has for itself, beside its order
TIMED_IMAGES = 16
IMAGES = 200  # a point and seed


@dataclass(frozen=True)
class Point:
    """`cells`: how many are revealed in a step, in the mean; the cosine schedule spreads them."""

    order: str
    cells: int
    denoise_steps: Denoise
    solver: str = "ancestral"

    def settings(self, base: Settings, L: int) -> Settings:
        steps = max(1, L // self.cells)
        return replace(base, order=self.order, steps=steps, denoise_steps=self.denoise_steps, solver=self.solver)

    def name(self, L: int) -> str:
        end = "" if self.solver == "ancestral" else f"-{self.solver}"
        return f"{self.order}-{max(1, L // self.cells)}x{self.denoise_steps}{end}"


REFERENCE = Point("random", 1, 100)

POINTS: Sequence[Point] = (
    Point("random", 4, 100),
    Point("random", 4, 25),
    Point("random", 4, "25:5"),
    Point("random", 4, 10, "dpm"),
    Point("random", 8, 25),
    Point("random", 8, "25:5"),
    Point("random", 8, 10, "dpm"),
    Point("halton", 4, 25),
    Point("halton", 8, 25),
    Point("halton", 8, "25:5"),
)
"""What is tried; another one is another line. `4` cells a step is the study's own number of steps (64 for 256)."""


def pareto(
    out: Path,
    body: str = "fashion",
    images: int = IMAGES,
    seeds: Sequence[int] = tuple(range(5)),
    judging: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Measure every point under every seed, `images` images each, into `out`. `judging` as for `compare`.

    ValueError for an unknown body, sources that do not fit it, too few images, and fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"the interval is over seeds; give at least two, got {list(seeds)}")
    if images < LEAST_IMAGES:
        raise ValueError(f"a comparison takes at least {LEAST_IMAGES} images a point, got {images}")
    model = load_body(body).to(default_device()).requires_grad_(False)
    world = replace(World.of(model.config, judging), classifier=None)  # nobody watches partial images
    runs = [_comparison(out / f"seed-{seed}", model, body, images, seed, world, judging) for seed in seeds]
    for each in runs:
        execute(replace(each, command=_command(body, images, seeds)))
    by_seed = [differences(each.out) for each in runs]
    gaps = pooled({name: [found[name][0] for found in by_seed] for name in by_seed[0]})
    costs = _costs(out / "cost.json", runs[0])
    lines = [_line(name, gap, costs[name]) for name, gap in gaps.items()]
    write_json(out / "pareto.json", {"seeds": list(seeds), "images": images, "points": lines})
    write_text(out / "table.md", table(lines, len(seeds), images))
    return out


def _comparison(
    out: Path, body: MAR, name: str, images: int, seed: int, world: World, judging: Mapping[str, str]
) -> Comparison:
    """One seed's: every point against the reference, which is the run's random order."""
    L = body.grid.L
    base = Settings(**filled(body.config, L, {}), seed=seed)
    reference = REFERENCE.settings(base, L)
    arms = {BASELINE: reference} | {point.name(L): point.settings(base, L) for point in POINTS}
    each = {arm: Arm(settings) for arm, settings in arms.items()}
    return Comparison(out, "pareto", name, body, each, images, reference, world, given=judging, own=OWN)


def _command(body: str, images: int, seeds: Sequence[int]) -> str:
    numbers = ",".join(map(str, seeds))
    return f"orderhead bench --pareto --body {body} --images {images} --seeds {numbers} --out pareto"


def _line(name: str, gap: Difference, cost: Mapping[str, float]) -> dict[str, Any]:
    """A point's record. It is matched unless the whole interval lies above the reference."""
    value, ci = gap
    return {"point": name, "fd_minus_reference": value, "ci": ci, "matched": ci is not None and ci[0] <= 0, **cost}


def _costs(path: Path, run: Comparison) -> dict[str, dict[str, float]]:
    """Each arm's FLOPs and seconds over the reference's; timed once, and kept."""
    arms = {name: arm.settings for name, arm in run.arms.items()}
    names = {name: str(settings.denoise_steps) for name, settings in arms.items()}
    if path.is_file() and (kept := read_json(path)).get("arms") == names:
        return kept["costs"]
    spent, work = _seconds(run.body, arms), {name: _flops(run.body, settings) for name, settings in arms.items()}
    costs = {name: {"flops": work[name] / work[BASELINE], "seconds": spent[name] / spent[BASELINE]} for name in arms}
    write_json(path, {"arms": names, "images": TIMED_IMAGES, "costs": costs})
    return costs


def _flops(body: MAR, settings: Settings) -> int:
    """Of one guided image; a solver that takes fewer denoising steps than it may is counted as if it took all."""
    return flops.sampled(body.config, settings.counts(body.grid.L), settings.denoise_steps, settings.cfg_scale != 1)


def _seconds(body: MAR, arms: Mapping[str, Settings]) -> Mapping[str, float]:
    """Of the same images under every arm, all going forward together."""
    index = torch.arange(TIMED_IMAGES)
    labels = (index % body.config.classes).to(body.device)

    def timed(settings: Settings) -> Run:
        def sampled(pause: Pause) -> Tensor:
            return run(settings, watched(body, pause), labels, index).tokens_BLC

        return sampled

    return together({name: timed(settings) for name, settings in arms.items()}, body.device).seconds


def table(lines: Sequence[Mapping[str, Any]], seeds: int, images: int) -> str:
    """Markdown, the cheapest point last."""
    rows = [_row(line) for line in sorted(lines, key=lambda line: -line["flops"])]
    head = [
        f"Frechet distance minus the reference's (random order, one cell a step, {REFERENCE.denoise_steps} denoising "
        f"steps): mean over {seeds} seeds of {images} images each, with its 95 % interval. Costs are over its.",
        "",
        "| point | FD minus the reference's | | matched | FLOPs | seconds |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, "", NOTE, ""])


NOTE = (
    "order-STEPSxDENOISING; 25:5 is from 25 denoising steps at the first unmasking step to 5 at the last. matched: the "
    "interval contains 0 or lies below. Seconds are of one batch, all points going forward in turn."
)


def _row(line: Mapping[str, Any]) -> str:
    lo, hi = line["ci"]
    return (
        f"| {line['point']} | {line['fd_minus_reference']:+.2f} | [{lo:.2f}, {hi:.2f}] | "
        f"{'yes' if line['matched'] else 'no'} | 1/{1 / line['flops']:.1f} | 1/{1 / line['seconds']:.1f} |"
    )

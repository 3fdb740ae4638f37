"""Quality against cost: how much of the work of one cell a step and 100 denoising steps do the same images need?

Every point is an order, a number of unmasking steps and how cells are spread over them, a number of denoising steps, a
solver, and how often guidance's second half is computed. Its Frechet distance is compared with that of the reference
(random order, the published settings) on the same noise; its cost is in FLOPs (`sampling.flops`) and in seconds, both
over the reference's, the seconds of runs that go forward together.

OUT/curve/ (the body's information curve, on the real images: no distance is looked at), OUT/seed-S/ (a comparison each:
samples -> results.jsonl -> report.html), OUT/seconds.json -> OUT/pareto.json and OUT/table.md. Run again, it goes on
where it stopped.

Legend: L cells, S seeds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderhead.body.load import load_body
from orderhead.body.mar import MAR
from orderhead.core import dist
from orderhead.core.device import default_device
from orderhead.core.files import read_json, write_json, write_text
from orderhead.metrics.intervals import single
from orderhead.metrics.statistic import Statistic
from orderhead.sampling import flops
from orderhead.sampling.information import informed
from orderhead.sampling.presets import filled
from orderhead.sampling.settings import EXACT, Settings
from orderhead.studies.beside import Difference, differences
from orderhead.studies.compare import BASELINE, Arm, Comparison, execute
from orderhead.studies.information import curves
from orderhead.studies.seeds import pooled
from orderhead.studies.turns import Pause, alternate, sampled
from orderhead.studies.worlds import LEAST_IMAGES, World

OWN = ("steps", "denoise_steps", "solver", "schedule", *EXACT)  # what a point has for itself, beside its order
TIMED_IMAGES = 8
CURVE_IMAGES = 200
IMAGES = 200  # a point and seed


@dataclass(frozen=True)
class Point:
    """`cells`: how many are revealed in a step, in the mean; `informed` spreads them by the body's information curve
    (`sampling.information`), else the cosine schedule does."""

    order: str
    cells: int
    denoise_steps: int | str
    solver: str = "ancestral"
    informed: bool = False
    null_every: int = 1
    full_every: int = 1
    denoise_by: str = "even"

    def settings(self, base: Settings, L: int, curve_L: np.ndarray | None) -> Settings:
        """`curve_L`: the body's information curve, which an informed point needs."""
        steps, schedule = self._steps(L), None
        if self.informed:
            assert curve_L is not None
            schedule = informed(curve_L, steps)
        return replace(
            base, order=self.order, steps=steps, denoise_steps=self.denoise_steps, solver=self.solver,
            schedule=schedule, **{name: getattr(self, name) for name in EXACT},
        )  # fmt: skip

    def name(self, L: int) -> str:
        denoise = str(self.denoise_steps).replace(":", "to")
        ends = {
            self.solver: self.solver != "ancestral",
            "informed": self.informed,
            f"null{self.null_every}": self.null_every > 1,
            f"full{self.full_every}": self.full_every > 1,
            self.denoise_by: self.denoise_by != "even",
        }
        return "-".join([self.order, f"{self._steps(L)}x{denoise}", *(end for end, holds in ends.items() if holds)])

    def _steps(self, L: int) -> int:
        return max(1, L // self.cells)


REFERENCE, FAST = Point("random", 1, 100), "preset-fast"

POINTS: Sequence[Point] = (
    Point("random", 4, 100),
    Point("random", 4, 25),
    Point("random", 4, 10, "dpm"),
    Point("random", 4, 10, "dpm", informed=True),
    Point("random", 8, "25:5"),
    Point("random", 8, 10, "dpm"),
    Point("halton", 8, 10, "dpm"),
    Point("random", 8, 10, "dpm", informed=True),
    Point("random", 8, 10, "dpm", informed=True, null_every=2),
    Point("random", 8, 10, "dpm", informed=True, full_every=3),
    Point("random", 4, 10, "dpm", informed=True, full_every=4),
    Point("random", 8, 10, "dpm", informed=True, denoise_by="pull"),
    Point("random", 8, 10, "dpm", informed=True, denoise_by="contrast"),
    Point("random", 8, 6, "dpm", informed=True),
    Point("random", 10, 10, "dpm", informed=True),
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
    if dist.world_size() > 1:
        raise ValueError("this runs in one process; start it without torchrun")
    model = load_body(body).to(default_device()).requires_grad_(False)
    world = replace(World.of(model.config, judging), classifier=None)  # nobody watches partial images
    curve_L = None
    if world.labels_M is not None:  # without classes nobody knows what an image costs: no informed points
        curve_L = curves(out / "curve", model, world.real, min(CURVE_IMAGES, len(world.real))).mean(0)
    runs = [_comparison(out / f"seed-{seed}", model, body, images, seed, world, judging, curve_L) for seed in seeds]
    for each in runs:
        execute(replace(each, command=_command(body, images, seeds, judging)))
    by_seed = [differences(each.out) for each in runs]
    values = {name: [found[name][0] for found in by_seed] for name in runs[0].arms if name != BASELINE}
    gaps = pooled(values)
    work, spent = _flops(runs[0]), _seconds(out / "seconds.json", runs[0])
    lines = [_line(name, gap, work[name], spent[name]) for name, gap in gaps.items()]
    write_json(out / "pareto.json", {"seeds": list(seeds), "images": images, "points": lines})
    write_text(out / "table.md", "\n".join([table(lines, len(seeds), images), *_twins(values, model.grid.L)]))
    return out


def _twins(values: Mapping[str, Sequence[float]], L: int) -> list[str]:
    """Points minus those that differ in one option alone, seed by seed; where there are several, their mean too."""
    said = []
    for option, usual in {"informed": False, **EXACT}.items():
        pairs = [(p.name(L), replace(p, **{option: usual}).name(L)) for p in POINTS if getattr(p, option) != usual]
        both = [(name, twin) for name, twin in pairs if name in values and twin in values]
        gaps = {f"{name} minus {twin}": np.array(values[name]) - np.array(values[twin]) for name, twin in both}
        said += [f"- {text}: {_mean(gap)}" for text, gap in gaps.items()]
        if len(gaps) > 1:
            said.append(f"- {option}, mean of these: {_mean(np.mean(list(gaps.values()), axis=0))}")
    return [*said, ""]


def _mean(values_S: np.ndarray) -> str:
    found = single(Statistic.mean(values_S))
    return f"{found.value:+.2f} [{found.lo:.2f}, {found.hi:.2f}]"


def _comparison(
    out: Path,
    body: MAR,
    name: str,
    images: int,
    seed: int,
    world: World,
    judging: Mapping[str, str],
    curve_L: np.ndarray | None,
) -> Comparison:
    """One seed's: every point and the preset fast against the reference, which is the run's random order."""
    L = body.grid.L
    base, fast = (
        replace(Settings(**filled(body.config, L, {}, "random", each)), seed=seed) for each in ("own", "fast")
    )
    reference = REFERENCE.settings(base, L, curve_L)
    points = [point for point in POINTS if curve_L is not None or not point.informed]
    arms = {BASELINE: reference} | {point.name(L): point.settings(base, L, curve_L) for point in points}
    arms |= {FAST: fast}
    each = {arm: Arm(settings) for arm, settings in arms.items()}
    return Comparison(out, "pareto", name, body, each, images, reference, world, given=judging, own=OWN)


def _command(body: str, images: int, seeds: Sequence[int], judging: Mapping[str, str]) -> str:
    words = ["orderhead", "bench", "--pareto", "--body", body, "--images", str(images)]
    words += ["--seeds", ",".join(map(str, seeds)), *(word for k, v in judging.items() for word in (f"--{k}", v))]
    return shlex.join([*words, "--out", "pareto"])


def _line(name: str, gap: Difference, work: float, spent: float) -> dict[str, Any]:
    """A point's record. It is matched unless the whole interval lies above the reference."""
    value, ci = gap
    assert ci is not None
    return {
        "point": name, "fd_minus_reference": value, "ci": ci, "matched": ci[0] <= 0, "flops": work, "seconds": spent
    }  # fmt: skip


def _flops(run: Comparison) -> dict[str, float]:
    """Of one image under each arm, over the reference's."""
    work = {name: flops.sampled(run.body.config, arm.settings) for name, arm in run.arms.items()}
    return {name: each / work[BASELINE] for name, each in work.items()}


def _seconds(path: Path, run: Comparison) -> dict[str, float]:
    """The same of seconds, measured once for these arms on this body and machine, and kept in `path`."""
    arms = {name: run.identity(name) for name in run.arms}
    what = {
        "weights": run.protocol["weights"], "cfg_scale": run.settings.cfg_scale, "arms": arms, "images": TIMED_IMAGES,
        "threads": torch.get_num_threads(), "device": run.body.device.type,
    }  # fmt: skip
    what = json.loads(json.dumps(what))  # as it will be read back: tuples are lists
    if path.is_file() and (kept := read_json(path)).get("what") == what:
        return kept["seconds"]
    spent = _timed(run.body, {name: arm.settings for name, arm in run.arms.items()})
    seconds = {name: each / spent[BASELINE] for name, each in spent.items()}
    write_json(path, {"what": what, "seconds": seconds})
    return seconds


def _timed(body: MAR, arms: Mapping[str, Settings]) -> dict[str, float]:
    """Seconds of the same images under every arm, all going forward together after one short run each.

    A run of few steps begins again until the longest is through, so that nobody is ever alone on the machine.
    """
    steps = {name: len(settings.counts(body.grid.L)) for name, settings in arms.items()}
    times = {name: max(steps.values()) // own for name, own in steps.items()}

    def again(name: str, pause: Pause) -> Tensor:
        return [sampled(arms[name], body, TIMED_IMAGES, pause) for _ in range(times[name])][-1]

    for settings in arms.values():  # what is done but once is not to be counted
        sampled(replace(settings, steps=1, schedule=None, denoise_steps=1), body, 1, lambda: None)
    spent = alternate({name: partial(again, name) for name in arms}, body.device).seconds
    return {name: each / times[name] for name, each in spent.items()}


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
    "order-STEPSxDENOISING; 25to5 is from 25 denoising steps at the first unmasking step to 5 at the last; informed: "
    "cells a step by the body's information curve; null2: guidance's second half at every other step; full3: all cells "
    "at every third step; pull, contrast: how a step's denoising steps are shared out; preset-fast: what --preset fast "
    "gives. matched: "
    "the interval contains 0 or lies below, which few images do easily: its upper end says what may be lost. Seconds "
    "are of one batch, all points going forward in turn."
)


def _row(line: Mapping[str, Any]) -> str:
    lo, hi = line["ci"]
    return (
        f"| {line['point']} | {line['fd_minus_reference']:+.2f} | [{lo:.2f}, {hi:.2f}] | "
        f"{'yes' if line['matched'] else 'no'} | 1/{1 / line['flops']:.1f} | 1/{1 / line['seconds']:.1f} |"
    )

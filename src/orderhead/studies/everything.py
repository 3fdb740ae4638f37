"""The whole study: each section in a folder of its own, its cost told beforehand, and what became of every claim."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from orderhead.core import dist
from orderhead.core.files import write_json
from orderhead.core.names import lookup
from orderhead.sampling import stream
from orderhead.sampling.sample import run as sampled
from orderhead.studies import NAMES, STUDIES, findings, finetuning, heuristics, mismatch, scratch
from orderhead.studies.ablations import HEAD, INJECTED, MOST, ORDERS
from orderhead.studies.causes import ARMS
from orderhead.studies.epochs import LOOK_IMAGES
from orderhead.studies.plan import SCALES, Plan
from orderhead.studies.rounds import baseline
from orderhead.training.alternatives import ALTERNATIVES
from orderhead.training.heads import HeadRecipe, scales
from orderhead.training.variants import HEAD_RECIPES, VARIANTS

PILOT_IMAGES = 16
TRAINED = {True: 0.1, False: 0.25}  # seconds of a trained image over those of a sampled one; is the body frozen?


def everything(plan: Plan) -> Path:
    """Run every section, or those that `only` names, and write `findings.md` after each.

    ValueError for an unknown section, and as the sections have it.
    """
    chosen = plan.only or tuple(NAMES)
    for name in chosen:
        lookup("section", name, STUDIES)
    if dist.rank() == 0:
        write_json(plan.out / "contents.json", {name: said for name, said in NAMES.items() if name in chosen})
    for name in chosen:
        STUDIES[name](replace(plan, out=plan.out / name, only=()))
        if dist.rank() == 0:
            findings.write(plan.out)
    return plan.out


@dataclass(frozen=True)
class Cost:
    """What a row takes: images trained on, images sampled at the run's steps, and about how many minutes here."""

    section: str
    row: str
    trained: int
    sampled: int
    minutes: float = 0.0


def costs(plan: Plan) -> list[Cost]:
    """Every row's cost, from a pilot of PILOT_IMAGES images: a rough guess, told before hours are spent.

    Orders of one cell a step count as four times the images of others; training by the ratios of `TRAINED`, which were
    measured on the body that ships.
    """
    n = SCALES[plan.scale].images if plan.images is None else plan.images
    second = _seconds_an_image(plan)
    rows = [cost for name in plan.only or tuple(NAMES) for cost in COSTS[name](name, plan.scale, n)]
    return [replace(cost, minutes=round(second * (cost.sampled + _training(cost)) / 60, 1)) for cost in rows]


def _training(cost: Cost) -> float:
    row = HEAD_RECIPES.get(cost.row)
    return cost.trained * TRAINED[row is not None and row.body_mode == "frozen"]


def _seconds_an_image(plan: Plan) -> float:
    """Of random order, in one batch, after one that is not counted."""
    run = baseline(replace(plan, out=plan.out / "pilot"), "pilot", {})
    index = torch.arange(PILOT_IMAGES)
    labels = stream.labels_of(index, run.body.config.classes).to(run.body.device)
    sampled(run.settings, run.body, labels[:2], index[:2])
    started = time.perf_counter()
    sampled(run.settings, run.body, labels, index)
    return (time.perf_counter() - started) / PILOT_IMAGES


def _heads(rows: Mapping[str, HeadRecipe], looks: Callable[[str], int] = lambda row: 0, random: bool = False):
    """Costs of rows that are trained, sampled in their modes (and under random order), and looked at meanwhile."""

    def listed(section: str, scale: str, n: int) -> Iterator[Cost]:
        for name, row in rows.items():
            images = n * (len(row.modes) + random) + looks(name) * LOOK_IMAGES[scale]
            yield Cost(section, name, scales(row)[SCALES[scale].recipe].images, images)

    return listed


def _plain(section: str, scale: str, n: int) -> Iterator[Cost]:
    for name in (heuristics.BASELINE, *heuristics.ROWS):
        yield Cost(section, name, 0, n * (len(heuristics.SETTINGS) + 5) + n * len(heuristics.TUNING_SHARES) // 4)


def _ablations(section: str, scale: str, n: int) -> Iterator[Cost]:
    n = min(n, MOST)
    yield Cost(section, HEAD, scales(HEAD_RECIPES[HEAD])[SCALES[scale].recipe].images, 0)
    for name in ORDERS:
        yield Cost(section, name, 0, n * (4 if name.startswith("ar_") else 1) + n * (name in INJECTED))


def _mismatch(section: str, scale: str, n: int) -> Iterator[Cost]:
    for name in mismatch.ORDERS:
        yield Cost(section, name, 0, min(n, mismatch.MOST) * (len(ARMS) - 3 + 3 * 2))


COSTS: Mapping[str, Callable[[str, str, int], Iterator[Cost]]] = {
    "heuristics": _plain,
    "variants": _heads(VARIANTS),
    "ablations": _ablations,
    "alternatives": _heads({HEAD: HEAD_RECIPES[HEAD], **ALTERNATIVES}),
    "finetuning": _heads(finetuning.ROWS, lambda name: finetuning.ROWS[name].epochs, random=True),
    "scratch": _heads(scratch.ROWS, lambda name: scratch.LOOKS, random=True),
    "mismatch": _mismatch,
}
"""Section -> its rows' costs, from the name of the scale and the images a row."""


def told(found: Sequence[Cost]) -> list[dict[str, object]]:
    """As the command shows them, the sum last."""
    rows: list[dict[str, object]] = [
        {"section": c.section, "row": c.row, "trained": c.trained, "sampled": c.sampled, "minutes": c.minutes}
        for c in found
    ]
    total = {"trained": sum(c.trained for c in found), "sampled": sum(c.sampled for c in found)}
    return [*rows, {"section": "all", "row": "", **total, "minutes": round(sum(c.minutes for c in found), 1)}]

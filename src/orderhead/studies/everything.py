"""The whole study: each section in a folder of its own, its cost told beforehand, and what became of every claim."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from orderhead.core import dist
from orderhead.core.files import copy_missing, write_json
from orderhead.core.names import lookup
from orderhead.core.text import aligned
from orderhead.sampling import stream
from orderhead.sampling.sample import run as sampled
from orderhead.studies import SECTIONS, STUDIES, findings, finetuning, heuristics, mismatch, scratch
from orderhead.studies.ablations import HEAD, INJECTED, MOST, ORDERS
from orderhead.studies.causes import ARMS
from orderhead.studies.epochs import LOOK_IMAGES
from orderhead.studies.plan import SCALES, Plan
from orderhead.studies.real import check_real
from orderhead.studies.rounds import baseline
from orderhead.training.alternatives import ALTERNATIVES
from orderhead.training.heads import HeadRecipe, scales
from orderhead.training.scratch import PLAIN
from orderhead.training.variants import HEAD_RECIPES, VARIANTS

SHARING = ("variants", "ablations", "alternatives", "mismatch")  # sections that need the same head
PILOT_IMAGES = 16
HEAD_IMAGE, BODY_IMAGE = 0.1, 0.25  # seconds of an image in training, of a head or a body, over a sampled one's


def announced(plan: Plan) -> Path:
    """`everything`, its cost printed before and what became of the claims after."""
    print(aligned(listing(costs(plan))), flush=True)
    print((everything(plan) / "findings.md").read_text(encoding="utf-8"))
    return plan.out


def everything(plan: Plan) -> Path:
    """Run every section, or those that `only` names, and write `findings.md` after each. ValueError as for `check`."""
    check(plan)
    write_json(plan.out / "contents.json", SECTIONS)
    for name in plan.only or SECTIONS:
        _lend(plan.out, name)
        STUDIES[name](replace(plan, out=plan.out / name, only=()))
        findings.write(plan.out)
    return plan.out


def check(plan: Plan) -> None:
    """ValueError, before anything is computed, for whatever would stop a section hours later."""
    lookup("scale", plan.scale, SCALES)
    for name in plan.only:
        lookup("section", name, SECTIONS)
    if plan.models or plan.settings.get("cfg_schedule", "linear") != "linear":
        raise ValueError("the whole study trains its own models, under linear guidance; leave out --models and "
                         "--cfg-schedule, or run one section")  # fmt: skip
    if dist.world_size() > 1:
        raise ValueError("the whole study runs in one process; start it without torchrun, or run one section")
    run = baseline(plan, "all", {})
    if run.world.classifier is None:
        raise ValueError("the study asks a classifier of partial images; give --classifier")
    check_real(run.world, 2 * min(run.images, MOST))


def _lend(out: Path, section: str) -> None:
    """Copy the head that several sections need from one that has trained it, so that it is trained once."""
    trained = [folder for folder in sorted(out.glob(f"*/heads/{HEAD}")) if (folder / "model.safetensors").is_file()]
    if section in SHARING and trained:
        copy_missing(trained[0], out / section / "heads" / HEAD)


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

    Orders of one cell a step count LONG times, training by the ratios of `TRAINED` (both from the body that ships).
    What oracles and likelihoods cost is left out. ValueError as for `check`.
    """
    check(plan)
    n = SCALES[plan.scale].images if plan.images is None else plan.images
    second = _seconds_an_image(plan)
    rows = [cost for name in plan.only or tuple(SECTIONS) for cost in COSTS[name](name, plan.scale, n)]
    return [replace(cost, minutes=round(second * (cost.sampled + _training(cost)) / 60, 1)) for cost in rows]


def _training(cost: Cost) -> float:
    row = HEAD_RECIPES.get(cost.row)
    return cost.trained * (HEAD_IMAGE if row is not None and row.body_mode == "frozen" else BODY_IMAGE)


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


LONG = 4  # a run of one cell a step, over one at the scale's steps


def _orders(section: str, scale: str, n: int) -> Iterator[Cost]:
    """One run under each setting, the last of them long, and the trials for tuning; `ar_*` are always long."""
    runs = len(heuristics.SETTINGS) - 1 + LONG
    trials = len(heuristics.TUNING_SHARES) / heuristics.TUNING_PART
    for name in heuristics.ROWS:
        times = LONG * (len(heuristics.SETTINGS) + trials) if name.startswith("ar_") else runs + trials
        yield Cost(section, name, 0, round(n * times))


def _ablations(section: str, scale: str, n: int) -> Iterator[Cost]:
    n = min(n, MOST)
    yield Cost(section, HEAD, scales(HEAD_RECIPES[HEAD])[SCALES[scale].recipe].images, 0)
    for name in ORDERS:
        yield Cost(section, name, 0, n * (LONG if name.startswith("ar_") else 1) + n * (name in INJECTED))


def _from_scratch(section: str, scale: str, n: int) -> Iterator[Cost]:
    for name, row in PLAIN.items():
        yield Cost(section, name, row.scales[SCALES[scale].recipe].images, n)
    yield from _heads(scratch.ROWS, lambda name: scratch.LOOKS, random=True)(section, scale, n)


def _mismatch(section: str, scale: str, n: int) -> Iterator[Cost]:
    """Every arm of an order, two of them at one cell a step; random's arms are shared, and counted with the first."""
    shared = [name for name, arm in ARMS.items() if arm.random]
    for k, name in enumerate(mismatch.ORDERS):
        runs = len(ARMS) - len(shared) + 2 * (LONG - 1) + (0 if k else len(shared) + LONG - 1)
        yield Cost(section, name, 0, min(n, mismatch.MOST) * runs)


COSTS: Mapping[str, Callable[[str, str, int], Iterator[Cost]]] = {
    "heuristics": _orders,
    "variants": _heads(VARIANTS),
    "ablations": _ablations,
    "alternatives": _heads({HEAD: HEAD_RECIPES[HEAD], **ALTERNATIVES}),
    "finetuning": _heads(finetuning.ROWS, lambda name: finetuning.ROWS[name].epochs, random=True),
    "scratch": _from_scratch,
    "mismatch": _mismatch,
}
"""Section -> its rows' costs, from the name of the scale and the images a row."""


def listing(found: Sequence[Cost]) -> list[dict[str, object]]:
    """As the command shows them, the sum last."""
    rows: list[dict[str, object]] = [
        {"section": c.section, "row": c.row, "trained": c.trained, "sampled": c.sampled, "minutes": c.minutes}
        for c in found
    ]
    total = {"trained": sum(c.trained for c in found), "sampled": sum(c.sampled for c in found)}
    return [*rows, {"section": "all", "row": "", **total, "minutes": round(sum(c.minutes for c in found), 1)}]

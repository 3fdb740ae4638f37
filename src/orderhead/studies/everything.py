"""The whole study: each section in a folder of its own, its cost told beforehand, and what became of every claim."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from orderhead.core import dist
from orderhead.core.files import copy_missing, write_json
from orderhead.core.names import lookup
from orderhead.core.text import aligned
from orderhead.sampling import stream
from orderhead.sampling.sample import run as sampled
from orderhead.studies import SECTIONS, STUDIES, findings, finetuning, heuristics, mismatch, scratch
from orderhead.studies.ablations import FIXED, HEAD, INJECTED, MOST, ORDERS
from orderhead.studies.causes import ARMS
from orderhead.studies.diagnose import BITS_IMAGES
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

# Seconds that an image takes over those of a sampled one, measured on one core with the body that ships.
HEAD_IMAGE, BODY_IMAGE = 0.1, 0.25  # in training, of a head or a body; an oracle that asks a few questions is in it
ANSWER: Mapping[str, float] = {
    "cls_k_random": 0.06, "entropy": 0.26, "reconstruction": 2.4, "predictability": 0.56, "future_gain": 2.2,
    "slow": 0.28,
}  # fmt: skip
"""A training image's answer, of the oracles that ask more than a few questions; `slow`: a teacher's ranking."""
IMPORTANCE = 2 * (2.7 + 0.24)  # ablation 1's: the marginal oracle and cls_k_random with many draws, each twice
LIKELIHOOD = (0.85, 2.6)  # of a real image: at the run's steps, and at one cell a step


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
    """What a row takes: images trained on, images sampled at the run's steps, and about how many minutes here.

    `asked`: what oracles and likelihoods take beside, as images that could be sampled in that time.
    """

    section: str
    row: str
    trained: int
    sampled: int
    asked: int = 0
    minutes: float = 0.0


def costs(plan: Plan) -> list[Cost]:
    """Every row's cost, from a pilot of PILOT_IMAGES images: a rough guess, told before hours are spent.

    Orders of one cell a step count LONG times; training, oracles and likelihoods by the ratios at the top of this file.
    What judges and pictures take is left out. ValueError as for `check`.
    """
    check(plan)
    n = SCALES[plan.scale].images if plan.images is None else plan.images
    second = _seconds_an_image(plan)
    rows = [cost for name in plan.only or tuple(SECTIONS) for cost in COSTS[name](name, plan.scale, n)]
    return [
        replace(cost, minutes=round(second * (cost.sampled + cost.asked + _training(cost)) / 60, 1))
        for cost in _lent(rows)
    ]


def _lent(rows: Sequence[Cost]) -> list[Cost]:
    """The same with the head that several sections share trained in the first of them only."""
    first = next((k for k, cost in enumerate(rows) if cost.row == HEAD), None)
    return [replace(c, trained=0) if c.row == HEAD and k != first else c for k, c in enumerate(rows)]


def _training(cost: Cost) -> float:
    row = HEAD_RECIPES.get(cost.row)
    return cost.trained * (HEAD_IMAGE if row is not None and row.body_mode == "frozen" else BODY_IMAGE)


def _asked(row: HeadRecipe, trained: int) -> int:
    """What the row's oracle takes beside what `HEAD_IMAGE` holds, about some images once or about each in training."""
    images = min(row.oracle_images, trained) if row.oracle_images else trained
    return round(images * ANSWER.get("slow" if row.teacher else row.oracle, 0.0))


def _trained(section: str, name: str, scale: str, sampled: int = 0) -> Cost:
    """A row of `HEAD_RECIPES`, and so many images under its orders."""
    row = HEAD_RECIPES[name]
    images = scales(row)[SCALES[scale].recipe].images
    return Cost(section, name, images, sampled, _asked(row, images))


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
            yield _trained(section, name, scale, images)

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
    """Two heads, and the orders, some with real contexts too; what oracles say is counted with the oracle's order."""
    n = min(n, MOST)
    yield from (_trained(section, name, scale) for name in (HEAD, FIXED))
    for name in ORDERS:
        runs = (LONG if name.startswith("ar_") else 1) + (name in INJECTED)
        yield Cost(section, name, 0, n * runs, round(n * IMPORTANCE) if name == "oracle_marginal" else 0)


def _from_scratch(section: str, scale: str, n: int) -> Iterator[Cost]:
    for name, row in PLAIN.items():
        yield Cost(section, name, row.scales[SCALES[scale].recipe].images, n)
    yield from _heads(scratch.ROWS, lambda name: scratch.LOOKS, random=True)(section, scale, n)


def _mismatch(section: str, scale: str, n: int) -> Iterator[Cost]:
    """Every arm of an order, two of them at one cell a step; random's arms are shared, and counted with the first."""
    yield _trained(section, HEAD, scale)
    bits = round(min(n, BITS_IMAGES) * sum(LIKELIHOOD))
    shared = [name for name, arm in ARMS.items() if arm.random]
    for k, name in enumerate(mismatch.ORDERS):
        runs = len(ARMS) - len(shared) + 2 * (LONG - 1) + (0 if k else len(shared) + LONG - 1)
        yield Cost(section, name, 0, min(n, mismatch.MOST) * runs, bits * (1 if k else 2))


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
    total = {kind: sum(getattr(c, kind) for c in found) for kind in ("trained", "sampled", "asked", "minutes")}
    whole = Cost("all", "", **total)
    return [asdict(c) for c in (*found, replace(whole, minutes=round(whole.minutes, 1)))]

"""Section 2 of the study: orders that need no training, against random, with order told apart from guidance and steps.

The document compares a multiscale order at 256 steps with a random one at 64, under linear guidance alone, which is
confounded with order. Here every order meets random under one *setting* at a time, a row of `SETTINGS` (all but
`document` are ours), on the same noise.

OUT/contents.json (what each part is), OUT/SETTING/ (a comparison each: samples -> results.jsonl -> report.html),
OUT/tuning/ (the scales that `tuned` chose from, one more) -> OUT/results.jsonl and OUT/table.md, of the settings alone.
Run again, it goes on where it stopped.

Legend: L cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orderhead.core import dist, results
from orderhead.core.files import copy_missing, write_json, write_text
from orderhead.core.names import lookup
from orderhead.orders.spatial import SCHEDULE_OF
from orderhead.sampling.settings import Settings
from orderhead.studies import gaps
from orderhead.studies.compare import BASELINE, Arm, Comparison, claim, execute
from orderhead.studies.gaps import DOCUMENT, gather, read, reported, table
from orderhead.studies.plan import Plan
from orderhead.studies.rounds import baseline
from orderhead.studies.told import Told
from orderhead.studies.worlds import LEAST_IMAGES

OWN_ROWS = ("raster", "blockwise", "halton", "checkerboard", "spread", "random_apart")
"""Orders that the document does not have in this table (ours)."""

ROWS = (*DOCUMENT, *OWN_ROWS)
ARMS_OWN = ("steps", "cfg_scale")  # what an order may have for itself, beside its place among the arms

TUNING_SHARES = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Scales that an order is tuned over (ours): 1 + share (s - 1), with s the body's own guidance scale."""

TUNING_SEED = 2**31  # added to the run's: its images are those of no seed that anybody reports
TUNING_PART = 4  # one in so many of the run's images are enough to choose a scale

Orders = Mapping[str, Settings]
"""Row -> its settings, random first."""


# What a setting does: (the run, its rows under the scale's own settings) -> the rows as they are sampled.


def as_published(run: Comparison, rows: Orders) -> Orders:
    """Multiscale at one cell a step (the document's num_iter = 256), everything else at the scale's steps."""
    return {name: _at_most(s, run) if name == "multiscale" else s for name, s in rows.items()}


def under(cfg_schedule: str) -> Callable[[Comparison, Orders], Orders]:
    """Equal steps for all (but `ar_*`, which mean one cell a step), under one guidance schedule."""
    return lambda run, rows: {name: replace(s, cfg_schedule=cfg_schedule) for name, s in rows.items()}


def one_by_one(run: Comparison, rows: Orders) -> Orders:
    """Every order at one cell a step: no two cells are drawn together. `ar_random` is then `random`, to the bit."""
    return {name: _at_most(s, run) for name, s in rows.items()}


def tuned(run: Comparison, rows: Orders) -> Orders:
    """Linear guidance, which is what users run, at the scale that is best for each order, random included.

    The scale has the least Frechet distance among `TUNING_SHARES`, on other noise than what is reported.
    """
    trial = tuning(run, rows)
    execute(trial)
    dist.barrier()
    return {name: replace(s, cfg_scale=_best_scale(trial, name, s)) for name, s in rows.items()}


@dataclass(frozen=True)
class Setting:
    """What all orders of a comparison share: `says` it, and `apply` does it."""

    says: str
    apply: Callable[[Comparison, Orders], Orders]


SETTINGS: Mapping[str, Setting] = {
    "document": Setting("linear guidance, multiscale at one cell a step, the others not", as_published),
    "linear": Setting("linear guidance, equal steps", under("linear")),
    "constant": Setting("constant guidance, equal steps", under("constant")),
    "equalized": Setting("every cell's mean guidance is what it gets under random, equal steps", under("equalized")),
    "tuned": Setting("linear guidance, its scale tuned for each order, equal steps", tuned),
    "one_by_one": Setting("linear guidance, every order at one cell a step", one_by_one),
}
"""Setting -> what it is. Equal steps: `ar_random` has one cell a step by its definition."""

TUNING = "tuning"
CONTENTS: Mapping[str, str] = {name: setting.says for name, setting in SETTINGS.items()} | {
    TUNING: "no result: every order at each scale that `tuned` chose from, on other noise and fewer images"
}
"""Part -> what it is, for the page."""

TOLD = Told(
    "Section 2: orders that need no training",
    "The document's are FID-50K and IS of MAR-B under linear guidance, by other features than ours: compare rankings, "
    "not values. Its multiscale order has 256 steps, the others 64: as in `document`, not as in `linear`.",
    {"fd": "Frechet distance", "is": "IS"},
    {name: {"fd": row.fid, "is": row.inception_score} for name, row in DOCUMENT.items()},
)
TOLD_IN = ("document", "linear")  # settings that are the document's, or all but its steps


def heuristics(plan: Plan) -> Path:
    """Measure the rows (the document's and ours, or those named) against random under every setting.

    ValueError for an unknown row or scale, for `full` without a ground, and for options that change nothing here.
    """
    _check(plan)
    base = baseline(plan, "heuristics", reported())
    if dist.rank() == 0:
        write_json(plan.out / "contents.json", CONTENTS)
    done: list[Comparison] = []
    for name in SETTINGS:
        run = part(base, name, plan.only or ROWS)
        lend(run, done)
        execute(run)
        done.append(run)
        if dist.rank() == 0:
            _write(plan.out)
    dist.barrier()
    return plan.out


def _check(plan: Plan) -> None:
    for name in plan.only:
        lookup("row", name, dict.fromkeys(ROWS))
    if plan.settings.get("cfg_schedule", "linear") != "linear":
        raise ValueError("heuristics measures under every guidance schedule; leave out --cfg-schedule")
    if plan.models:
        raise ValueError("heuristics trains no models; leave out --models")


def part(base: Comparison, setting: str, rows: Sequence[str]) -> Comparison:
    """The comparison of these rows under a setting, in a folder of its own; `tuned` tunes before it answers."""
    orders = SETTINGS[setting].apply(base, _plain(base, rows))
    arms = {name: Arm(settings) for name, settings in orders.items()}
    told = (TOLD,) if setting in TOLD_IN else ()
    return replace(base, out=base.out / setting, arms=arms, settings=orders[BASELINE], own=ARMS_OWN, told=told)


def _plain(base: Comparison, rows: Sequence[str]) -> Orders:
    """Random and the rows under the scale's own settings."""
    orders = {name: replace(base.settings, order=name) for name in (BASELINE, *rows)}
    return {name: _at_most(s, base) if name in SCHEDULE_OF else s for name, s in orders.items()}


def _at_most(settings: Settings, run: Comparison) -> Settings:
    """As many steps as there are cells, so that the cosine schedule too reveals one at a time."""
    return replace(settings, steps=run.body.grid.L)


def tuning(run: Comparison, rows: Orders) -> Comparison:
    """Each order at each scale, with a part of the images and another seed; nobody watches partial images."""
    seed = (run.settings.seed + TUNING_SEED) % 2**32
    trials = {trial: s for name, settings in rows.items() for trial, s in _trials(name, settings)}
    arms = {name: Arm(replace(s, seed=seed)) for name, s in {BASELINE: rows[BASELINE], **trials}.items()}
    return replace(
        run, out=run.out / TUNING, arms=arms, images=max(LEAST_IMAGES, run.images // TUNING_PART),
        settings=arms[BASELINE].settings, world=replace(run.world, classifier=None), reported={}, own=ARMS_OWN,
    )  # fmt: skip


def _trials(name: str, settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Name of the arm -> settings, from the lowest scale on."""
    for share in TUNING_SHARES:
        scale = round(1 + share * (settings.cfg_scale - 1), 4)
        yield f"{name}-cfg{scale:g}", replace(settings, cfg_scale=scale)


def _best_scale(trial: Comparison, name: str, settings: Settings) -> float:
    """The scale of the order's arm with the least Frechet distance; the lower one of two that are level."""
    distance = results.by_row(results.read(trial.out / "results.jsonl"), "fd")
    return min(_trials(name, settings), key=lambda each: distance[each[0]].value)[1].cfg_scale


def lend(run: Comparison, done: Sequence[Comparison]) -> None:
    """Copy images that an earlier comparison has drawn under the very same settings, so that they are drawn once."""
    claim(run)
    if dist.rank() == 0:
        for name, arm in run.arms.items():
            for twin in _twins(run, arm, done)[:1]:
                copy_missing(twin, run.out / "samples" / name)
    dist.barrier()


def _twins(run: Comparison, arm: Arm, done: Sequence[Comparison]) -> list[Path]:
    wanted = drawn(arm.settings, run.body.grid.L)
    return [
        other.out / "samples" / name
        for other in done
        for name, theirs in other.arms.items()
        if drawn(theirs.settings, run.body.grid.L) == wanted
    ]


def drawn(settings: Settings, cells: int) -> Settings:
    """The settings with names put as what they mean: equal ones draw the same images."""
    counts = settings.counts(cells)
    return replace(settings, order=settings.policy(), schedule=counts, steps=len(counts))


def _write(out: Path) -> None:
    """`results.jsonl` and `table.md` of all settings that are measured so far."""
    gather(out, [name for name in SETTINGS if (out / name / "results.jsonl").exists()])
    _write_table(out, read(out))


def pool(out: Path, folders: Sequence[Path]) -> Path:
    """Write `out/table.md`: what the runs in `folders`, under several seeds, have in common."""
    return _write_table(out, gaps.pool(folders))


def _write_table(out: Path, found: gaps.Found) -> Path:
    write_text(out / "table.md", table(found, {name: s.says for name, s in SETTINGS.items()}, ROWS))
    return out / "table.md"

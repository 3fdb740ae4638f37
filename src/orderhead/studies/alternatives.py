"""Section 5 of the study: five other ways to learn an order, beside random and the head of the oracle.

heads/ROW (training, resumable; a distilled head's teacher first) -> samples/ROW-MODE -> results.jsonl -> table.md,
report.html. The document measured 5,000 images of MAR-B by FID, IS, CLIP score and CMMD. Ours are judged by whatever
the world's judge sees: `mmd_rbf` is CMMD's formula on its features; CMMD and CLIP score are had where it is CLIP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from orderhead.core import dist, results
from orderhead.core.files import write_text
from orderhead.core.names import lookup
from orderhead.core.results import Result
from orderhead.studies.beside import agreeing
from orderhead.studies.compare import BASELINE
from orderhead.studies.plan import Plan
from orderhead.studies.rounds import baseline, train_and_measure
from orderhead.studies.told import Told
from orderhead.training.alternatives import REPORTED
from orderhead.training.bodies import peft_library
from orderhead.training.variants import HEAD_RECIPES

COLUMNS: Mapping[str, str] = {"fid5k": "FID-5K", "is5k": "IS-5K", "clip_score": "CLIP score", "cmmd": "CMMD"}
"""The document's metrics as the table calls them; its CLIP score is told times 100, as ours is."""

TOLD = Told(
    "Section 5: five other ways to learn an order",
    "The document's are FID-5K and IS of MAR-B, by other features than ours: compare rankings, not values. It does not "
    "say which rescoring, so both modes of a row stand beside one value. CLIP score and CMMD need "
    "CLIP (--features clip); mmd_rbf is CMMD's formula on the judge's features.",
    {"fd": "Frechet distance", "is": "IS"},
    {
        arm: {"fd": document["fid5k"], "is": document["is5k"]}
        for row, document in REPORTED.items()
        for arm in ([row] if row == BASELINE else [f"{row}-{mode}" for mode in HEAD_RECIPES[row].modes])
    },
)


def alternatives(plan: Plan) -> Path:
    """Train the five and the oracle's head, or the rows named (any head's), and measure each against random.

    ValueError for an unknown row or scale, for `full` without a ground, and where peft is not installed.
    """
    for name in plan.only:
        lookup("row", name, HEAD_RECIPES)
    rows = plan.only or tuple(row for row in REPORTED if row != BASELINE)
    if any(HEAD_RECIPES[row].body_mode == "lora" for row in rows):
        peft_library()  # or the last row would be the first to miss it
    run = replace(baseline(plan, "alternatives", {}), told=(TOLD,))  # no `reported`: these are of 5,000 images
    run = train_and_measure(plan, run, rows)
    dist.barrier()
    if dist.rank() == 0:
        write_text(run.out / "table.md", table(results.read(run.out / "results.jsonl")))
    return run.out


def table(found: Sequence[Result]) -> str:
    """Ours minus random's with 95 % intervals, the document's values minus its random's, how the rankings agree."""
    ours = differences(found)
    metrics = {metric: r.metric.removesuffix(f"_minus_{BASELINE}") for (_, metric), r in ours.items()}
    theirs = [f"document: {title}" for title in COLUMNS.values()]
    heads = ["row", "rescoring", *(f"{called} (ours)" for called in metrics.values()), *theirs]
    lines = [
        _line(row, mode, ours, metrics) for row, mode in arms() if any((f"{row}-{mode}", m) in ours for m in metrics)
    ]
    said = "All figures are differences to random order; the document's are of MAR-B, and do not say which rescoring."
    rule = "|---" * len(heads) + "|"
    return "\n".join([_cells(heads), rule, *lines, "", said, "", agreement(ours), ""])


COMPARED = ("fd", "mmd_rbf", "is", "agreement", "clip_score")  # Frechet distance, CMMD's formula, and scores


def differences(found: Sequence[Result]) -> dict[tuple[str, str], Result]:
    """(arm, metric) -> its difference to random, of the metrics that stand beside the document's."""
    each = {metric: results.by_row(found, f"{metric}_minus_{BASELINE}") for metric in COMPARED}
    return {(arm, metric): r for metric, rows in each.items() for arm, r in rows.items()}


def arms() -> list[tuple[str, str]]:
    """Row and mode, the rows of the document in its order, then any other head's."""
    rows = dict.fromkeys([*(row for row in REPORTED if row != BASELINE), *HEAD_RECIPES])
    return [(row, mode) for row in rows for mode in HEAD_RECIPES[row].modes]


def _line(row: str, mode: str, ours: Mapping[tuple[str, str], Result], metrics: Iterable[str]) -> str:
    figures = [_figure(ours.get((f"{row}-{mode}", metric))) for metric in metrics]
    return _cells([row, mode, *figures, *(_document(row, metric) for metric in COLUMNS)])


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(result: Result | None) -> str:
    if result is None or result.ci is None:
        return ""
    digits = 2 if result.ci[1] - result.ci[0] > 0.1 else 4
    value, lo, hi = (f"{x:+.{digits}f}" for x in (result.value, *result.ci))
    return f"{value} [{lo}, {hi}]"


def _document(row: str, metric: str) -> str:
    """The document's difference to its random, or nothing where it has no such row."""
    if row not in REPORTED:
        return ""
    gap = (REPORTED[row][metric] - REPORTED[BASELINE][metric]) * (100 if metric == "clip_score" else 1)
    return f"{gap:+.{4 if metric == 'cmmd' else 2}f}"


def agreement(ours: Mapping[tuple[str, str], Result]) -> str:
    """How our Frechet distances, a row's the mean over its modes, rank beside the document's FIDs, one a row."""
    found: dict[str, list[float]] = {}
    for row, mode in arms():
        each = ours.get((f"{row}-{mode}", "fd"))
        found.setdefault(row, []).extend([each.value] if each else [])
    both = [(fmean(each), REPORTED[row]["fid5k"]) for row, each in found.items() if each and row in REPORTED]
    return agreeing(both, "rows")

"""Our figures beside the document's, as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orderhead.core import results
from orderhead.metrics.correlation import rankings
from orderhead.training.variants import HEAD_RECIPES, VARIANTS

DOCUMENT_RANDOM = 2.33  # FID-50K of random order at 64 steps, the document's section 2


def reported() -> dict[str, float | None]:
    """Arm (row and mode) -> the document's FID-50K in its section 3; None where it has no number there.

    Rows of other sections may be measured too, but their numbers there are of another metric, or has another baseline.
    """
    return {
        f"{name}-{mode}": VARIANTS[name].reported.get(mode) if name in VARIANTS else None
        for name, row in HEAD_RECIPES.items()
        for mode in row.modes
    }


def on_frozen_body(arm: str) -> bool:
    """Was the arm's head trained beside a body that stayed as it was?"""
    row = HEAD_RECIPES.get(row_of(arm))
    return row is not None and row.body_mode == "frozen"


def row_of(arm: str) -> str:
    """The row whose arm it is: arms are called ROW-MODE."""
    return arm.partition("-")[0]


Difference = tuple[float, tuple[float, float] | None]
"""A Frechet distance minus random's, and its 95 % interval."""


def differences(folder: str | Path) -> dict[str, Difference]:
    """Arm -> its difference, of `folder/results.jsonl`. ValueError where the file is missing."""
    found = results.read(Path(folder) / "results.jsonl")
    return {row: (r.value, r.ci) for row, r in results.by_row(found, "fd_minus_random").items()}


def table(found: Mapping[str, Difference]) -> str:
    """The differences in the document's order beside its own, and how the two rankings agree."""
    rows = [_line(arm, *found[arm], document) for arm, document in reported().items() if arm in found]
    head = [
        "| row | rescoring | ours: FD minus random's | | document: FID-50K minus random's |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, "", agreement({arm: value for arm, (value, _) in found.items()}), ""])


def _line(arm: str, value: float, ci: tuple[float, float] | None, document: float | None) -> str:
    name = row_of(arm)
    theirs = "none reported" if document is None else f"{document - DOCUMENT_RANDOM:+.2f}"
    return f"| {name} | {arm.removeprefix(f'{name}-')} | {difference(value, ci)} | {theirs} |"


def difference(value: float, ci: tuple[float, float] | None) -> str:
    """Two cells of a table: a difference of distances with its interval, and what that says."""
    if ci is None:
        return f"{value:+.2f} | "
    lo, hi = ci
    return f"{value:+.2f} [{lo:.2f}, {hi:.2f}] | {'worse' if lo > 0 else 'better' if hi < 0 else 'no evidence'}"


def agreement(ours: Mapping[str, float]) -> str:
    """Spearman's rank correlation of our differences with the document's numbers, and on how many arms it rests."""
    return agreeing([(ours[arm], fid) for arm, fid in reported().items() if arm in ours and fid is not None])


def agreeing(both: Sequence[tuple[float, float]], of: str = "arms") -> str:
    """The same of pairs (ours, the document's), one for each `of`, none of them twice: p counts them as independent."""
    if len(both) < 3:
        return f"Too few {of} ({len(both)}) to compare rankings."
    rho, p = rankings(*zip(*both, strict=True))
    return f"Spearman's rank correlation of the two rankings over {len(both)} {of}: {rho:.2f} (p = {p:.2f})."

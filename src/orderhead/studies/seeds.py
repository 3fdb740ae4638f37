"""Several runs of one study under several seeds -> what they have in common, and how much of it is chance.

Legend: S seeds, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import f_oneway, spearmanr, t

from orderhead.core.files import write_text
from orderhead.studies.beside import Difference, differences, table


def pool(out: Path, folders: Sequence[Path]) -> Path:
    """Write `out/table.md`: each row's mean over the runs in `folders`, and whether rows differ by more than runs do.

    Rows that are missing in a run are left out. ValueError where a run has no results.
    """
    runs = [differences(folder) for folder in folders]
    rows = [row for row in runs[0] if all(row in run for run in runs)]
    values = {row: [run[row][0] for run in runs] for row in rows}
    write_text(out / "table.md", "\n".join([table(pooled(values)), between(values), *agreement(values), ""]))
    return out / "table.md"


def pooled(values: Mapping[str, Sequence[float]]) -> dict[str, Difference]:
    """Row -> mean of its S runs with a 95 % t interval, for the standard deviation that all rows share.

    Two or three runs a row say nothing about that row's own spread, so it is estimated from all rows together, with
    R (S - 1) degrees of freedom: as good as the assumption that rows vary alike.
    """
    table_RS = np.array(list(values.values()))
    R, S = table_RS.shape
    half = t.ppf(0.975, R * (S - 1)) * np.sqrt(table_RS.var(axis=1, ddof=1).mean() / S)
    means = table_RS.mean(axis=1).tolist()
    return {row: (mean, (mean - half, mean + half)) for row, mean in zip(values, means, strict=True)}


def between(values: Mapping[str, Sequence[float]]) -> str:
    """The analysis of variance: do the rows differ by more than the runs of one row?"""
    if len(values) < 2:
        return ""
    F, p = f_oneway(*values.values())
    spread = np.sqrt(np.var(list(values.values()), axis=1, ddof=1).mean())
    said = "they differ" if p < 0.05 else "no evidence that they differ"
    return f"Rows against runs of one row (standard deviation {spread:.2f}): F = {F:.1f}, p = {p:.2g}, {said}."


def agreement(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Spearman's correlation of the ranking of rows between each two runs: what a single run's ranking is worth."""
    if len(values) < 3:
        return []
    runs_SR = np.array(list(values.values())).T
    told = ", ".join(f"{rho:.2f}" for rho, _ in (spearmanr(a, b) for a, b in combinations(runs_SR, 2)))
    return [f"Spearman's correlation of the rows' ranking from run to run: {told}."]

"""Several runs of one study under several seeds -> what they have in common, and how much of it is chance.

Legend: S seeds, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import f, t

from orderhead.core.files import write_text
from orderhead.metrics.correlation import rankings
from orderhead.studies.beside import Difference, differences, on_frozen_body, table


def pool(out: Path, folders: Sequence[Path]) -> Path:
    """Write `out/table.md`: each row's mean over the runs in `folders`, and whether rows differ by more than runs do.

    Arms that are missing in a run are left out. ValueError where a run has no results.
    """
    runs = [differences(folder) for folder in folders]
    rows = [row for row in runs[0] if all(row in run for run in runs)]
    values = {row: [run[row][0] for run in runs] for row in rows}
    frozen = {row: runs for row, runs in values.items() if on_frozen_body(row)}
    said = [f"All arms: {between(values)}", "", f"Arms on the frozen body: {between(frozen)}", ""]
    write_text(out / "table.md", "\n".join([table(pooled(values)), *said]))
    return out / "table.md"


def pooled(values: Mapping[str, Sequence[float]]) -> dict[str, Difference]:
    """Row -> mean of its S runs with a 95 % t interval, for the spread that all rows share.

    Two or three runs a row say nothing about that row's own spread, so it is estimated from all rows together: what
    moves a whole run (random's luck) from the means of runs, the rest from what is left, with Satterthwaite's (1946)
    degrees of freedom. As good as the assumption that rows vary alike.
    """
    table_RS = np.array(list(values.values()))
    R, S = table_RS.shape
    means = table_RS.mean(axis=1).tolist()
    if R == 1:
        variance, freedom = table_RS.var(ddof=1) / S, S - 1.0
    else:
        parts = R * table_RS.mean(0).var(ddof=1) / (R * S), _rest(table_RS) * (R - 1) / (R * S)
        variance = sum(parts)
        freedom = variance**2 / (parts[0] ** 2 / (S - 1) + parts[1] ** 2 / ((R - 1) * (S - 1)))
    half = float(t.ppf(0.975, freedom) * np.sqrt(variance))
    return {row: (mean, (mean - half, mean + half)) for row, mean in zip(values, means, strict=True)}


def _rest(table_RS: np.ndarray) -> float:
    """The mean square of what neither rows nor runs explain."""
    R, S = table_RS.shape
    left_RS = table_RS - table_RS.mean(1, keepdims=True) - table_RS.mean(0) + table_RS.mean()
    return float((left_RS**2).sum() / ((R - 1) * (S - 1)))


def between(values: Mapping[str, Sequence[float]]) -> str:
    """Do rows differ by more than the runs of one row, and what is one run's ranking worth?

    Analysis of variance with runs as blocks: rows of one run share random's images, whose luck moves them all.
    """
    if len(values) < 3:
        return "too few to compare."
    table_RS = np.array(list(values.values()))
    R, S = table_RS.shape
    rest = _rest(table_RS)
    F = S * table_RS.mean(1).var(ddof=1) / rest
    p = f.sf(F, R - 1, (R - 1) * (S - 1))
    rhos = ", ".join(f"{rho:.2f}" for rho, _ in (rankings(a, b) for a, b in combinations(table_RS.T.tolist(), 2)))
    said = "they differ" if p < 0.05 else "no evidence that rows differ"
    return (
        f"mean {table_RS.mean():+.2f}; rows against runs of one row (standard deviation {np.sqrt(rest):.2f}) "
        f"F = {F:.1f}, p = {p:.2g}, {said}; Spearman's correlation of the ranking from run to run {rhos}."
    )

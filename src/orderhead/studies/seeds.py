"""Several runs of one study under several seeds -> what they have in common, and how much of it is chance.

Legend: S seeds, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import f, spearmanr, t

from orderhead.core.files import write_text
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
    """Do rows differ by more than the runs of one row, and what is one run's ranking worth?

    Analysis of variance with runs as blocks: rows of one run share random's images, whose luck moves them all.
    """
    if len(values) < 3:
        return "too few to compare."
    table_RS = np.array(list(values.values()))
    R, S = table_RS.shape
    row_R1, run_S = table_RS.mean(1, keepdims=True), table_RS.mean(0)
    rest = ((table_RS - row_R1 - run_S + table_RS.mean()) ** 2).sum() / ((R - 1) * (S - 1))
    F = S * row_R1.var(ddof=1) / rest
    p = f.sf(F, R - 1, (R - 1) * (S - 1))
    rhos = ", ".join(f"{rho:.2f}" for rho, _ in (spearmanr(a, b) for a, b in combinations(table_RS.T, 2)))
    said = "they differ" if p < 0.05 else "no evidence that rows differ"
    return (
        f"mean {table_RS.mean():+.2f}; rows against runs of one row (standard deviation {np.sqrt(rest):.2f}) "
        f"F = {F:.1f}, p = {p:.2g}, {said}; Spearman's correlation of the ranking from run to run {rhos}."
    )

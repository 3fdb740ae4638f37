"""Rank correlation: image by image between scores and importance, and between two rankings of rows.

Legend: N images, L cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr

from orderhead.metrics.statistic import Statistic


def spearman_rows(a_NL: ArrayLike, b_NL: ArrayLike) -> np.ndarray:
    """Spearman's rho of each pair of rows, (N,), in [-1, 1]; ties share their mean rank.

    A row without variation has no correlation: nan there. ValueError where shapes differ or a value is NaN.
    """
    a, b = np.asarray(a_NL, dtype=np.float64), np.asarray(b_NL, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or a.shape[1] < 2:
        raise ValueError(f"rank correlation needs two tables of images x cells (>= 2), got {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("rank correlation of NaN: a score or an importance is missing")
    ranks_a, ranks_b = rankdata(a, axis=1), rankdata(b, axis=1)
    ranks_a, ranks_b = ranks_a - ranks_a.mean(1, keepdims=True), ranks_b - ranks_b.mean(1, keepdims=True)
    scale_N = np.sqrt((ranks_a**2).sum(1) * (ranks_b**2).sum(1))
    return np.divide((ranks_a * ranks_b).sum(1), scale_N, out=np.full(len(a), np.nan), where=scale_N > 0)


def spearman(a_NL: ArrayLike, b_NL: ArrayLike) -> Statistic:
    """Mean over images of the rank correlation over cells; rows without variation count as 0."""
    return Statistic.mean(np.nan_to_num(spearman_rows(a_NL, b_NL)), (-1.0, 1.0))


def rankings(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Spearman's rho of two rankings of the same rows and its p, by SciPy; (0, 1) where one of them is level."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0, 1.0
    found: Any = spearmanr(a, b)
    return float(found.statistic), float(found.pvalue)

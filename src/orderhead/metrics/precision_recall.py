"""Improved precision and recall (Kynkaanniemi et al. 2019): a set's manifold is the union of the balls around its
points that reach to their k-th nearest neighbour.

Both depend on N and M: compare at equal numbers.

Legend: N generated images, M real images, F features, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orderhead.metrics.bundle import Judged, Reference, features, remember
from orderhead.metrics.statistic import UNIT, Statistic

_ROWS = 512


def _squared_distances(x_NF: np.ndarray, y_MF: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the (N, M) table of squared distances, a few at a time."""
    norm_M = (y_MF**2).sum(axis=1)
    for start in range(0, len(x_NF), _ROWS):
        rows = slice(start, start + _ROWS)
        table = (x_NF[rows] ** 2).sum(axis=1)[:, None] + norm_M - 2 * x_NF[rows] @ y_MF.T
        yield rows, table.clip(min=0)


def neighbours(x_NF: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other points of each point, nearest first: squared distances and indices, both (N, k)."""
    if len(x_NF) <= k:
        raise ValueError(f"{k} neighbours need at least {k + 1} images, got {len(x_NF)}")
    distances_Nk, index_Nk = np.empty((len(x_NF), k)), np.empty((len(x_NF), k), dtype=np.int64)
    for rows, table in _squared_distances(x_NF, x_NF):
        table[np.arange(len(table)), np.arange(rows.start, rows.start + len(table))] = np.inf
        near = np.argpartition(table, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(table, near, axis=1)
        order = found.argsort(axis=1, kind="stable")
        distances_Nk[rows] = np.take_along_axis(found, order, axis=1)
        index_Nk[rows] = np.take_along_axis(near, order, axis=1)
    return distances_Nk, index_Nk


@remember
def _real_radius(reference: Reference, k: int) -> np.ndarray:
    return neighbours(reference.features_MF, k)[0][:, -1]


def precision(judged: Judged, reference: Reference, k: int = 3) -> Statistic:
    """Fraction of the generated images inside the real manifold, in [0, 1]: fidelity."""
    x_NF, y_MF = features(judged, reference)
    radius_M = _real_radius(reference, k)
    inside = [(table <= radius_M).any(axis=1) for _, table in _squared_distances(x_NF, y_MF)]
    return Statistic.mean(np.concatenate(inside), UNIT)


def recall(judged: Judged, reference: Reference, k: int = 3) -> Statistic:
    """Fraction of the real images inside the generated manifold, in [0, 1]: coverage.

    The influence is the exact jackknife in one pass. Without image i the real images that only its ball covers are
    lost, and the balls of those that count i among their k neighbours grow to the next neighbour. A radius is no smooth
    function of the images, so the interval is conservative (simulated: 1.4 to 1.6 times too wide).
    """
    x_NF, y_MF = features(judged, reference)
    distances, near = neighbours(x_NF, k + 1)
    radius_N, grown_N, near_Nk = distances[:, k - 1], distances[:, k], near[:, :k]
    covered, change_N = 0, np.zeros(len(x_NF))
    for _, table in _squared_distances(y_MF, x_NF):
        inside = table <= radius_N
        covered += int(inside.any(axis=1).sum())
        change_N += _change_without_each(inside, (table <= grown_N) & ~inside, near_Nk)
    influence_N = -(len(x_NF) - 1) / len(y_MF) * change_N
    return Statistic(covered / len(y_MF), influence_N - influence_N.mean(), UNIT)


def _change_without_each(inside_RN: np.ndarray, only_grown_RN: np.ndarray, near_Nk: np.ndarray) -> np.ndarray:
    """How many of R real images become covered (+) or uncovered (-) when one generated image is left out, (N,)."""
    N, k = near_Nk.shape
    count_R = inside_RN.sum(axis=1)
    owner_R = np.where(count_R == 1, inside_RN.argmax(axis=1), -1)
    real, ball = np.nonzero(only_grown_RN & (count_R <= 1)[:, None])
    real, left_out = np.repeat(real, k), near_Nk[ball].ravel()  # leaving `left_out` out makes a ball reach `real`
    matters = (count_R[real] == 0) | (owner_R[real] == left_out)
    reached = np.unique(real[matters] * N + left_out[matters]) % N
    return np.bincount(reached, minlength=N) - np.bincount(owner_R[owner_R >= 0], minlength=N)

"""Scores -> rankings of cells, and how far one ranking is from the next.

Legend: N images, R rescorings, L cells.
"""

from __future__ import annotations

import numpy as np


def ranking(scores: np.ndarray) -> np.ndarray:
    """Scores (..., L) -> the rank of each cell, 0 = highest; ties go to the lower raster index."""
    return np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1)


def rank_change(scores_NRL: np.ndarray) -> np.ndarray:
    """How far the ranking turned from one rescoring to the next, (N, R - 1): 0 the same, 1 reversed.

    Mean absolute difference of ranks over all cells, over its value for a reversed ranking. Ours.
    """
    L = scores_NRL.shape[2]
    reversed_mean = np.abs(2 * np.arange(L) - (L - 1)).mean()
    return np.abs(np.diff(ranking(scores_NRL), axis=1)).mean(axis=2) / reversed_mean

"""How early does an image become recognisable? Areas under curves over the generation of N images in T steps.

AUC: the classifier's p(true class) on the cells revealed so far, over the fraction of steps.
AUAC: its top-1 accuracy, over the fraction of *tokens* revealed. Both are means of one area per image, so their
intervals need no resampling. The names are the study's; the choice of points is ours.

Legend: N images, T steps, P sampled points, L cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from orderhead.metrics.statistic import UNIT, Statistic


def sampled_steps(T: int, every: int = 4) -> np.ndarray:
    """Every `every`-th of T steps, and the last one: 0, 4, ..., 60, 63 for T = 64, the study's 17 points."""
    if T < 1 or every < 1:
        raise ValueError(f"steps to sample need T >= 1 and every >= 1, got {T} and {every}")
    return np.unique(np.append(np.arange(0, T, every), T - 1))


def areas(values_NP: ArrayLike, x_P: ArrayLike) -> np.ndarray:
    """Trapezoid of each row over x, divided by the width of x: the mean height of the curve, (N,).

    A constant curve c has area c; one point is its own area. ValueError unless x increases and fits the rows.
    """
    values, x = np.asarray(values_NP, dtype=np.float64), np.asarray(x_P, dtype=np.float64)
    if values.ndim != 2 or x.shape != values.shape[1:] or len(x) < 1:
        raise ValueError(f"curves (N, P) need P >= 1 positions, got shapes {values.shape} and {x.shape}")
    if len(values) < 1 or not np.isfinite(values).all() or not (np.diff(x) > 0).all():
        raise ValueError("curves need at least one image, finite values, and positions that increase")
    if len(x) == 1:
        return values[:, 0]
    return ((values[:, 1:] + values[:, :-1]) / 2) @ np.diff(x) / (x[-1] - x[0])


def auc(confidence_NT: ArrayLike, every: int = 4) -> Statistic:
    """Area under p(true class) after each step, over the fraction of steps, sampled every 4 steps; in [0, 1]."""
    confidence = np.asarray(confidence_NT, dtype=np.float64)
    if confidence.ndim != 2:
        raise ValueError(f"confidence is a table of images x steps, got shape {confidence.shape}")
    steps_P = sampled_steps(confidence.shape[1], every)
    return Statistic.mean(areas(confidence[:, steps_P], steps_P), UNIT)


def auac(correct_NT: ArrayLike, counts_T: Sequence[int] | np.ndarray) -> Statistic:
    """Area under top-1 correctness after each step, over the fraction of tokens revealed; in [0, 1].

    `counts_T` = tokens revealed at each step (>= 1, summing to L); the curve runs from the first step's tokens to all.
    """
    counts = np.asarray(counts_T)
    if counts.ndim != 1 or (counts < 1).any():
        raise ValueError("every step reveals at least one token")
    return Statistic.mean(areas(correct_NT, np.cumsum(counts) / counts.sum()), UNIT)

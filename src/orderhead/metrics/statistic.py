"""A number, and what each image contributes to its uncertainty.

Every metric here is a function T of the empirical distribution of the generated images. Its influence at image i,

    I_i = d/de T((1 - e) P_N + e delta_i)  at e = 0,      sum_i I_i = 0,

turns it into a mean up to first order, T(P_N) ~ T(P) + mean_i I_i, so its standard error is std(I) / sqrt(N) (the
infinitesimal jackknife: Jaeckel 1972; Efron 1982, "The jackknife, the bootstrap and other resampling plans"). The
difference of two metrics on the same image indices has influence I^a - I^b: common noise cancels image by image. And
sorting I says which images drive the number.

Legend: N generated images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orderhead.metrics.bundle import Judged, Reference

ANY, NOT_NEGATIVE, UNIT = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)
"""Ranges of metrics."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """`value`, the influence of each image, (N,), mean 0, in the unit of the value, and the metric's range."""

    value: float
    influence_N: np.ndarray
    bounds: tuple[float, float] = ANY

    @classmethod
    def mean(cls, values_N: np.ndarray, bounds: tuple[float, float] = ANY) -> Statistic:
        """The mean of one value an image: here the influence is exact."""
        values_N = np.asarray(values_N, dtype=np.float64)
        return cls(float(values_N.mean()), values_N - values_N.mean(), bounds)


def jackknife(function: Callable[[Judged, Reference], float], judged: Judged, reference: Reference) -> Statistic:
    """Any smooth metric's influence by leaving out one image at a time: I_i ~ (N - 1) (T - T without i), centred.

    Costs N calls. For a new metric whose influence nobody has derived yet, and to check those that somebody has.
    """
    N = len(judged)
    value = function(judged, reference)
    without_N = np.array([function(judged.take(np.delete(np.arange(N), i)), reference) for i in range(N)])
    return Statistic(value, (N - 1) * (without_N.mean() - without_N))

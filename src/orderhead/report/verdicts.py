"""Intervals -> verdicts: each on its own, and on Frechet distance for all orders together (Holm 1979)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from orderhead.report.load import Number, Report, Row
from orderhead.report.reading import READINGS

Verdict = Literal["better", "worse", "no evidence"]
LEVEL = 0.95  # of each interval, and of all verdicts on Frechet distance together


def verdict(metric: str, difference: Number | None) -> Verdict | None:
    """What a paired difference to the baseline says on its own; None without an interval."""
    if difference is None or difference.ci is None:
        return None
    lo, hi = difference.ci
    if lo <= 0 <= hi:
        return "no evidence"
    return "better" if (lo > 0) == READINGS[metric].higher else "worse"


def verdicts(report: Report, metric: str = "fd") -> dict[str, Verdict]:
    """The verdict of every order that can be compared to the baseline, corrected for how many they are."""
    found = compared(report, metric)
    kept = holm([p_value(d, freedom(d.n or report.images, len(report.class_names))) for d in found.values()])
    alone: dict[str, Verdict] = {order: verdict(metric, d) or "no evidence" for order, d in found.items()}
    return {order: said if keep else "no evidence" for (order, said), keep in zip(alone.items(), kept, strict=True)}


def compared(report: Report, metric: str = "fd") -> dict[str, Number]:
    """The paired differences that have an interval, by order, best order first."""
    pairs = [(row, report.difference(row, metric)) for row in report.measured if row.order != report.baseline]
    return {row.order: d for row, d in pairs if d and d.ci}


def of(report: Report, row: Row) -> Verdict | None:
    """The verdict on an order's Frechet distance; None without an interval."""
    return verdicts(report).get(row.order)


def uncertain(report: Report, metric: str = "fd") -> list[str]:
    """The orders whose own interval excludes 0, but not once all are judged together."""
    said = verdicts(report, metric)
    return [o for o, d in compared(report, metric).items() if verdict(metric, d) != "no evidence" == said[o]]


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which are significant if the chance of any false one is to stay below 1 - `level` (Holm's step-down method)."""
    significant, m = [False] * len(p_values), len(p_values)
    for k, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        if p_values[i] > (1 - level) / (m - k):
            break
        significant[i] = True
    return significant


def p_value(difference: Number, freedom: int) -> float:
    """Two-sided p of "the difference is 0", from a 95 % interval of centre -+ t standard errors."""
    assert difference.ci
    lo, hi = difference.ci
    if lo == hi:
        return 1.0 if lo == 0 else 0.0
    return 1 - inside(abs(lo + hi) / (hi - lo) * quantile(freedom), freedom)


def freedom(images: int, classes: int) -> int:
    """Degrees of freedom of an interval, as `metrics.intervals` counts them: images less groups of equal label.

    Image i has label i mod `classes`; labels with one image share a group.
    """
    several = min(classes, max(images - classes, 0))
    single = min(classes, images) - several
    return max(images - max(several + (single > 1), 1), 1)


@cache
def quantile(freedom: int, level: float = LEVEL) -> float:
    """The t that |T| exceeds with probability 1 - `level`, by bisection."""
    lo, hi = 0.0, math.pi / 2
    for _ in range(60):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if inside(math.sqrt(freedom) * math.tan(middle), freedom) < level else (lo, middle)
    return math.sqrt(freedom) * math.tan(lo)


@cache
def inside(t: float, freedom: int) -> float:
    """P(|T| <= t) for Student's t (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    angle, odd = math.atan2(t, math.sqrt(freedom)), freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(odd, freedom, 2):
        total += term
        term *= (k + 1) / (k + 2) * math.cos(angle) ** 2
    half = math.sin(angle) * total
    return 2 / math.pi * (angle + half) if odd else half

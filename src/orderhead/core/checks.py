"""Numbers that users give, checked where they come in."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any


def whole(name: str, value: Any) -> int:
    """A whole number of any kind as an int. ValueError for anything else, a float or text too."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is a whole number, got {value!r}") from None


def within(name: str, value: Any, low: float, high: float) -> float:
    """The number, if it lies in [low, high]. ValueError for anything else, NaN and text too."""
    if not isinstance(value, Real) or not low <= float(value) <= high:
        raise ValueError(f"{name} lies in [{low:g}, {high:g}], got {value!r}")
    return float(value)


def check_seed(seed: int, name: str = "seed") -> None:
    """ValueError outside [0, 2**32)."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} lies in [0, 2**32), got {seed}")

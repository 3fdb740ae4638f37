"""Classes and images as users name them -> their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from orderhead.body.mar import MARConfig
from orderhead.core.checks import check_seed, whole
from orderhead.core.names import unknown


def class_numbers(labels: Any, config: MARConfig) -> list[int]:
    """Class numbers or names, one an image -> numbers; -1 is no class. Arrays and tensors of numbers will do too.

    ValueError for anything but a list of these, a number out of range, or an unknown name, with the nearest match.
    """
    names = {name.lower(): number for number, name in enumerate(config.class_names)}
    return [_number(label, names, config.classes) for label in _listed("labels are", labels)]


def image_numbers(index: Any) -> list[int]:
    """The images' numbers. ValueError for anything but a list of whole numbers in [0, 2**32)."""
    numbers = [whole("a number of index_B", number) for number in _listed("index_B is", index)]
    for number in numbers:
        check_seed(number, "a number of index_B")
    return numbers


def _listed(what: str, values: Any) -> Iterable[Any]:
    values = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{what} a list, one an image, for example [0, 3]; got {values!r}")
    return values


def _number(label: Any, names: dict[str, int], classes: int) -> int:
    number = _named(label, names, classes) if isinstance(label, str) else whole("a label", label)
    if not -1 <= number < classes:
        raise ValueError(f"labels lie in [0, {classes}), or -1 for no class; got {number}")
    return number


def _named(label: str, names: dict[str, int], classes: int) -> int:
    if re.fullmatch(r"-?\d+", label):
        return int(label)
    if not names:
        raise ValueError(f"this body names no classes, so labels are numbers below {classes}; got {label!r}")
    if label.lower() not in names:
        raise unknown("class", label, names)
    return names[label.lower()]

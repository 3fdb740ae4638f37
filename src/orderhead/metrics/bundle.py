"""What a metric reads: generated images and real ones, as a judge network sees them.

Legend: N generated images, M real images, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike


def _matrix(what: str, values: ArrayLike) -> np.ndarray:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or min(matrix.shape) < 1:
        raise ValueError(f"{what} must be a table of images x values, got shape {matrix.shape}")
    if len(matrix) < 2:
        raise ValueError(f"{what} of {len(matrix)} image: a metric needs at least 2")
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        raise ValueError(f"{what} of {len(bad)} of {len(matrix)} images are NaN or infinite, first at image {bad[0]}")
    return matrix


def _labels(what: str, values: ArrayLike, n: int, classes: int | None) -> np.ndarray:
    labels = np.asarray(values)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{what} must be {n} integers, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < -1 or (classes is not None and labels.max() >= classes):
        raise ValueError(f"{what} lie in [-1, {classes}), got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def _same_length(what: str, n: int, logits: np.ndarray) -> None:
    if len(logits) != n:
        raise ValueError(f"{what}: {n} rows of features but {len(logits)} rows of logits")


@dataclass(frozen=True, eq=False)
class Judged:
    """Generated images. Row i is image i, the same (seed, index, label) and so the same noise under every order.

    `features_NF` and `logits_NK` (class scores before the softmax) become float64; `labels_N` are the classes that were
    asked for, -1 = none. ValueError for fewer than two images, NaN or infinite values, or lengths that differ.
    """

    features_NF: np.ndarray
    logits_NK: np.ndarray
    labels_N: np.ndarray

    def __post_init__(self) -> None:
        features = _matrix("features", self.features_NF)
        logits = _matrix("logits", self.logits_NK)
        _same_length("generated images", len(features), logits)
        object.__setattr__(self, "features_NF", features)
        object.__setattr__(self, "logits_NK", logits)
        object.__setattr__(self, "labels_N", _labels("labels", self.labels_N, len(features), logits.shape[1]))

    def __len__(self) -> int:
        return len(self.features_NF)

    def take(self, index_N: np.ndarray) -> Judged:
        """The images at `index_N`, repeats allowed."""
        return Judged(self.features_NF[index_N], self.logits_NK[index_N], self.labels_N[index_N])


@dataclass(frozen=True, eq=False)
class Reference:
    """Real images, fixed: intervals say nothing about how they were drawn. Logits and labels where they are known."""

    features_MF: np.ndarray
    logits_MK: np.ndarray | None = None
    labels_M: np.ndarray | None = None

    def __post_init__(self) -> None:
        features = _matrix("reference features", self.features_MF)
        object.__setattr__(self, "features_MF", features)
        classes = None
        if self.logits_MK is not None:
            logits = _matrix("reference logits", self.logits_MK)
            _same_length("real images", len(features), logits)
            object.__setattr__(self, "logits_MK", logits)
            classes = logits.shape[1]
        if self.labels_M is not None:
            object.__setattr__(self, "labels_M", _labels("reference labels", self.labels_M, len(features), classes))

    def __len__(self) -> int:
        return len(self.features_MF)


def features(judged: Judged, reference: Reference) -> tuple[np.ndarray, np.ndarray]:
    """Generated (N, F) and real (M, F) features. ValueError where their widths differ."""
    x_NF, y_MF = judged.features_NF, reference.features_MF
    if x_NF.shape[1] != y_MF.shape[1]:
        raise ValueError(
            f"generated images have {x_NF.shape[1]} features, the reference {y_MF.shape[1]}: "
            "use the network that made the reference"
        )
    return x_NF, y_MF


class _Hashable(Protocol):
    def __hash__(self) -> int: ...


A = TypeVar("A", bound=_Hashable)
P = ParamSpec("P")
R = TypeVar("R")


def remember(function: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """Keep each answer for as long as the first argument (a bundle, compared by identity) lives."""
    kept: WeakKeyDictionary[A, dict[tuple[object, ...], R]] = WeakKeyDictionary()

    @wraps(function)
    def remembering(first: A, *args: P.args, **kwargs: P.kwargs) -> R:
        answers = kept.setdefault(first, {})
        key = (*args, *sorted(kwargs.items()))
        if key not in answers:
            answers[key] = function(first, *args, **kwargs)
        return answers[key]

    return remembering

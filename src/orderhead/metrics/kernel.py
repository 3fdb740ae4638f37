"""Maximum mean discrepancy between generated features x and real ones y (Gretton et al. 2012).

    MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

Legend: N generated images, M real images, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orderhead.metrics.bundle import Judged, Reference, features, remember
from orderhead.metrics.statistic import ANY, NOT_NEGATIVE, Statistic

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
_ROWS = 512


def polynomial(x_NF: np.ndarray, y_MF: np.ndarray) -> np.ndarray:
    """(x.y / F + 1)^3, (N, M)."""
    base = x_NF @ y_MF.T / x_NF.shape[1] + 1
    return base * base * base


def gaussian(x_NF: np.ndarray, y_MF: np.ndarray, sigma: float = 10.0) -> np.ndarray:
    """exp(-|x - y|^2 / (2 sigma^2)), (N, M)."""
    squared = (x_NF**2).sum(1)[:, None] + (y_MF**2).sum(1) - 2 * x_NF @ y_MF.T
    return np.exp(squared.clip(min=0) / (-2 * sigma**2))


def _unit(x_NF: np.ndarray) -> np.ndarray:
    """Each row scaled to norm 1; a row of zeros stays."""
    norm_N = np.linalg.norm(x_NF, axis=1, keepdims=True)
    return x_NF / np.where(norm_N == 0, 1, norm_N)


def row_sums(kernel: Kernel, x_NF: np.ndarray, y_MF: np.ndarray) -> np.ndarray:
    """sum_j k(x_i, y_j), (N,), a few rows at a time."""
    return np.concatenate([kernel(x_NF[i : i + _ROWS], y_MF).sum(axis=1) for i in range(0, len(x_NF), _ROWS)])


def _diagonal(kernel: Kernel, x_NF: np.ndarray) -> np.ndarray:
    return np.array([kernel(row, row)[0, 0] for row in x_NF[:, None]])


@remember
def _real_polynomial(reference: Reference) -> float:
    y_MF, M = reference.features_MF, len(reference)
    return float((row_sums(polynomial, y_MF, y_MF) - _diagonal(polynomial, y_MF)).sum() / (M * (M - 1)))


@remember
def _real_gaussian(reference: Reference) -> float:
    y_MF = _unit(reference.features_MF)
    return float(row_sums(gaussian, y_MF, y_MF).mean() / len(y_MF))


def kid(judged: Judged, reference: Reference) -> Statistic:
    """Unbiased MMD^2 with the cubic kernel over all pairs of distinct images; may be below 0, expected 0 if equal.

    Binkowski et al. 2018, "Demystifying MMD GANs" (there the mean over random subsets, whose expectation is the same).
    Influence: 2 (mean_j k(x_i, x_j) - mean k(x_i, y)), centred.
    """
    x_NF, y_MF = features(judged, reference)
    own_N = (row_sums(polynomial, x_NF, x_NF) - _diagonal(polynomial, x_NF)) / (len(x_NF) - 1)
    cross_N = row_sums(polynomial, x_NF, y_MF) / len(y_MF)
    return _statistic(own_N, cross_N, _real_polynomial(reference), 1.0, ANY)


def cmmd(judged: Judged, reference: Reference) -> Statistic:
    """`mmd_rbf` of CLIP's ViT-L/14-336 embeddings: only with those does it compare to published values.

    Jayasumana et al. 2024, "Rethinking FID". ValueError for a feature of norm 0, which CLIP does not give.
    """
    if not all(np.linalg.norm(part, axis=1).all() for part in features(judged, reference)):
        raise ValueError("an embedding of norm 0 has no direction; cmmd needs embeddings such as CLIP's")
    return mmd_rbf(judged, reference)


def mmd_rbf(judged: Judged, reference: Reference) -> Statistic:
    """1000 x biased MMD^2, Gaussian kernel of sigma 10, on features scaled to norm 1; >= 0, 0 for the same images.

    CMMD's formula on whatever features the judge has (ours), so it compares to no published value. Its bias is at most
    1000 (1/N + 1/M) (1 - exp(-2 / sigma^2)).
    """
    x_NF, y_MF = map(_unit, features(judged, reference))
    own_N = row_sums(gaussian, x_NF, x_NF) / len(x_NF)
    cross_N = row_sums(gaussian, x_NF, y_MF) / len(y_MF)
    return _statistic(own_N, cross_N, _real_gaussian(reference), 1000.0, NOT_NEGATIVE)


def _statistic(
    own_N: np.ndarray, cross_N: np.ndarray, real: float, scale: float, bounds: tuple[float, float]
) -> Statistic:
    witness_N = own_N - cross_N
    value = own_N.mean() + real - 2 * cross_N.mean()
    return Statistic(scale * float(value), scale * 2 * (witness_N - witness_N.mean()), bounds)

"""Frechet distance between Gaussians fitted to features (Dowson & Landau 1982; Heusel et al. 2017, "GANs trained by a
two time-scale update rule", where Inception's pool features make it the FID).

    FD = |mu_g - mu_r|^2 + tr C_g + tr C_r - 2 tr (C_r^1/2 C_g C_r^1/2)^1/2

Its expectation grows as N shrinks (by about tr(C)/N from the mean alone, more from the covariance; Chong & Forsyth
2020): compare values only at equal N, and differences rather than values. An interval covers the expected FD *at this
N* against this reference, not the limit of infinite N.

Legend: N generated images, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orderhead.metrics.bundle import Judged, Reference, features, remember
from orderhead.metrics.statistic import NOT_NEGATIVE, Statistic


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (F,) and covariance (F, F), float64."""

    mean_F: np.ndarray
    cov_FF: np.ndarray

    @classmethod
    def of(cls, x_NF: np.ndarray) -> Moments:
        """Sample mean and unbiased (N - 1) covariance."""
        mean_F = x_NF.mean(axis=0)
        centred = x_NF - mean_F
        return cls(mean_F, centred.T @ centred / (len(x_NF) - 1))

    @cached_property
    def root_FF(self) -> np.ndarray:
        """The symmetric square root of the covariance; eigenvalues that rounding made negative count as 0."""
        values_F, vectors_FF = np.linalg.eigh(self.cov_FF)
        return (vectors_FF * np.sqrt(values_F.clip(min=0))) @ vectors_FF.T

    def between(self, other: Moments) -> np.ndarray:
        """other^1/2 self other^1/2, (F, F): symmetric, with the eigenvalues of self @ other."""
        product = other.root_FF @ self.cov_FF @ other.root_FF
        return (product + product.T) / 2


def _distance(a: Moments, b: Moments, values_F: np.ndarray) -> float:
    delta_F = a.mean_F - b.mean_F
    squared = delta_F @ delta_F + np.trace(a.cov_FF) + np.trace(b.cov_FF) - 2 * np.sqrt(values_F.clip(min=0)).sum()
    return max(float(squared), 0.0)


def frechet_distance(a: Moments, b: Moments) -> float:
    """FD between two pairs of moments, in squared feature units, >= 0; also for published (mu, sigma) files."""
    return _distance(a, b, np.linalg.eigvalsh(a.between(b)))


@remember
def _moments(reference: Reference) -> Moments:
    return Moments.of(reference.features_MF)


def fd_to(x_NF: np.ndarray, reference: Moments) -> Statistic:
    """FD of features to a reference's moments, with each image's influence.

    With y = x - mu_g and delta = mu_g - mu_r the influence is I = 2 delta.y + y'(1 - A)y - tr((1 - A) C_g), where
    A = C_r^1/2 (C_r^1/2 C_g C_r^1/2)^-1/2 C_r^1/2 is the optimal transport map from the generated Gaussian to the real
    one (d tr M^1/2 = tr(M^-1/2 dM) / 2); the quadratic part is scaled by N / (N - 1), as the covariance is.
    """
    own = Moments.of(x_NF)
    values_F, vectors_FF = np.linalg.eigh(own.between(reference))
    kept = values_F > values_F[-1] * len(values_F) * np.finfo(np.float64).eps
    half_FR = reference.root_FF @ vectors_FF[:, kept] / values_F[kept] ** 0.25
    y_NF = x_NF - own.mean_F
    quadratic_N = (y_NF**2).sum(axis=1) - ((y_NF @ half_FR) ** 2).sum(axis=1)
    influence_N = 2 * y_NF @ (own.mean_F - reference.mean_F) + quadratic_N * len(y_NF) / (len(y_NF) - 1)
    return Statistic(_distance(own, reference, values_F), influence_N - influence_N.mean(), NOT_NEGATIVE)


def fd(judged: Judged, reference: Reference) -> Statistic:
    """FD of generated to real features, in squared feature units, >= 0, 0 = the same first two moments."""
    x_NF, _ = features(judged, reference)
    return fd_to(x_NF, _moments(reference))

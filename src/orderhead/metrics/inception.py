"""Inception-style score of a classifier's logits (Salimans et al. 2016, "Improved techniques for training GANs").

Legend: N generated images, K classes.
"""

from __future__ import annotations

import numpy as np

from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.statistic import Statistic


def log_softmax(logits_NK: np.ndarray) -> np.ndarray:
    """Log-probabilities, (N, K)."""
    shifted = logits_NK - logits_NK.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def inception_score(judged: Judged, reference: Reference | None = None) -> Statistic:
    """exp(mean_i KL(p_i || mean p)), in [1, K]: sure of each image, spread over the classes. Reads no real image.

    One value over all images, not the mean over ten splits. The influence of image i is IS (KL_i - mean KL): by the
    chain rule the change of the mean p adds nothing.
    """
    log_p_NK = log_softmax(judged.logits_NK)
    p_NK = np.exp(log_p_NK)
    mean_K = p_NK.mean(axis=0)
    log_mean_K = np.log(mean_K, out=np.zeros_like(mean_K), where=mean_K > 0)
    kl_N = (p_NK * (log_p_NK - log_mean_K)).sum(axis=1)
    value = float(np.exp(kl_N.mean()))
    return Statistic(value, value * (kl_N - kl_N.mean()), (1.0, float(log_p_NK.shape[1])))

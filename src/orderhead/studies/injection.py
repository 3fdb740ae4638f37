"""Ablation 2: how far drawn cells lie from those of a real image, with their own and with real tokens as context.

Legend: N images, T steps, L cells, C channels.
"""

from __future__ import annotations

import numpy as np

from orderhead.sampling.sample import Samples


def step_errors(samples: Samples, real_NLC: np.ndarray) -> np.ndarray:
    """Mean squared error of the cells drawn in each step to the real image's, (N, T), in squared token units.

    The document's MSE to GT, step by step; its number of an image is `image_errors`.
    """
    error_NL = _cell_errors(samples, real_NLC)
    step_NL, T = samples.trace.step_BL, len(samples.trace.counts_T)
    in_step_TNL = step_NL == np.arange(T)[:, None, None]
    return ((error_NL * in_step_TNL).sum(2) / in_step_TNL.sum(2)).T


def image_errors(samples: Samples, real_NLC: np.ndarray) -> np.ndarray:
    """Mean squared error over all cells of each image, (N,)."""
    return _cell_errors(samples, real_NLC).mean(1)


def _cell_errors(samples: Samples, real_NLC: np.ndarray) -> np.ndarray:
    drawn_NLC = samples.tokens_BLC.cpu().numpy().astype(np.float64)
    return ((drawn_NLC - real_NLC) ** 2).mean(2)

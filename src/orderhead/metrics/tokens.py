"""How far generated tokens lie from real ones, cell by cell: for cells that make no whole image together.

Legend: N generated images, M real images, L cells, C channels.
"""

from __future__ import annotations

import numpy as np

from orderhead.metrics.frechet import Moments, fd_to
from orderhead.metrics.statistic import NOT_NEGATIVE, Statistic


def token_distance(tokens_NLC: np.ndarray, real_MLC: np.ndarray) -> Statistic:
    """The Frechet distance of a cell's tokens to real tokens of that cell, mean over cells; squared token units, >= 0.

    Ours. It reads nothing about which cells go together, so that tokens drawn in real contexts, each blind to the
    others that were drawn, can be compared with whole generated images.
    """
    tokens, real = (x.astype(np.float64) for x in (tokens_NLC, real_MLC))
    cells = [fd_to(tokens[:, cell], Moments.of(real[:, cell])) for cell in range(tokens.shape[1])]
    influence_N = np.mean([cell.influence_N for cell in cells], axis=0)
    return Statistic(float(np.mean([cell.value for cell in cells])), influence_N, NOT_NEGATIVE)

"""How many tokens to reveal a step: what an image costs a body under a schedule, and the schedule that costs least.

Cells that are revealed in one step are drawn as if they were independent, given what was known before. Let b_k be the
bits that a cell of a real image costs the body when k cells chosen at random are known: its information curve. Under
counts c_1, c_2, ... with k_1 = 0, k_2 = c_1, ... cells known before each step an image costs, in the mean over orders,

    sum_t c_t b_{k_t}

bits: its entropy, plus what the sampler is off by in KL divergence, both by drawing cells together and by what the body
knows wrong. Steps add up, so the counts that cost least are a shortest path from 0 to L known cells (Lavenant and
Zanella 2025, "Error bounds and optimal schedules for masked diffusions with factorized approximations", where the body
knows nothing wrong and the curve falls; a body's own may rise again where it was not trained).

Legend: N images, L cells, S numbers of known cells, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np


def sizes(L: int, most: int = 33) -> list[int]:
    """At most so many numbers of known cells, from 0 to L - 1, closer together where the curve falls fastest."""
    return np.unique(((L - 1) * np.linspace(0, 1, most) ** 2).round().astype(int)).tolist()


def curve(bits_NS: np.ndarray, L: int) -> np.ndarray:
    """Bits (N, L) of a cell when 0, 1, ..., L - 1 are known, from those at `sizes(L)`; straight in between."""
    return np.stack([np.interp(np.arange(L), sizes(L), bits_S) for bits_S in bits_NS])


def cost(bits_NL: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Bits (N,) of each image under these counts, from the curves (N, L). ValueError where they do not sum to L."""
    if sum(counts) != bits_NL.shape[1]:
        raise ValueError(f"the counts sum to {sum(counts)}, the curve has {bits_NL.shape[1]} cells")
    known = list(accumulate(counts, initial=0))[:-1]
    return bits_NL[:, known] @ np.array(counts)


def informed(bits_L: np.ndarray, steps: int) -> tuple[int, ...]:
    """The counts (T,) of at least 1 that cost least under a curve (L,), by dynamic programming in O(T L^2).

    ValueError unless 1 <= steps <= L.
    """
    L = len(bits_L)
    if not 1 <= steps <= L:
        raise ValueError(f"steps lies in [1, {L}] (the cells to reveal), got {steps}")
    known, then = np.arange(L)[:, None], np.arange(L + 1)[None]
    step = np.where(then > known, (then - known) * bits_L[:, None], np.inf)  # cost of going from `known` to `then`
    best, origins = np.append(0.0, np.full(L, np.inf)), []
    for _ in range(steps):
        through = best[:-1, None] + step
        origins.append(through.argmin(0))
        best = through.min(0)
    edges = [L]
    for origin in reversed(origins):
        edges.append(int(origin[edges[-1]]))
    return tuple(int(count) for count in -np.diff(edges))[::-1]

"""What an order does, told without a model: neighbours that meet in one step, context, guidance, diversity.

Neighbours are the (up to) eight around a cell. Two of them that are revealed in the same step are drawn
independently of each other given the rest, which is where parallel decoding goes wrong.

Legend: N images, L cells, T steps, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orderhead.core.checks import within
from orderhead.core.grid import Grid
from orderhead.core.rng import generator
from orderhead.orders.combine import SpatialOrder
from orderhead.orders.guidance import CFG_RANGE, linear_guidance_T


@dataclass(frozen=True, eq=False)
class LintReport:
    """The linter's findings over N images.

    - `same_step_pairs`: pairs of neighbours revealed in the same step, mean over images.
    - `visible_neighbours`: neighbours revealed in an earlier step, mean over cells and images, in [0, 8). Every pair
      is either of the two, so this is (pairs - same_step_pairs) / L: orders differ in it only as they do above.
    - `mean_guidance`: mean over cells and images of the linear guidance 1 + (cfg - 1)(L - masked after the step) / L.
      It depends on the schedule alone; what an order decides is who gets it: `guidance_hw` and `guidance_spread`.
    - `guidance_spread`: standard deviation over cells of a cell's expected guidance, corrected for the noise of N
      images. 0: position and guidance are independent (the random order); else the order is confounded with guidance.
    - `entropy_bits`: -log2 of the chance that two images reveal a cell (all equally likely) in the same step; the
      collision (Renyi-2) entropy of the step, pooled over cells (ours). 0 where all images share an order, at most
      -log2 sum_t (n_t / L)^2, which the random order reaches. The chance is estimated without bias from all pairs of
      images; Shannon's would be biased by about half a bit at 64 images and 64 steps. It is about one cell at a time:
      a shifted Halton sequence has few orders in all and still nearly the random order's bits.
    - `rank_hw`: mean rank at which each cell is revealed, in [0, L - 1].
    """

    same_step_pairs: float
    visible_neighbours: float
    mean_guidance: float
    guidance_spread: float
    entropy_bits: float
    guidance_hw: np.ndarray
    rank_hw: np.ndarray


def lint(
    order: SpatialOrder, grid: Grid, counts: Sequence[int], seeds: int = 512, cfg_scale: float = 2.9, seed: int = 0
) -> LintReport:
    """Findings for `order` over images 0 ... `seeds` - 1 of `seed`; `cfg_scale` 2.9 is MAR-B's.

    512 images know the pairs to within 0.2 (one image's standard deviation is about 4), so the study's figures round.
    """
    return lint_orders(orders_NL(order, grid, counts, seed, range(seeds)), grid, counts, cfg_scale)


def lint_orders(orders_NL: np.ndarray, grid: Grid, counts: Sequence[int], cfg_scale: float = 2.9) -> LintReport:
    """Findings for orders that are drawn already, int (N, L): a learned policy's, or a trace's.

    ValueError for fewer than two orders, rows that are no permutations of the cells, counts that do not sum to L, or
    a guidance scale out of range.
    """
    within("cfg_scale", cfg_scale, *CFG_RANGE)
    _check(orders_NL, grid, counts)
    rank_NL = np.argsort(orders_NL, axis=1)
    step_NL = np.repeat(np.arange(len(counts)), counts)[rank_NL]
    guidance_NL = linear_guidance_T(counts, grid.L, cfg_scale)[step_NL]
    pairs_N, visible_NL = same_step_pairs(step_NL, grid), visible_neighbours(step_NL, grid)
    return LintReport(
        same_step_pairs=float(pairs_N.mean()),
        visible_neighbours=float(visible_NL.mean()),
        mean_guidance=float(guidance_NL.mean()),
        guidance_spread=_spread_of_means(guidance_NL),
        entropy_bits=step_entropy_bits(step_NL),
        guidance_hw=guidance_NL.mean(0).reshape(grid.h, grid.w),
        rank_hw=rank_NL.mean(0).reshape(grid.h, grid.w),
    )


def orders_NL(order: SpatialOrder, grid: Grid, counts: Sequence[int], seed: int, indices: Iterable[int]) -> np.ndarray:
    """The orders of images `indices` of `seed`, int64 (N, L); each is a function of (seed, index)."""
    return np.stack([order(grid, generator(seed, index), counts) for index in indices])


def neighbour_pairs(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of 8-neighbours, each once, as two int arrays of cells: h(w-1) + (h-1)w + 2(h-1)(w-1) of them."""
    cell = np.arange(grid.L).reshape(grid.h, grid.w)
    across, down = (cell[:, :-1], cell[:, 1:]), (cell[:-1], cell[1:])
    falling, rising = (cell[:-1, :-1], cell[1:, 1:]), (cell[1:, :-1], cell[:-1, 1:])
    a, b = zip(across, down, falling, rising, strict=True)
    return np.concatenate([x.ravel() for x in a]), np.concatenate([x.ravel() for x in b])


def same_step_pairs(step_NL: np.ndarray, grid: Grid) -> np.ndarray:
    """Pairs of 8-neighbours revealed in the same step, int (N,), from the step at which each cell is revealed."""
    a, b = neighbour_pairs(grid)
    return (step_NL[:, a] == step_NL[:, b]).sum(1)


def visible_neighbours(step_NL: np.ndarray, grid: Grid) -> np.ndarray:
    """8-neighbours that were revealed in an earlier step, int (N, L)."""
    a, b = neighbour_pairs(grid)
    visible_LN = np.zeros(step_NL.shape[::-1], np.int64)
    np.add.at(visible_LN, a, (step_NL[:, b] < step_NL[:, a]).T)
    np.add.at(visible_LN, b, (step_NL[:, a] < step_NL[:, b]).T)
    return visible_LN.T


def step_entropy_bits(step_NL: np.ndarray) -> float:
    """-log2 of the share of (cell, pair of images) that agree on the step; where none agree, as if one did."""
    N, L = step_NL.shape
    count_TL = np.stack([(step_NL == t).sum(0) for t in range(step_NL.max() + 1)])
    agree, possible = int((count_TL * (count_TL - 1) // 2).sum()), N * (N - 1) // 2 * L
    return float(np.log2(possible / max(agree, 1)))


def _spread_of_means(values_NL: np.ndarray) -> float:
    """Standard deviation over cells of the expected value, without the part that averaging N images leaves."""
    noise = values_NL.var(0, ddof=1).mean() / len(values_NL)
    return float(np.sqrt(max(values_NL.mean(0).var() - noise, 0.0)))


def _check(orders_NL: np.ndarray, grid: Grid, counts: Sequence[int]) -> None:
    if orders_NL.ndim != 2 or len(orders_NL) < 2 or orders_NL.shape[1] != grid.L:
        raise ValueError(f"expected two or more orders of {grid.L} cells as an (N, L) array, got {orders_NL.shape}")
    if not (np.sort(orders_NL, axis=1) == np.arange(grid.L)).all():
        raise ValueError(f"each order lists every cell of a {grid} grid once; at least one row does not")
    if sum(counts) != grid.L or min(counts, default=0) < 0:
        raise ValueError(f"the tokens per step sum to {sum(counts)}; a {grid} grid has {grid.L} cells")

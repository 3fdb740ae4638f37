"""Orders that look at the grid alone: (grid, the image's generator, tokens per step) -> a permutation of the cells.

`order[k]` is the cell revealed k-th, k = 0 first (the published code generates from the tail of its arrays). Orders
without randomness ignore the generator; only `spread`, `spread_after` and `apart` read the tokens per step. Where
sources leave a choice, the docstring says which one is ours.

Legend: L cells; rows and columns are those of the cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from orderhead.core.grid import Grid
from orderhead.orders.combine import (
    Rng,
    SpatialOrder,
    apart,
    blend,
    check_fraction,
    flip,
    neighbours,
    perturb,
    reverse,
    shift,
    then,
)


def random(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """A fresh permutation per image: MAR's own order (Li et al. 2024, "Autoregressive image generation without VQ").

    Read from its tail, as the published code does: with NumPy's legacy generator it is that code's order.
    """
    return rng.permutation(grid.L)[::-1].astype(np.int64)


def raster(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Row by row from the top-left (ours under the cosine schedule; one token a step in `ar_raster`, MAR table 1)."""
    return np.arange(grid.L)


def center_spiral(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Ascending r^2 + 0.1 (angle + pi) / (2 pi) from the grid's centre ((h - 1)/2, (w - 1)/2): rings, each clockwise.

    The rule is the document's; the angle is ours: atan2(row, column), so a ring begins just above its left end.
    """
    return _center_spiral(grid).copy()


edge_spiral = reverse(center_spiral)
"""Descending in what `center_spiral` ascends in: from the corners to the centre (the document's)."""

center_perturbed = perturb(center_spiral, 0.1)
"""The centre spiral with floor(0.1 L) random swaps per image (the document's)."""


def multiscale(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Strides 4, 2, 1 from the top-left, new cells only (16, 48, 192 of 256), shuffled inside each level (document)."""
    return _shuffled_sets(_multiscale_level(grid), rng)


def blockwise(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """4 x 4 blocks in random order, each in raster order; blocks at the far edges may be smaller.

    The document leaves both choices open. This is the default (ours): per image it differs, as every order that did
    well does, and inside a block it is the plain local scan that "blockwise" means elsewhere.
    """
    return np.argsort(rng.permutation(grid.L)[_block(grid)], kind="stable")


def blockwise_raster(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """4 x 4 blocks in raster order, each in raster order: the same for every image."""
    return np.argsort(_block(grid), kind="stable")


def blockwise_shuffled(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """4 x 4 blocks in raster order, shuffled inside a block."""
    return _shuffled_sets(_block(grid), rng)


def blockwise_random(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """4 x 4 blocks in random order, shuffled inside a block."""
    return _shuffled_sets(rng.permutation(grid.L)[_block(grid)], rng)


def halton_fixed(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Cells by the first hit of the Halton sequence, base 2 down and base 3 across, from its first point (1/2, 1/3) on.

    16 x 16 takes 685 points (Besnier et al. 2025, "Halton scheduler for masked generative image transformer").
    """
    return _halton(grid)[0].copy()


halton = flip(shift(halton_fixed))
"""`halton_fixed` with a toroidal shift on both axes and flips per image: unshifted it costs diversity."""


def checkerboard(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Sets by two bisections of (row + column) mod 4: 0, 2 (the even squares), then 1, 3; shuffled inside a set.

    The checkerboard stages of GtR ("Generation then Reconstruction", 2025). Two bisections are ours: a third makes
    the sets thin diagonals, in which neighbours meet twice as often as under the random order.
    """
    diagonal = (grid.rows_L + grid.cols_L) % 4
    return _shuffled_sets(diagonal // 2 + 2 * (diagonal % 2), rng)


def quincunx(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Even row and even column, then both odd (together a quincunx), then odd sums; shuffled inside each of the three.

    The lattice is that of quincunx subband coding (Kovacevic and Vetterli 1992); coarser levels change nothing here.
    """
    rows, cols = grid.rows_L, grid.cols_L
    return _shuffled_sets(np.where((rows + cols) % 2, 2, rows % 2), rng)


def quadtree(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Recursive round-robin of quadrants, top-left, bottom-right, top-right, bottom-left: progressive checkerboard.

    The same for every image, as published (Eigen 2026, "Progressive checkerboards for autoregressive multiscale image
    generation"); sizes that are no power of two are cut from the next one.
    """
    return np.argsort(_quadtree_key(grid.rows_L, grid.cols_L, _bits(grid)))


def quadtree_shuffled(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """`quadtree` with, per image and level, the first quadrant and the first of the other diagonal at random (ours).

    The first two stay on a diagonal; on a power of two every cell comes first equally often.
    """
    bits = _bits(grid)
    flip_rows, flip_cols, swap = (int(u * 2**bits) for u in rng.random(3))
    rows, cols = grid.rows_L ^ flip_rows, grid.cols_L ^ flip_cols
    differ = (rows ^ cols) & swap
    return np.argsort(_quadtree_key(rows ^ differ, cols ^ differ, bits))


def spread(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
    """Each step's cells chosen greedily: near visible cells, far from each other.

    The schedule of LPD (Zhang et al. 2025, "Locality-aware parallel decoding", thresholds 1 and 1): first cells whose
    visible 8-neighbours' inverse distances sum to at least 1, largest sum first, none next to another of its step;
    where these run out, the masked cell farthest from its step's. Ties are broken at random.
    """
    return _spread(grid, rng, counts, np.empty(0, np.int64))


def spread_after(first: SpatialOrder, fraction: float) -> SpatialOrder:
    """The first floor(fraction L) reveals of `first`, then `spread`, which sees them, for the rest."""
    check_fraction(fraction)
    return lambda grid, rng, counts: _spread(grid, rng, counts, first(grid, rng, counts)[: int(fraction * grid.L)])


SPATIAL: Mapping[str, SpatialOrder] = {
    "random": random,
    "ar_random": random,
    "ar_raster": raster,
    "raster": raster,
    "center_spiral": center_spiral,
    "edge_spiral": edge_spiral,
    "center_perturbed": center_perturbed,
    "multiscale": multiscale,
    "blockwise": blockwise,
    "blockwise_raster": blockwise_raster,
    "blockwise_shuffled": blockwise_shuffled,
    "blockwise_random": blockwise_random,
    "halton": halton,
    "halton_fixed": halton_fixed,
    "checkerboard": checkerboard,
    "quincunx": quincunx,
    "quadtree": quadtree,
    "quadtree_shuffled": quadtree_shuffled,
    "spread": spread,
    # What may beat random (ours): stochastic per image, the first reveals random-like, a step's cells apart.
    "random_apart": apart(random),
    "random_then_spread": spread_after(random, 0.3),
    "random_then_halton": then(random, halton, 0.3),
    "random_then_quadtree": then(random, quadtree_shuffled, 0.3),
    "multiscale_apart": apart(flip(shift(multiscale))),
    "center_halton": blend(halton, center_spiral, 0.3),
}
"""Every spatial order by name."""

SCHEDULE_OF: Mapping[str, str] = {"ar_random": "one_by_one", "ar_raster": "one_by_one"}
"""Orders that mean a schedule other than the cosine one."""


def _shuffled_sets(sets_L: np.ndarray, rng: Rng) -> np.ndarray:
    """Lower sets first, at random inside a set."""
    return np.lexsort((rng.random(len(sets_L)), sets_L))


@lru_cache(maxsize=32)
def _center_spiral(grid: Grid) -> np.ndarray:
    rows, cols = grid.rows_L - (grid.h - 1) / 2, grid.cols_L - (grid.w - 1) / 2
    return np.argsort(rows**2 + cols**2 + 0.1 * (np.arctan2(rows, cols) + np.pi) / (2 * np.pi), kind="stable")


def _multiscale_level(grid: Grid) -> np.ndarray:
    """0, 1, 2 for the cells that strides 4, 2, 1 reach first."""
    stride = np.gcd(np.gcd(grid.rows_L, grid.cols_L), 4)  # the largest of 4, 2, 1 that divides both; gcd(0, 4) = 4
    return 2 - stride // 2


def _block(grid: Grid, side: int = 4) -> np.ndarray:
    """Raster index of the block that each cell lies in."""
    return grid.rows_L // side * -(-grid.w // side) + grid.cols_L // side


@lru_cache(maxsize=32)
def _halton(grid: Grid) -> tuple[np.ndarray, int]:
    """Cells by first hit, and the number of points that this takes."""
    points = 4 * grid.L
    while True:
        index = np.arange(1, points + 1)
        cells = _radical_inverse_cell(index, 2, grid.h) * grid.w + _radical_inverse_cell(index, 3, grid.w)
        found, first = np.unique(cells, return_index=True)
        if len(found) == grid.L:
            return cells[np.sort(first)], int(first.max()) + 1
        points *= 2


def _radical_inverse_cell(index: np.ndarray, base: int, size: int) -> np.ndarray:
    """floor(size x the index with its digits mirrored at the point), in exact integers."""
    mirrored, scale, rest = np.zeros_like(index), 1, index
    while rest.any():
        rest, digit = np.divmod(rest, base)
        mirrored, scale = mirrored * base + digit, scale * base
    return mirrored * size // scale


def _bits(grid: Grid) -> int:
    return (max(grid.h, grid.w) - 1).bit_length()


def _quadtree_key(rows: np.ndarray, cols: np.ndarray, bits: int) -> np.ndarray:
    """The rank of (row, column) in a 2^bits square: the outermost quadrant is the last digit in base 4."""
    turn = np.array([0, 2, 3, 1])  # of top-left, top-right, bottom-left, bottom-right
    levels = [turn[2 * (rows >> bit & 1) + (cols >> bit & 1)] for bit in reversed(range(bits))]
    return sum((digit << 2 * level for level, digit in enumerate(levels)), np.zeros_like(rows))


def _spread(grid: Grid, rng: Rng, counts: Sequence[int], head: np.ndarray) -> np.ndarray:
    """`spread` once the cells of `head` are revealed, in their order, one step after the other like all cells."""
    given, order, near_L, masked_L = head.tolist(), [], np.zeros(grid.L), np.ones(grid.L, bool)
    for count in counts:
        step, given = given[:count], given[count:]
        masked_L[step] = False
        step += _spread_step(grid, near_L, masked_L, step, count - len(step), rng)
        for cell in step:
            around, closeness = _proximity(grid)[cell]
            near_L[around] += closeness
        order += step
    return np.array(order, np.int64)


def _spread_step(
    grid: Grid, near_L: np.ndarray, masked_L: np.ndarray, step: list[int], count: int, rng: Rng
) -> list[int]:
    """`count` more cells beside those of `step`; they leave `masked_L`."""
    ties_L, chosen, around = 1e-3 * rng.random(grid.L), list(step), _proximity(grid)
    score_L = np.where(masked_L & (near_L > 1 - 1e-9), near_L + ties_L, -1)
    for cell in step:
        score_L[around[cell][0]] = -1
    for _ in range(count):
        cell = int(score_L.argmax())
        if score_L[cell] < 0:
            cell = int(np.where(masked_L, _gap(grid, chosen) + ties_L, -1).argmax())
        chosen.append(cell)
        masked_L[cell] = False
        score_L[cell] = score_L[around[cell][0]] = -1
    return chosen[len(step) :]


def _gap(grid: Grid, cells: list[int]) -> np.ndarray:
    """Squared distance of every cell to the nearest of `cells`; the same everywhere where there are none."""
    rows, cols = np.divmod(np.arange(grid.L), grid.w)
    k = np.array(cells, np.int64)[:, None]
    return ((rows - k // grid.w) ** 2 + (cols - k % grid.w) ** 2).min(0, initial=grid.h**2 + grid.w**2)


@lru_cache(maxsize=8)
def _proximity(grid: Grid) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The 8-neighbours of each cell and the inverse distances to them."""
    lists = [np.array(cells, np.int64) for cells in neighbours(grid)]
    return tuple(
        (k, 1 / np.hypot(k // grid.w - cell // grid.w, k % grid.w - cell % grid.w)) for cell, k in enumerate(lists)
    )

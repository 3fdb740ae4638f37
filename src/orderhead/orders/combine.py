"""Spatial orders made from spatial orders: each combinator maps an order to another one.

All of them draw from the image's own generator, in the order in which they are written: `blend(a, b, w)` asks `a`
first, `shift(a)` asks `a` and then draws its shift.

Legend: L cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from orderhead.core.grid import Grid

Rng = np.random.Generator | np.random.RandomState
"""The image's own generator. Orders call only `permutation` and `random`, which both kinds have."""

SpatialOrder = Callable[[Grid, Rng, Sequence[int]], np.ndarray]
"""Grid, generator, tokens revealed per step (they sum to L) -> int64 (L,): the k-th entry is the cell revealed k-th."""


def reverse(order: SpatialOrder) -> SpatialOrder:
    """The same cells, last first."""
    return lambda grid, rng, counts: order(grid, rng, counts)[::-1].copy()


def perturb(order: SpatialOrder, fraction: float) -> SpatialOrder:
    """floor(fraction L) swaps of two positions drawn at random, one after the other. `fraction` in [0, 1]."""
    check_fraction(fraction)

    def perturbed(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        cells = order(grid, rng, counts).copy()
        for u, v in rng.random((int(fraction * grid.L), 2)):
            a = int(u * grid.L)
            b = (a + 1 + int(v * (grid.L - 1))) % grid.L  # any other position
            cells[[a, b]] = cells[[b, a]]
        return cells

    return perturbed


def blend(a: SpatialOrder, b: SpatialOrder, weight: float) -> SpatialOrder:
    """Sort by (1 - weight) rank in `a` + weight rank in `b`; ties by raster index. `weight` in [0, 1]."""
    check_fraction(weight)

    def blended(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        rank_a, rank_b = np.argsort(a(grid, rng, counts)), np.argsort(b(grid, rng, counts))
        return np.argsort((1 - weight) * rank_a + weight * rank_b, kind="stable")

    return blended


def shift(order: SpatialOrder) -> SpatialOrder:
    """Move the whole order by a random number of rows and columns per image; it wraps around."""

    def shifted(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        cells, (u, v) = order(grid, rng, counts), rng.random(2)
        rows = (cells // grid.w + int(u * grid.h)) % grid.h
        return rows * grid.w + (cells % grid.w + int(v * grid.w)) % grid.w

    return shifted


def flip(order: SpatialOrder) -> SpatialOrder:
    """Mirror the order top-bottom and left-right, each for every second image at random."""

    def flipped(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        cells, (u, v) = order(grid, rng, counts), rng.random(2)
        rows, cols = cells // grid.w, cells % grid.w
        rows, cols = (grid.h - 1 - rows if u < 0.5 else rows), (grid.w - 1 - cols if v < 0.5 else cols)
        return rows * grid.w + cols

    return flipped


def then(first: SpatialOrder, second: SpatialOrder, fraction: float) -> SpatialOrder:
    """The first floor(fraction L) reveals of `first`, then the remaining cells as `second` orders them.

    `second` does not see what `first` revealed, and its steps move: for `spread` use `spatial.spread_after`.
    """
    check_fraction(fraction)

    def chained(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        head = first(grid, rng, counts)[: int(fraction * grid.L)]
        rest = second(grid, rng, counts)
        return np.concatenate([head, rest[~np.isin(rest, head)]])

    return chained


def apart(order: SpatialOrder) -> SpatialOrder:
    """Each step takes the earliest cells of `order` of which no two are 8-neighbours, as long as there are any.

    A cell that is passed over stays at the head of the queue for the next step, so the masks stay close to `order`'s
    (ours; the repulsion of LPD, Zhang et al. 2025, without its proximity).
    """

    def spaced(grid: Grid, rng: Rng, counts: Sequence[int]) -> np.ndarray:
        waiting, order_L = order(grid, rng, counts).tolist(), []
        for count in counts:
            step = _first_apart(waiting, count, neighbours(grid))
            waiting = [cell for cell in waiting if cell not in step]
            order_L += step
        return np.array(order_L, np.int64)

    return spaced


def _first_apart(waiting: list[int], count: int, near: tuple[tuple[int, ...], ...]) -> dict[int, None]:
    """The first `count` cells of which no two are neighbours, else the first others too (a dict: in order)."""
    step, blocked = {}, set()
    for cell in waiting:
        if len(step) == count:
            return step
        if cell not in blocked:
            step[cell] = None
            blocked.update(near[cell])
    others = [cell for cell in waiting if cell not in step]
    return step | dict.fromkeys(others[: count - len(step)])


@lru_cache(maxsize=8)
def neighbours(grid: Grid) -> tuple[tuple[int, ...], ...]:
    """The (up to) eight cells around each cell, in raster order."""
    h, w = grid.h, grid.w
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    cells = [(r, c) for r in range(h) for c in range(w)]
    return tuple(tuple((r + i) * w + c + j for i, j in around if 0 <= r + i < h and 0 <= c + j < w) for r, c in cells)


def check_fraction(fraction: float) -> None:
    """ValueError outside [0, 1]."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of the cells lies in [0, 1], got {fraction}")

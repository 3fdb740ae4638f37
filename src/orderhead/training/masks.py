"""Which cells are hidden from a model in training: MAR's own masks, and masks that show what MAR's never do.

Legend: B batch, L cells, K orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from orderhead.core.grid import Grid
from orderhead.core.rng import generator
from orderhead.orders.spatial import SPATIAL

Masks = Callable[[int, Grid, torch.Generator], Tensor]
"""B, grid, generator -> (B, L) bool, True = masked, on the CPU; every row has the same number of True cells."""

TRAINED_ORDERS = ("raster", "center_spiral", "edge_spiral")
"""Orders without randomness, whose contexts `ordered` shows."""


def random_mask(B: int, L: int, masked: int, rng: torch.Generator) -> Tensor:
    """(B, L) bool with exactly `masked` True cells in each row, uniformly at random."""
    rank_BL = torch.rand(B, L, generator=rng).argsort(1).argsort(1)
    return rank_BL < masked


def mask_ratio(rng: torch.Generator, low: float = 0.7, std: float = 0.25) -> float:
    """Truncated normal (mean 1, std 0.25) on [low, 1], by inverting the CDF (MAR section 4.1)."""
    normal = torch.distributions.Normal(1.0, std)
    bottom = normal.cdf(torch.tensor(low))
    u = torch.rand((), generator=rng)
    return float(normal.icdf(bottom + u * (0.5 - bottom)).clamp(low, 1.0))


def mar_mask(B: int, L: int, rng: torch.Generator) -> Tensor:
    """(B, L) bool as MAR trains under it: `random_mask` with one `mask_ratio` for all rows."""
    return random_mask(B, L, math.ceil(L * mask_ratio(rng)), rng)


def published(B: int, grid: Grid, rng: torch.Generator) -> Tensor:
    """MAR's: random cells, 70 to 100 % of them masked. No context of more than 30 % of the cells is ever shown."""
    return mar_mask(B, grid.L, rng)


def uniform(B: int, grid: Grid, rng: torch.Generator) -> Tensor:
    """Random cells, from one masked to all, each number as often: every context that random order meets (ours)."""
    return random_mask(B, grid.L, _masked(grid, rng), rng)


def ordered(B: int, grid: Grid, rng: torch.Generator) -> Tensor:
    """`uniform` for half of the batch; the other half sees the first cells of one of `TRAINED_ORDERS` (ours).

    A body so trained has met every context that those orders ask it about.
    """
    masked, half = _masked(grid, rng), B // 2
    rank_KL = _ranks(grid)
    rank_BL = rank_KL[torch.randint(0, len(rank_KL), (half,), generator=rng)]
    return torch.cat([rank_BL >= grid.L - masked, random_mask(B - half, grid.L, masked, rng)])


def _masked(grid: Grid, rng: torch.Generator) -> int:
    return int(torch.randint(1, grid.L + 1, (), generator=rng))


@cache
def _ranks(grid: Grid) -> Tensor:
    """Rank of each cell, 0 = first, under each of `TRAINED_ORDERS`, (K, L)."""
    orders = [SPATIAL[name](grid, generator(0, 0), (1,) * grid.L) for name in TRAINED_ORDERS]
    return torch.from_numpy(np.argsort(np.stack(orders), axis=1))


MASKS: Mapping[str, Masks] = {"published": published, "uniform": uniform, "ordered": ordered}

"""How strongly each revealed cell is pulled towards its class (classifier-free guidance, Ho and Salimans 2022).

epsilon = epsilon_null + g (epsilon_class - epsilon_null); what is chosen here is g for every cell. `linear` is the
published schedule and is confounded with order: cells revealed early get almost none. `equalized` takes that away.

Legend: B batch, L cells, N revealed cells of all images or N orders, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from orderhead.orders.guidance import linear_guidance_T
from orderhead.orders.state import DecodeState

Guidance = Callable[[DecodeState, Tensor], Tensor]
"""State, where_BL -> g (N,) of the cells where `where_BL` is True, in raster order."""


def linear(cfg_scale: float) -> Guidance:
    """The published schedule: from nearly 1 at the first step to cfg at the last, the same for all cells of a step."""

    def guidance(state: DecodeState, where_BL: Tensor) -> Tensor:
        g = linear_guidance_T(state.counts, state.grid.L, cfg_scale)[state.step]
        return torch.full((int(where_BL.sum()),), float(g), device=where_BL.device)

    return guidance


def constant(cfg_scale: float) -> Guidance:
    """g = cfg everywhere."""
    return lambda state, where_BL: torch.full((int(where_BL.sum()),), cfg_scale, device=where_BL.device)


def expected_L(orders_NL: np.ndarray, counts: Sequence[int], cfg_scale: float) -> np.ndarray:
    """Mean linear guidance of each cell over orders (N, L), float64 (L,)."""
    cells = orders_NL.shape[1]
    by_rank = np.repeat(linear_guidance_T(counts, cells, cfg_scale), counts)
    return by_rank[np.argsort(orders_NL, axis=1)].mean(0)


def equalized(cfg_scale: float, orders_NL: np.ndarray, counts: Sequence[int]) -> Guidance:
    """Linear guidance, shifted cell by cell so that each cell's mean is what it gets under the random order.

    Under the random order every cell's mean is the mean over ranks already (what is shifted there is the noise of a
    finite number of draws); under a fixed order every cell gets exactly that mean. `orders_NL` are
    draws of the order in question.
    """
    wanted = expected_L(np.arange(sum(counts))[None], counts, cfg_scale).mean()
    shift_L = torch.from_numpy(wanted - expected_L(orders_NL, counts, cfg_scale)).float()
    base = linear(cfg_scale)

    def guidance(state: DecodeState, where_BL: Tensor) -> Tensor:
        return base(state, where_BL) + shift_L.to(where_BL.device).expand_as(where_BL)[where_BL]

    return guidance

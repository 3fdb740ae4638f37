"""Which of a step's cells get more denoising steps, and which fewer; about as many in all. Ours.

Within one image's step, cells are ranked by how much they seem to need (ties by the order's score) and get from 4/3 to
2/3 of the step's number, in at most four groups. Ranks, not values: so every image costs the same, and none depends on
who is beside it.

Legend: B batch, L cells, H x W the grid, C channels, K cells of the step in an image, N = B K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from orderhead.body.diffusion import TIMESTEPS
from orderhead.orders.state import DecodeState

Need = Callable[[DecodeState, Tensor], Tensor]
"""State, where_BL -> (N,) of the cells where `where_BL` is True, in raster order; higher = more denoising steps."""

GROUPS, SPREAD = 4, 1 / 3


def pull(state: DecodeState, where_BL: Tensor) -> Tensor:
    """How far the label moves the body's condition: the distance of z with it and without."""
    assert state.conditions is not None
    assert state.null_conditions is not None, "pull is of guidance"
    return (state.conditions.at(where_BL) - state.null_conditions.at(where_BL)).float().norm(dim=-1)


def contrast(state: DecodeState, where_BL: Tensor) -> Tensor:
    """High-frequency energy: the variance of the known tokens around the cell (8 neighbours), summed over channels.

    Infinite where fewer than two are known.
    """
    grid = state.grid.h, state.grid.w
    known_B1HW = (~state.mask_BL).float().unflatten(1, grid)[:, None]
    tokens_BCHW = state.tokens_BLC.float().transpose(1, 2).unflatten(2, grid) * known_B1HW

    def around(x_BCHW: Tensor) -> Tensor:
        return F.avg_pool2d(x_BCHW, 3, stride=1, padding=1, divisor_override=1)

    count_B1HW = around(known_B1HW)
    variance_BCHW = around(tokens_BCHW.square()) / count_B1HW - (around(tokens_BCHW) / count_B1HW).square()
    return torch.where(count_B1HW < 2, torch.inf, variance_BCHW.sum(1, keepdim=True)).flatten(1)[where_BL]


def score(state: DecodeState, where_BL: Tensor) -> Tensor:
    """The order's own score: what it reveals first in the step."""
    assert state.scores_BL is not None
    return state.scores_BL[where_BL]


NEEDS: Mapping[str, Need | None] = {"even": None, "pull": pull, "contrast": contrast, "score": score}


def by_rank(steps: int, cells: int) -> tuple[int, ...]:
    """The denoising steps of an image's cells in one unmasking step, from the neediest on."""
    groups = min(GROUPS, cells)
    factors = [1 + SPREAD * (1 - 2 * group / (groups - 1)) for group in range(groups)] if groups > 1 else [1.0]
    each = [min(max(1, round(steps * factor)), TIMESTEPS) for factor in factors]
    return tuple(each[round(rank * (groups - 1) / max(1, cells - 1))] for rank in range(cells))


def parts(need: Need, state: DecodeState, where_BL: Tensor, steps: int) -> list[tuple[Tensor, int]]:
    """Numbers of cells in [0, N), and the denoising steps of each such part; together all cells, each once."""
    need_BK, score_BK = (of(state, where_BL).unflatten(0, (len(where_BL), -1)) for of in (need, score))
    B, K = need_BK.shape
    ranked_BK = score_BK.argsort(dim=1, descending=True, stable=True)
    ranked_BK = ranked_BK.gather(1, need_BK.gather(1, ranked_BK).argsort(dim=1, descending=True, stable=True))
    ranked_BK = ranked_BK + K * torch.arange(B, device=ranked_BK.device)[:, None]
    found, first = [], 0
    for own, members in groupby(by_rank(steps, K)):
        last = first + len(list(members))
        found.append((ranked_BK[:, first:last].flatten(), own))
        first = last
    return found

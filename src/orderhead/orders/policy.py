"""A policy says where to reveal next: it maps the decode state to a score per cell, higher = earlier.

Anything callable will do. Spatial orders become policies here; learned heads close over their network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from orderhead.orders.spatial import SPATIAL, SpatialOrder
from orderhead.orders.state import DecodeState


class Policy(Protocol):
    def __call__(self, state: DecodeState, /) -> Tensor:
        """Scores (B, L), higher = revealed earlier; scores of cells that are known already are not read."""
        ...


def ask(policy: Policy, state: DecodeState) -> Tensor:
    """The policy's scores (B, L), floating, where the state is; NumPy arrays and whole numbers will do too.

    ValueError where they are anything else, there is not one a cell, or one is NaN.
    """
    if not callable(policy):
        raise ValueError(f"an order is a name or a callable from the decode state to scores; got {policy!r}")
    scores: Any = policy(state)
    shape = tuple(state.mask_BL.shape)
    if isinstance(scores, np.ndarray) and scores.dtype.kind in "biuf":
        scores = torch.from_numpy(np.ascontiguousarray(scores))
    if not isinstance(scores, Tensor) or scores.is_complex():
        kind = scores.dtype if isinstance(scores, Tensor | np.ndarray) else type(scores).__name__
        raise ValueError(f"a policy gives scores {shape} as a tensor of real numbers, higher = earlier; got {kind}")
    if scores.shape != shape:
        raise ValueError(f"a policy gives scores {shape}, one a cell; got {tuple(scores.shape)}")
    scores = scores if scores.is_floating_point() else scores.float()
    if scores.isnan().any():
        raise ValueError("the policy gave scores that are NaN; its head has diverged or its body's z is not finite")
    return scores.to(state.mask_BL.device)


@dataclass(frozen=True)
class Spatial:
    """A spatial order as a policy: it looks at the grid, the schedule and the image's number, never at z.

    Nor at which cells an inpainting knows: an order that goes by its steps (`apart`, `spread`) takes its own first ones
    for those, so there it promises nothing about the cells of a step.
    """

    order: SpatialOrder

    def __call__(self, state: DecodeState) -> Tensor:
        known = state.grid.L - sum(state.counts)
        counts = (known, *state.counts) if known else state.counts
        orders = [self.order(state.grid, state.rng.generator(i), counts) for i in state.index_B.tolist()]
        return -torch.from_numpy(np.argsort(np.stack(orders), axis=1)).to(state.mask_BL.device).float()


@dataclass(frozen=True)
class Shifted:
    """Any order, moved by a random number of rows and columns an image; it wraps around (`combine.shift` for policies).

    The shift comes from the noise of a cell that no image has, so it is independent of the order's own draws.
    """

    policy: Policy

    def __call__(self, state: DecodeState) -> Tensor:
        grid, scores_BL = state.grid, ask(self.policy, state)
        uniform_B2 = torch.special.ndtr(state.rng.noise(state.index_B, torch.full_like(state.index_B, grid.L), 0, 2))
        size = torch.tensor([grid.h, grid.w], device=uniform_B2.device)
        row_B, col_B = (uniform_B2 * size).long().clamp(max=size - 1).unbind(1)
        row_L, col_L = (torch.arange(grid.L, device=scores_BL.device) // grid.w, torch.arange(grid.L) % grid.w)
        from_BL = (row_L - row_B[:, None]) % grid.h * grid.w + (col_L.to(row_L.device) - col_B[:, None]) % grid.w
        return scores_BL.gather(1, from_BL)


@dataclass(frozen=True, eq=False)
class Given:
    """Scores that were found beforehand, such as an oracle's about real images: row i is image i's.

    ValueError for an image that has no row.
    """

    scores_NL: Tensor

    @property
    def images(self) -> int:
        return len(self.scores_NL)

    def __call__(self, state: DecodeState) -> Tensor:
        index_B = state.index_B.cpu()
        if int(index_B.max()) >= self.images:
            raise ValueError(f"scores were given for the images 0 to {self.images - 1}, not for {int(index_B.max())}")
        return self.scores_NL[index_B].to(state.mask_BL.device)


POLICIES: Mapping[str, Policy] = {name: Spatial(order) for name, order in SPATIAL.items()}

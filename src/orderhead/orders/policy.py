"""A policy says where to reveal next: it maps the decode state to a score per cell, higher = earlier.

Anything callable will do. Spatial orders become policies here; learned heads close over their network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from orderhead.orders.spatial import SPATIAL, SpatialOrder
from orderhead.orders.state import DecodeState


class Policy(Protocol):
    def __call__(self, state: DecodeState, /) -> Tensor:
        """Scores (B, L), higher = revealed earlier; scores of cells that are known already are not read."""
        ...


@dataclass(frozen=True)
class Spatial:
    """A spatial order as a policy: it looks at the grid, the schedule and the image's number, never at z."""

    order: SpatialOrder

    def __call__(self, state: DecodeState) -> Tensor:
        known = state.grid.L - sum(state.counts)
        counts = (known, *state.counts) if known else state.counts
        orders = [self.order(state.grid, state.rng.generator(i), counts) for i in state.index_B.tolist()]
        return -torch.from_numpy(np.argsort(np.stack(orders), axis=1)).to(state.mask_BL.device).float()


POLICIES: Mapping[str, Policy] = {name: Spatial(order) for name, order in SPATIAL.items()}

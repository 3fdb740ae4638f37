"""What a body gives for a step: a condition z for each cell, computed where it is asked for.

Legend: B batch, L cells, D width, N asked cells of all images.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Conditions(Protocol):
    """A body's decoder output at one step (`body.conditions`)."""

    @property
    def everywhere(self) -> Tensor:
        """(B, L, D)."""
        ...

    def at(self, where_BL: Tensor) -> Tensor:
        """(N, D) where `where_BL` is True, in raster order."""
        ...

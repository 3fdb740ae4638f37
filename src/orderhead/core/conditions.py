"""What a body gives for a step: a condition z for each cell, computed where it is asked for.

Legend: B batch, L cells, D width, N asked cells of all images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from torch import Tensor


class Conditions(Protocol):
    """A body's decoder output at one step (`body.conditions`)."""

    @cached_property
    def everywhere(self) -> Tensor:
        """(B, L, D)."""
        ...

    def at(self, where_BL: Tensor) -> Tensor:
        """(N, D) where `where_BL` is True, in raster order."""
        ...


class BatchConditions(Conditions, Protocol):
    """Those of a whole pass, which may hold two batches."""

    def halves(self) -> tuple[Conditions, Conditions]:
        """Those of the first and of the second half of its rows."""
        ...


Passes = Callable[[Tensor, Tensor, Tensor], BatchConditions]
"""Tokens (B, L, C), mask (B, L; True = masked), labels (B,) -> conditions: a body, asked step by step."""

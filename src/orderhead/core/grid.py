"""The grid of cells that an image's tokens lie on."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

MOST_CELLS = 2**14
"""The linter takes 2 GB for so many."""


@dataclass(frozen=True)
class Grid:
    """`h` rows and `w` columns of cells; cell `i` lies at row `i // w`, column `i % w` (raster index)."""

    h: int
    w: int

    def __post_init__(self) -> None:
        if self.h < 1 or self.w < 1:
            raise ValueError(f"a grid has at least one row and one column, got {self.h} x {self.w}")
        if self.L > MOST_CELLS:
            raise ValueError(f"a grid has at most {MOST_CELLS:,} cells, for example 128x128; got {self.h} x {self.w}")

    @classmethod
    def parse(cls, text: str) -> Grid:
        """`"16x16"` -> Grid(16, 16). ValueError names the form that is expected."""
        match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", text)
        if not match:
            raise ValueError(f"a grid is written ROWSxCOLUMNS, for example 16x16; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    @property
    def L(self) -> int:
        """The number of cells."""
        return self.h * self.w

    @property
    def rows_L(self) -> np.ndarray:
        """Row of each cell, int (L,)."""
        return np.arange(self.L) // self.w

    @property
    def cols_L(self) -> np.ndarray:
        """Column of each cell, int (L,)."""
        return np.arange(self.L) % self.w

    def __str__(self) -> str:
        return f"{self.h}x{self.w}"

"""Gather the visible cells of each image; images of one batch may see different counts.

Legend: B batch, L cells, V the largest visible count, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def visible(mask_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Cells that are not masked, in raster order (B, V), and which entries are real (False = padding)."""
    index_BL = mask_BL.byte().argsort(dim=1, stable=True)
    index_BV = index_BL[:, : int((~mask_BL).sum(1).max())]
    return index_BV, ~mask_BL.gather(1, index_BV)


def take(x_BLD: Tensor, index_BV: Tensor) -> Tensor:
    """x at the cells of each row, (B, V, D); a single row of x serves all."""
    return x_BLD.expand(len(index_BV), -1, -1)[_rows(index_BV), index_BV]


def put(x_BLD: Tensor, index_BV: Tensor, values_BVD: Tensor) -> None:
    """Write values into x, in place, at the cells of each row."""
    x_BLD[_rows(index_BV), index_BV] = values_BVD


def _rows(index_BV: Tensor) -> Tensor:
    return torch.arange(len(index_BV), device=index_BV.device)[:, None]


def key_mask(visible_BV: Tensor, front: int) -> Tensor | None:
    """The attention mask (B, 1, 1, front + V) that hides padding behind `front` tokens; None where there is none."""
    if visible_BV.all():
        return None
    keys = visible_BV.new_ones(len(visible_BV), front + visible_BV.shape[1])
    keys[:, front:] = visible_BV
    return keys[:, None, None, :]

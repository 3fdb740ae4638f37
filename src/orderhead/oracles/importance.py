"""The form of every oracle: real tokens and labels -> importance in [0, 1] a cell, higher = should come earlier.

Legend: B batch, L cells, C token channels.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Oracle(Protocol):
    """Importance (B, L) in [0, 1] of real tokens (B, L, C) with labels (B,).

    `scores_BL` is the ranking that oracles of chunks cut up (the head's current scores); `rng` (on the CPU) serves the
    oracles that average over draws. Both are ignored by those that need neither.
    """

    def __call__(
        self, tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator
    ) -> Tensor: ...


def unit_ranks(x_BL: Tensor) -> Tensor:
    """Each row's ranks over L - 1: 0 the lowest, 1 the highest, ties their mean. Ours: gains have no natural range."""
    above = (x_BL[:, :, None] > x_BL[:, None, :]).sum(2)
    equal = (x_BL[:, :, None] == x_BL[:, None, :]).sum(2) - 1
    return (above + equal / 2) / (x_BL.shape[1] - 1)


def mean_where(values_MB: Tensor, where_MBL: Tensor) -> Tensor:
    """(B, L): the mean over draws m of `values_MB`, each cell over the draws in which `where_MBL` is True.

    A cell that no draw chose gets its row's mean.
    """
    weight = where_MBL.to(values_MB.dtype)
    number_BL, total_BL = weight.sum(0), (values_MB[..., None] * weight).sum(0)
    return torch.where(number_BL > 0, total_BL / number_BL.clamp(min=1), values_MB.mean(0)[:, None])

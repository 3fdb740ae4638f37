"""From scores to a mask that is hard forwards and soft backwards (straight-through estimator, Bengio et al. 2013).

Legend: B batch, L cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


def z_scored(scores_BL: Tensor) -> Tensor:
    """Each image's scores with mean 0 and standard deviation 1 (a constant row becomes zeros)."""
    centered = scores_BL - scores_BL.mean(1, keepdim=True)
    return centered / centered.square().mean(1, keepdim=True).add(1e-12).sqrt()


def soft_mask(scores_BL: Tensor, visible: int, tau: float) -> Tensor:
    """sigmoid((thr - s) / tau), thr = the `visible`-th highest score (held fixed): near 1 = masked.

    ValueError unless 1 <= visible < L and tau > 0.
    """
    L = scores_BL.shape[1]
    if not 1 <= visible < L or tau <= 0:
        raise ValueError(f"1 <= visible < {L} and tau > 0; got {visible} and {tau}")
    threshold = scores_BL.detach().topk(visible, dim=1).values[:, -1:]
    return torch.sigmoid((threshold - scores_BL) / tau)


def hard_mask(scores_BL: Tensor, visible: int) -> Tensor:
    """bool (B, L), False at the `visible` cells of highest score; ties go to the lower raster index."""
    top = scores_BL.argsort(dim=1, descending=True, stable=True)[:, :visible]
    return torch.ones_like(scores_BL, dtype=torch.bool).scatter(1, top, False)


def straight_through_mask(scores_BL: Tensor, visible: int, tau: float) -> Tensor:
    """float (B, L): the hard mask's values (1 = masked) with the soft mask's gradient."""
    soft = soft_mask(scores_BL, visible, tau)
    return hard_mask(scores_BL, visible).to(soft.dtype) + soft - soft.detach()

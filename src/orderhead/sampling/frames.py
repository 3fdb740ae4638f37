"""The intermediate images of a run, rebuilt from its final tokens and its trace: a revealed token never changes.

Legend: N images, T steps, L cells, C channels, H W pixels, h w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orderhead.core.grid import Grid
from orderhead.sampling.sample import Samples, decode_tokens

MASKED = 0.0  # the grey of a cell that is not revealed yet, in [-1, 1]


def partial_images(tokens_NLC: Tensor, mask_NL: Tensor, tokenizer: str) -> Tensor:
    """What the visible tokens alone decode to, masked ones as zeros: (N, C, H, W) in [-1, 1], on the CPU."""
    visible_NLC = torch.where(mask_NL[..., None].to(tokens_NLC.device), 0.0, tokens_NLC)
    return decode_tokens(visible_NLC, tokenizer)


def greyed(images: Tensor, mask: Tensor, grid: Grid) -> Tensor:
    """Images (..., C, H, W) with the cells of `mask` (..., L) in `MASKED` grey."""
    H, W = images.shape[-2:]
    pixels = mask.unflatten(-1, (grid.h, grid.w)).repeat_interleave(H // grid.h, -2).repeat_interleave(W // grid.w, -1)
    return images.masked_fill(pixels[..., None, :, :], MASKED)


def reveal_frames(samples: Samples, grid: Grid) -> list[Tensor]:
    """T + 1 times the images (N, C, H, W): nothing revealed, then after each step; masked cells are grey."""
    masks_TNL = torch.from_numpy(samples.trace.masks_TBL())
    masks = (torch.ones_like(masks_TNL[0]), *masks_TNL)
    return [greyed(partial_images(samples.tokens_BLC, mask, samples.tokenizer), mask, grid) for mask in masks]

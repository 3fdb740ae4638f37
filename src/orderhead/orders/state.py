"""The state of a batch of images that are being decoded, and the choice of the cells that come next.

Legend: B batch, L cells, C channels, D width, N revealed cells of all images, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orderhead.core.conditions import Conditions
from orderhead.core.grid import Grid
from orderhead.core.rng import Randomness


@dataclass(frozen=True)
class DecodeState:
    """What is known before a step. Frozen: every change makes a new state.

    `mask_BL` is True where a cell is masked. `counts` are the tokens that each step reveals. `conditions` are the
    body's for this step (`null_conditions` those without a class, where guidance needs them), `scores_BL` what the
    policy last said (higher = earlier).
    """

    grid: Grid
    tokens_BLC: Tensor
    mask_BL: Tensor
    labels_B: Tensor
    index_B: Tensor
    counts: tuple[int, ...]
    rng: Randomness
    step: int = 0
    conditions: Conditions | None = None
    null_conditions: Conditions | None = None
    scores_BL: Tensor | None = None

    @classmethod
    def start(
        cls, grid: Grid, channels: int, labels_B: Tensor, index_B: Tensor, counts: Sequence[int], rng: Randomness
    ) -> DecodeState:
        """Nothing revealed: `index_B` numbers the images, whose noise is a function of that number."""
        B, device = len(labels_B), labels_B.device
        tokens = torch.zeros(B, grid.L, channels, device=device)
        mask = torch.ones(B, grid.L, dtype=torch.bool, device=device)
        return cls(grid, tokens, mask, labels_B, index_B.to(device), tuple(counts), rng)

    @property
    def z_BLD(self) -> Tensor:
        """The body's decoder output for this step, at every cell, float32."""
        assert self.conditions is not None, "the body has not been asked yet"
        return self.conditions.everywhere.float()

    def given(self, tokens_BLC: Tensor, mask_BL: Tensor) -> DecodeState:
        """The same with some cells known from the start (mask False): inpainting."""
        mask = mask_BL.to(self.mask_BL.device)
        tokens = torch.where(mask[..., None], self.tokens_BLC, tokens_BLC.to(self.tokens_BLC))
        return replace(self, tokens_BLC=tokens, mask_BL=mask)

    def reveal(self, where_BL: Tensor, values_NC: Tensor) -> DecodeState:
        """Put values into the cells where `where_BL` is True (rows of `values_NC` in raster order) and go on a step."""
        assert bool((self.mask_BL | ~where_BL).all()), "a cell is revealed once"
        tokens = self.tokens_BLC.clone()
        tokens[where_BL] = values_NC.to(tokens.dtype)
        return replace(self, tokens_BLC=tokens, mask_BL=self.mask_BL & ~where_BL, step=self.step + 1)


def top_masked(scores_BL: Tensor, mask_BL: Tensor, count: int) -> Tensor:
    """(B, L) bool, True at the `count` masked cells of highest score in each row; ties go to the lower raster index."""
    lowest = torch.finfo(scores_BL.dtype).min
    finite_BL = scores_BL.clamp(min=lowest)  # a score of -inf still comes before a known cell
    chosen = finite_BL.masked_fill(~mask_BL, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(mask_BL).scatter(1, chosen, True)

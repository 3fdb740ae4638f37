"""z where it is asked for: the decoder's last block runs for those cells alone.

A cell's z needs the keys and values of every token in that block, but no query and no MLP except its own. A sampler
reveals a few cells a step, so most of the block would be computed for nothing.

Legend: B batch, T decoder tokens (S of the buffer, then L cells), Q asked cells of an image, N asked cells of all
images, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from orderhead.core.cells import take, visible
from orderhead.core.conditions import BatchConditions, Conditions, Passes


class AskedConditions(ABC):
    """z, computed for the cells that it is asked of."""

    _last: tuple[Tensor, Tensor] | None = None

    @cached_property
    def everywhere(self) -> Tensor:
        """z (B, L, D) of every cell."""
        return self._everywhere()

    def at(self, where_BL: Tensor) -> Tensor:
        """z (N, D) where `where_BL` is True, in raster order; taken from `everywhere` where that is known already.

        What was asked last is remembered: two may ask for the same cells.
        """
        if "everywhere" in vars(self):
            return self.everywhere[where_BL]
        if self._last is None or self._last[0] is not where_BL:
            self._last = where_BL, self._at(where_BL)
        return self._last[1]

    @abstractmethod
    def _everywhere(self) -> Tensor: ...

    @abstractmethod
    def _at(self, where_BL: Tensor) -> Tensor: ...


class PassConditions(AskedConditions):
    """The conditions of one pass of a body, from the tokens `x_BTD` that enter the decoder's last block."""

    def __init__(self, x_BTD: Tensor, block: nn.Module, norm: nn.Module, position_1LD: Tensor) -> None:
        assert isinstance(block, Block)
        self._x_BTD, self._block, self._norm, self._position_1LD = x_BTD, block, norm, position_1LD

    def _everywhere(self) -> Tensor:
        L = self._position_1LD.shape[1]
        return self._norm(self._block(self._x_BTD))[:, -L:] + self._position_1LD

    def _at(self, where_BL: Tensor) -> Tensor:
        index_BQ, asked_BQ = visible(~where_BL)
        buffer = self._x_BTD.shape[1] - where_BL.shape[1]
        z_BQD = self._norm(block_at(self._block, self._x_BTD, index_BQ + buffer)) + take(self._position_1LD, index_BQ)
        return z_BQD[asked_BQ]

    def halves(self) -> tuple[PassConditions, PassConditions]:
        """Those of the first and of the second half of the batch."""
        first, second = self._x_BTD.chunk(2)
        rest = self._block, self._norm, self._position_1LD
        return PassConditions(first, *rest), PassConditions(second, *rest)


class RepeatedConditions:
    """Conditions of rows many of which are the same: those of each kind of row, and the kind (B,) of each row."""

    def __init__(self, kinds: Conditions, kind_B: Tensor) -> None:
        self._kinds, self.kind_B = kinds, kind_B

    @cached_property
    def everywhere(self) -> Tensor:
        return self._kinds.everywhere[self.kind_B]

    def at(self, where_BL: Tensor) -> Tensor:
        row_N, cell_N = where_BL.nonzero(as_tuple=True)
        return self._kinds.everywhere[self.kind_B[row_N], cell_N]

    def halves(self) -> tuple[RepeatedConditions, RepeatedConditions]:
        """Those of the first and of the second half of the batch."""
        first, second = self.kind_B.chunk(2)
        return RepeatedConditions(self._kinds, first), RepeatedConditions(self._kinds, second)


def once_a_label(ask: Passes, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> BatchConditions:
    """What `ask` gives; where no row knows anything, they differ in their label alone and are computed once a label."""
    if not mask_BL.all():
        return ask(tokens_BLC, mask_BL, labels_B)
    labels_U, kind_B = labels_B.unique(return_inverse=True)
    if len(labels_U) == len(labels_B):
        return ask(tokens_BLC, mask_BL, labels_B)
    rows = slice(0, len(labels_U))
    return RepeatedConditions(ask(tokens_BLC[rows], mask_BL[rows], labels_U), kind_B)


class ShiftedConditions:
    """Other conditions, so much further on at each cell (B, L, D)."""

    def __init__(self, base: Conditions, shift_BLD: Tensor) -> None:
        self._base, self._shift_BLD = base, shift_BLD

    @cached_property
    def everywhere(self) -> Tensor:
        return self._base.everywhere + self._shift_BLD

    def at(self, where_BL: Tensor) -> Tensor:
        return self._base.at(where_BL) + self._shift_BLD[where_BL]


def block_at(block: Block, x_BTD: Tensor, index_BQ: Tensor) -> Tensor:
    """What a timm block in eval mode gives at the tokens `index_BQ` of each row, (B, Q, D)."""
    return among(block, take(x_BTD, index_BQ), keys_values(block, x_BTD))


def keys_values(block: Block, x_BTD: Tensor) -> Tensor:
    """What others attend to of these tokens, (B, T, 2D): keys, then values."""
    attention: Any = block.attn
    assert isinstance(attention.qkv, nn.Linear), "merge adapters into the body before it is sampled"
    D = x_BTD.shape[-1]
    return F.linear(block.norm1(x_BTD), attention.qkv.weight[D:], attention.qkv.bias[D:])


def among(block: Block, x_BQD: Tensor, others: Tensor, mask: Tensor | None = None) -> Tensor:
    """What the block gives at tokens x that attend to `others` (`keys_values`), where the mask (B, 1, 1, T) is True."""
    attention: Any = block.attn
    heads, D = attention.num_heads, x_BQD.shape[-1]
    query = F.linear(block.norm1(x_BQD), attention.qkv.weight[:D], attention.qkv.bias[:D])
    mixed = F.scaled_dot_product_attention(
        *(_heads(part, heads) for part in (query, *others.chunk(2, dim=-1))), attn_mask=mask
    )
    x_BQD = x_BQD + attention.proj(mixed.transpose(1, 2).flatten(2))
    return x_BQD + block.mlp(block.norm2(x_BQD))


def _heads(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, heads, T, D / heads)."""
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)

"""Features kept from step to step: most passes compute only the cells that are new or asked for.

MAR encodes all visible tokens and decodes all cells anew at every step, though few of them have changed. Here a full
pass keeps the keys and values of all tokens in every block. In the passes after it the encoder runs for the buffer and
for the cells revealed since, the decoder for these and for the cells that z is asked of; they attend to all others as
those were. (LazyMAR's token cache, Yan et al. 2025, computes the tokens whose features have changed most; here it is
known beforehand which have.) So the z of a cell depends on which others were asked with it and before. What is kept are
2 R T D numbers a block: at MAR-B's sizes 94 MB an image with guidance in float32.

Legend: B rows of a pass, R rows that are kept (B or more), S buffer tokens, L cells, T = S + L, A tokens computed in a
pass, Q asked cells of an image, N asked cells of all images, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderhead.body.conditions import AskedConditions, RepeatedConditions, among, keys_values, once_a_label
from orderhead.core.cells import put, take, visible
from orderhead.core.conditions import BatchConditions

if TYPE_CHECKING:
    from orderhead.body.mar import MAR


class KeptPasses:
    """A body's `conditions` for one batch that is decoded step by step; every so many-th pass is a full one.

    The rows of a pass are those of the first pass, or the first of them. The others catch up when they are next asked:
    on the cells that were revealed since, or on all where a full pass was due.
    """

    def __init__(self, body: MAR, every: int) -> None:
        self._body, self._every, self.done = body, every, 0
        self._kind_R: Tensor | None = None

    def __call__(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> BatchConditions:
        self._body.check_inputs(tokens_BLC, mask_BL, labels_B)
        if self.done == 0:
            first = once_a_label(self._pass, tokens_BLC, mask_BL, labels_B)
            self._kind_R = first.kind_B if isinstance(first, RepeatedConditions) else None
            return first
        if self._kind_R is not None:
            self._repeat(self._kind_R)
            self._kind_R = None
        return self._pass(tokens_BLC, mask_BL, labels_B)

    def _repeat(self, kind_R: Tensor) -> None:
        """Rows that were the same in the first pass go on each for itself."""
        self._known_RT, self._stale_RT = self._known_RT[kind_R], self._stale_RT[kind_R]
        self._inputs_RTD = self._inputs_RTD[kind_R]
        self._encoder.repeat(kind_R)
        self._decoder.repeat(kind_R)

    def _pass(self, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> KeptConditions:
        B, S = len(mask_BL), self._body.config.buffer_size
        if self.done == 0:
            self._known_RT, self._stale_RT = mask_BL.new_zeros(2, B, S + mask_BL.shape[1])
            self._inputs_RTD = self._body.mask_token.expand(*self._known_RT.shape, -1).clone()
            self._encoder, self._decoder = (
                _Layers(blocks, self._known_RT.shape)
                for blocks in (self._body.encoder_blocks, self._body.decoder_blocks)
            )
        if self.done % self._every == 0:
            self._known_RT[:], self._stale_RT[:] = False, True
        self.done += 1
        self._encode(tokens_BLC, F.pad(~mask_BL, (S, 0), value=True), labels_B)
        return KeptConditions(self, slice(0, B))

    def all_cells(self, rows: slice) -> Tensor:
        """`where_BL` of every cell of these rows."""
        return torch.ones_like(self._known_RT[rows, self._body.config.buffer_size :])

    def _encode(self, tokens_BLC: Tensor, known_BT: Tensor, labels_B: Tensor) -> None:
        """The encoder for the buffer and the new cells; what it gives of them enters the decoder."""
        body, rows = self._body, slice(0, len(known_BT))
        new_BT = known_BT & ~self._known_RT[rows]
        new_BT[:, : body.config.buffer_size] = True
        self._known_RT[rows] |= new_BT
        self._stale_RT[rows] |= new_BT
        index_BA = _tokens(new_BT)
        x_BAD = self._encoder(take(body.embedded(tokens_BLC, labels_B), index_BA), index_BA, rows, known_BT)
        put(self._inputs_RTD[rows], index_BA, body.decoder_embed(body.encoder_norm(x_BAD)).to(self._inputs_RTD.dtype))

    def decoded(self, rows: slice, where_BL: Tensor) -> Tensor:
        """z (N, D) of these rows where `where_BL` is True, in raster order."""
        body, S = self._body, self._body.config.buffer_size
        asked_BT = F.pad(where_BL, (S, 0))
        index_BA = _tokens(self._stale_RT[rows] | asked_BT)
        self._stale_RT[rows] = False
        pick_BQ, asked_BQ = visible(~asked_BT.gather(1, index_BA))
        x_BAD = take(self._inputs_RTD[rows], index_BA) + take(body.decoder_pos_embed_learned, index_BA)
        x_BQD = self._decoder(x_BAD, index_BA, rows, pick_BQ=pick_BQ)
        cell_BQ = (index_BA.gather(1, pick_BQ) - S).clamp(min=0)
        return (body.decoder_norm(x_BQD) + take(body.diffusion_pos_embed_learned, cell_BQ))[asked_BQ]


def _tokens(computed_BT: Tensor) -> Tensor:
    """Where True, (B, A); rows with fewer are filled up with token 0, of the buffer, which nobody misses."""
    index_BA, real_BA = visible(~computed_BT)
    return torch.where(real_BA, index_BA, 0)


class _Layers:
    """Blocks, and the keys and values (R, T, 2D) that each of them keeps of every token."""

    def __init__(self, blocks: nn.ModuleList, shape_RT: torch.Size) -> None:
        self._blocks, self._shape_RT, self._kept = list[Any](blocks), shape_RT, dict[int, Tensor]()

    def __call__(
        self,
        x_BAD: Tensor,
        index_BA: Tensor,
        rows: slice,
        known_BT: Tensor | None = None,
        pick_BQ: Tensor | None = None,
    ) -> Tensor:
        """Tokens `index_BA` through all blocks, attending to those `known_BT`; with `pick_BQ` only these come out."""
        mask = None if known_BT is None else known_BT[:, None, None, :]
        for i, block in enumerate(self._blocks):
            keys_values_BT = self._put(i, keys_values(block, x_BAD), index_BA, rows)
            if pick_BQ is not None and i == len(self._blocks) - 1:
                x_BAD = take(x_BAD, pick_BQ)
            x_BAD = among(block, x_BAD, keys_values_BT, mask)
        return x_BAD

    def repeat(self, kind_R: Tensor) -> None:
        """From now on so many rows, each as the one that it names was."""
        self._shape_RT = torch.Size([len(kind_R), *self._shape_RT[1:]])
        self._kept = {i: kept[kind_R] for i, kept in self._kept.items()}

    def _put(self, i: int, new: Tensor, index_BA: Tensor, rows: slice) -> Tensor:
        """Keep these tokens' keys and values; those of all tokens."""
        if i not in self._kept:
            self._kept[i] = new.new_zeros(*self._shape_RT, new.shape[-1])
        kept = self._kept[i][rows]
        put(kept, index_BA, new)
        return kept


class KeptConditions(AskedConditions):
    """The conditions of one of these passes. They are asked before the next one: what they are made of goes on."""

    def __init__(self, passes: KeptPasses, rows: slice) -> None:
        self._passes, self._rows, self._number = passes, rows, passes.done

    def halves(self) -> tuple[KeptConditions, KeptConditions]:
        """Those of the first and of the second half of the batch."""
        self._check()
        half = self._rows.stop // 2
        return KeptConditions(self._passes, slice(0, half)), KeptConditions(self._passes, slice(half, self._rows.stop))

    def _everywhere(self) -> Tensor:
        where_BL = self._passes.all_cells(self._rows)
        return self._at(where_BL).unflatten(0, where_BL.shape)

    def _at(self, where_BL: Tensor) -> Tensor:
        self._check()
        return self._passes.decoded(self._rows, where_BL)

    def _check(self) -> None:
        assert self._number == self._passes.done, "these conditions are of an earlier pass"

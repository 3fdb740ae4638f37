"""What is kept of a run: the order in which cells were revealed, and what the policy said whenever it was asked.

Final tokens and order together hold every intermediate image, since a revealed token never changes.

Legend: B batch, L cells, T steps, R rescorings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from orderhead.core.files import replacing
from orderhead.core.ranking import rank_change
from orderhead.orders.state import DecodeState


@dataclass(frozen=True)
class Trace:
    """`order_BL[b, k]` is the cell of image b revealed k-th (within a step: by score, then raster). `counts_T` tokens
    per step; `scores_BRL` the policy's scores at each rescoring.

    An inpainting's known cells come first in the order, in raster order, and their `step_BL` is -1: the cell revealed
    first is `order_BL[b, L - counts_T.sum()]`.
    """

    order_BL: np.ndarray
    counts_T: np.ndarray
    scores_BRL: np.ndarray
    labels_B: np.ndarray

    @property
    def rank_BL(self) -> np.ndarray:
        """The inverse of the order: `rank_BL[b, cell]` = when it was revealed, 0 first."""
        return np.argsort(self.order_BL, axis=1)

    @property
    def step_BL(self) -> np.ndarray:
        """The step at which each cell was revealed, -1 where it was known from the start."""
        known = self.order_BL.shape[1] - int(self.counts_T.sum())
        steps = np.concatenate([np.full(known, -1), np.repeat(np.arange(len(self.counts_T)), self.counts_T)])
        return steps[self.rank_BL]

    @property
    def score_std_BR(self) -> np.ndarray:
        """Standard deviation of the scores over all cells, at each rescoring: ~0 where a head has collapsed."""
        return self.scores_BRL.std(axis=2)

    @property
    def rank_change_BR(self) -> np.ndarray:
        """How far the ranking turned from one rescoring to the next, (B, R - 1): 0 the same, 1 reversed."""
        return rank_change(self.scores_BRL)

    def masks_TBL(self) -> np.ndarray:
        """What is still masked after each step, bool (T, B, L)."""
        return self.step_BL[None] > np.arange(len(self.counts_T))[:, None, None]

    def take(self, rows: slice) -> Trace:
        """The traces of some of the images."""
        return Trace(self.order_BL[rows], self.counts_T, self.scores_BRL[rows], self.labels_B[rows])

    @classmethod
    def join(cls, traces: Sequence[Trace]) -> Trace:
        """The traces of several batches of one run."""
        parts = [np.concatenate([getattr(t, name) for t in traces]) for name in ("order_BL", "scores_BRL", "labels_B")]
        return cls(parts[0], traces[0].counts_T, parts[1], parts[2])

    def save(self, path: str | Path) -> None:
        """Write `order`, `counts`, `scores`, `labels` as npz; whole or not at all."""
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary, order=self.order_BL.astype(np.int16 if self.order_BL.shape[1] < 2**15 else np.int32),
                counts=self.counts_T, scores=self.scores_BRL.astype(np.float32), labels=self.labels_B,
            )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        with np.load(path, allow_pickle=False) as file:
            return cls(file["order"].astype(np.int64), file["counts"], file["scores"], file["labels"])


@dataclass
class Recorder:
    """A save that builds a trace; the policy is asked at the steps `asked`, of which step 0 is one."""

    counts: Sequence[int]
    asked: Collection[int]
    _chunks: list[np.ndarray] = field(default_factory=list)
    _scores: list[Tensor] = field(default_factory=list)

    def __call__(self, state: DecodeState, where_BL: Tensor) -> None:
        assert state.scores_BL is not None
        if not self._scores and sum(self.counts) < state.grid.L:
            self._chunks.append(_ranked(torch.zeros_like(state.scores_BL), ~(state.mask_BL | where_BL)))
        if state.step - 1 in self.asked:
            self._scores.append(state.scores_BL.clone())  # a policy may answer in the same tensor again
        self._chunks.append(_ranked(state.scores_BL, where_BL))

    def trace(self, labels_B: Tensor) -> Trace:
        scores_BRL = torch.stack(self._scores, dim=1).float().cpu().numpy()
        return Trace(np.concatenate(self._chunks, 1), np.asarray(self.counts), scores_BRL, labels_B.cpu().numpy())


def _ranked(scores_BL: Tensor, where_BL: Tensor) -> np.ndarray:
    """The True cells of each row by falling score (B, n); a score of -inf still comes before a False cell."""
    scores, where = scores_BL.cpu().double(), where_BL.cpu()
    scores = scores.clamp(min=torch.finfo(scores.dtype).min).masked_fill(~where, -torch.inf)
    ranked = scores.argsort(dim=1, descending=True, stable=True)
    return ranked[:, : int(where[0].sum())].numpy()

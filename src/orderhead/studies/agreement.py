"""Ablation 1: does a head score those cells high that an oracle finds important, on held-out real images?

The document finds 0.267 whether the head sees nothing or the whole image, and calls it a spatial prior. Two rows of
ours say what such a number can mean: what the class alone tells (the mean importance of the class's other images), and
what a second estimate of the oracle reaches.

Legend: N images, L cells, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.metrics.correlation import spearman_rows
from orderhead.orders.head import OrderHead
from orderhead.sampling.trace import Trace


@dataclass(frozen=True)
class Evidence:
    """A head on its body; real images with their importance, twice estimated; slow runs with their own and real tokens.

    `fixed` is a head that was trained in the same way towards a target that does not move with its own ranking.

    `free`: the head, asked at every step, drew images of its own of the same classes. `revealed`: it was shown the real
    cell wherever it had drawn one.
    """

    head: OrderHead
    fixed: OrderHead
    body: MAR
    tokens_NLC: Tensor
    labels_N: Tensor
    importance_NL: Tensor
    again_NL: Tensor
    free: Trace
    revealed: Trace

    @torch.no_grad()
    def scores(self, head: OrderHead, masked: bool, batch: int = 64) -> Tensor:
        """A head's scores (N, L) where the body sees nothing of the real images, or everything."""
        device, found = self.body.device, []
        for tokens_BLC, labels_B in zip(self.tokens_NLC.split(batch), self.labels_N.split(batch), strict=True):
            mask_BL = torch.full(tokens_BLC.shape[:2], masked, device=device)
            labels_B = labels_B.to(device)
            z_BLD = self.body.predict(tokens_BLC.to(device), mask_BL, labels_B)
            found.append(head.to(device)(z_BLD, labels_B=labels_B).float().cpu())
        return torch.cat(found)

    @property
    def others_of_class_NL(self) -> Tensor:
        """The mean importance of the other images of an image's class; zeros where there are none."""
        same_NN = (self.labels_N[:, None] == self.labels_N).double().fill_diagonal_(0)
        return same_NN @ self.importance_NL.double() / same_NN.sum(1, keepdim=True).clamp(min=1)


def _early(trace: Trace) -> np.ndarray:
    """Minus the rank in which each cell was revealed, (N, L)."""
    return -trace.rank_BL


INPUTS: Mapping[str, Callable[[Evidence], Tensor | np.ndarray]] = {
    "fast": lambda given: given.scores(given.head, masked=True),
    "gt_aware": lambda given: given.scores(given.head, masked=False),
    "slow": lambda given: _early(given.free),
    "slow_revealed": lambda given: _early(given.revealed),
    "fixed_fast": lambda given: given.scores(given.fixed, masked=True),
    "fixed_gt_aware": lambda given: given.scores(given.fixed, masked=False),
    "class_mean": lambda given: given.others_of_class_NL,
    "oracle_again": lambda given: given.again_NL,
}
"""Name -> scores (N, L), higher = earlier, to be compared with the oracle's importance. The last five are ours."""


def correlations(given: Evidence) -> dict[str, np.ndarray]:
    """Input -> Spearman's rho with the oracle's importance in each image, (N,), in [-1, 1]; 0 without variation."""
    importance = given.importance_NL.numpy()
    return {name: np.nan_to_num(spearman_rows(scores(given), importance)) for name, scores in INPUTS.items()}

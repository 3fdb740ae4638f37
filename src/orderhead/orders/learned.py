"""A trained head as a policy, and the study's names for how often it is asked.

Legend: B batch, L cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from orderhead.core.assets import written
from orderhead.orders.head import OrderHead, load_head
from orderhead.orders.state import DecodeState

LEARNED: Mapping[str, int | str | None] = {
    "learned": None,
    "learned_fast": "fast",
    "learned_semifast": "semifast-8",
    "learned_slow": "slow",
}
"""Order name -> its `rescore` (None = as the settings say)."""


@dataclass(frozen=True)
class Learned:
    """Scores from the z that the sampler has anyway (the labelled half, where guidance computes two)."""

    head: OrderHead

    def __call__(self, state: DecodeState) -> Tensor:
        device = state.mask_BL.device
        head = self.head if self.head.registers.device == device else self.head.to(device)  # threads share it
        with torch.no_grad():
            return head(state.z_BLD.to(head.registers.dtype), labels_B=state.labels_B).float()


def learned(head: OrderHead) -> Learned:
    """A policy for `sample(..., order=learned(head), rescore="slow")`. The head is put into eval mode."""
    return Learned(head.eval())


def learned_by(name: str) -> Learned:
    """The policy of the head called `name`, kept until its files are written again. ValueError as for `load_head`."""
    return _kept(name, written("heads", name))


@lru_cache(maxsize=4)
def _kept(name: str, written: tuple[int, ...]) -> Learned:
    return learned(load_head(name))

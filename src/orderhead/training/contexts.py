"""What the body has seen of the real image when the head scores it (the study's Stage 1): functions to a mask.

Legend: B batch, L cells, C token channels, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.orders.head import OrderHead
from orderhead.orders.straight_through import hard_mask
from orderhead.sampling.schedule import cosine
from orderhead.training.masks import mar_mask

Context = Callable[[OrderHead, MAR, Tensor, Tensor, torch.Generator], Tensor]
"""Head, body, tokens (B, L, C), labels (B,), generator -> mask (B, L), True = masked."""


def non_aligned(head: OrderHead, body: MAR, tokens_BLC: Tensor, labels_B: Tensor, rng: torch.Generator) -> Tensor:
    """A random mask at MAR's training ratio: the head sees part of the image."""
    B, L, _ = tokens_BLC.shape
    return mar_mask(B, L, rng).to(tokens_BLC.device)


def aligned(head: OrderHead, body: MAR, tokens_BLC: Tensor, labels_B: Tensor, rng: torch.Generator) -> Tensor:
    """Everything masked, which is what fast inference sees: the head can learn a prior a class and no more."""
    return torch.ones(tokens_BLC.shape[:2], dtype=torch.bool, device=tokens_BLC.device)


@torch.no_grad()
def on_policy(head: OrderHead, body: MAR, tokens_BLC: Tensor, labels_B: Tensor, rng: torch.Generator) -> Tensor:
    """What the head's own fast order has revealed at a random step of the cosine schedule, T = L / 4 (ours)."""
    nothing_BL = aligned(head, body, tokens_BLC, labels_B, rng)
    L = nothing_BL.shape[1]
    counts = cosine(L // 4, L)
    revealed = sum(counts[: int(torch.randint(0, len(counts), (), generator=rng))])
    scores_BL = head(body.predict(tokens_BLC, nothing_BL, labels_B), labels_B=labels_B)
    return hard_mask(scores_BL, revealed)


CONTEXTS: Mapping[str, Context] = {"non_aligned": non_aligned, "aligned": aligned, "on_policy": on_policy}

"""The rows of the study's section 6: body and head trained together, from a body that learned random orders.

The document gives epochs, oracle and results; all else is ours. It does not say how often the head was asked for its
FID: we take once (fast). Its epochs 0 to 9 are those after the first to the tenth here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orderhead.training.heads import HeadRecipe

_BASE = HeadRecipe(
    "body and head together, cls_k oracle of four clusters, ten epochs", objective="joint", body_mode="full", epochs=10,
    modes=("fast",), scaling="finetuning", reported={"fast": 6.55},
)  # fmt: skip

FINETUNING: Mapping[str, HeadRecipe] = {
    "finetune_oracle": _BASE,
    "finetune_pure_ste": replace(
        _BASE, summary="body and head together without an oracle: the diffusion loss alone", order_loss_weight=0.0,
        reported={"fast": 10.95},
    ),
    "finetune_full": replace(
        _BASE, summary="body and head together for twenty epochs at the body's own learning rate (ours: 1e-4 for 5e-4)",
        epochs=20, base_lr=1e-4, reported={"fast": 9.58},
    ),
}  # fmt: skip
"""Row name -> recipe. `finetune_full` starts from the official body in the document; on a ground there is one body, and
what differs is its own base lr (MAR's, as `oracle_unfrozen`'s) and twice the epochs."""

CONTROLS: Mapping[str, HeadRecipe] = {
    "finetune_random_masks": replace(
        _BASE, summary="a head learns from the oracle beside a body that goes on under random masks", reported={},
        objective="random_masks",
    ),
}  # fmt: skip
"""Ours: the same images, rate and oracle, but the body's masks stay random: what training on costs by itself."""

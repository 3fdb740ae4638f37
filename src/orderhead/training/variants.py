"""The thirteen rows of the study's section 3, each beside the FID-50K that it reports (MAR-B, guidance 2.9, 64 steps).

Where the document does not say what a head sees in Stage 1, we take the context that the row is named after, else
`non_aligned`. "v3" is a run's generation and changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orderhead.training.alternatives import ALTERNATIVES
from orderhead.training.finetuning import CONTROLS, FINETUNING
from orderhead.training.heads import HeadRecipe
from orderhead.training.scratch import SCRATCH, VARIED

_BASE = HeadRecipe("the study's setting: random partial contexts, cls_k oracle of four clusters, MSE, lambda 1")
_PHASE1B = replace(_BASE, context="on_policy", modes=("slow",))

VARIANTS: Mapping[str, HeadRecipe] = {
    "nonaligned_oracle_10ep": replace(
        _BASE, summary="the study's best by semifast-8: ten epochs", epochs=10,
        reported={"fast": 3.41, "semifast-8": 2.94},
    ),
    "v3_oracle_aligned_k64": replace(
        _BASE, summary="its best by fast inference: the head sees nothing, as in fast inference", context="aligned",
        reported={"fast": 3.16, "semifast-8": 3.40},
    ),
    "oracle_aligned": replace(
        _BASE, summary="Stage 1 all masked", context="aligned", reported={"fast": 3.43, "semifast-8": 3.19},
    ),
    "v3_oracle_phase1b": replace(
        _PHASE1B, summary="contexts from the head's own order, evaluated slow", reported={"slow": 3.42},
    ),
    "v3_oracle_phase1b_k16": replace(
        _PHASE1B, summary="the same with a finer oracle", cluster_size=16, reported={"slow": 3.34},
    ),
    "oracle_low_lambda": replace(
        _BASE, summary="weaker ordering signal", order_loss_weight=0.1, reported={"fast": 3.67, "semifast-8": 4.04},
    ),
    "oracle_cumulative": replace(
        _BASE, summary="cumulative prefixes as the oracle", oracle="cumulative", epochs=20,
        reported={"fast": 4.27, "semifast-8": 4.24},
    ),
    "nonaligned_oracle_40ep": replace(
        _BASE, summary="longer training", reported={"fast": 4.48, "semifast-8": 4.75},
    ),
    "oracle_unfrozen": replace(
        _BASE, summary="the body is trained too", objective="joint", body_mode="full", base_lr=1e-4,
        reported={"fast": 4.65, "semifast-8": 4.90},
    ),
    "oracle_high_lr": replace(
        _BASE, summary="four times the learning rate", base_lr=2e-3, epochs=20,
        reported={"fast": 4.50, "semifast-8": 5.02},
    ),
    "oracle_k32": replace(
        _BASE, summary="a smaller window of evaluation", cluster_size=32, reported={"fast": 5.13, "semifast-8": 6.35},
    ),
    "oracle_lambda5": replace(
        _BASE, summary="stronger ordering signal", order_loss_weight=5.0, epochs=20,
        reported={"fast": 5.37, "semifast-8": 6.11},
    ),
    "oracle_deep": replace(_BASE, summary="an eight-layer head (no number in the document)", depth=8, epochs=20),
}  # fmt: skip
"""Row name -> recipe, in the document's order."""

OWN: Mapping[str, HeadRecipe] = {
    "oracle_random_clusters": replace(
        _BASE, summary="clusters at random, eight draws averaged: a target that does not move with the head's ranking",
        oracle="cls_k_random", epochs=10,
    ),
    "pure_ste": replace(_BASE, summary="no oracle: the diffusion loss through the mask alone", order_loss_weight=0.0),
    "policy_gradient": replace(
        _BASE, summary="no oracle: sampled contexts, the diffusion loss as reward", objective="policy_gradient",
        order_loss_weight=0.0,
    ),
    "future_gain": replace(
        _BASE, summary="the body's own future-loss gain as the oracle", oracle="future_gain", epochs=10,
        oracle_images=1000,
    ),
    "predictability": replace(
        _BASE, summary="the body's own loss at the cell as the oracle", oracle="predictability", epochs=10,
        oracle_images=4000,
    ),
}  # fmt: skip
"""Rows that the document does not have."""

HEAD_RECIPES: Mapping[str, HeadRecipe] = {
    **VARIANTS, **OWN, **ALTERNATIVES, **FINETUNING, **CONTROLS, **SCRATCH, **VARIED
}  # fmt: skip

"""The rows of the study's section 7: body and head from random weights, and bodies that are trained the usual way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from orderhead.body.mar import MAR, MARConfig
from orderhead.data.posteriors import Tokens
from orderhead.training import losses
from orderhead.training.ground import GroundRecipe
from orderhead.training.heads import HeadRecipe, scales
from orderhead.training.loop import Evaluation, LoopConfig, Loss

_BASE = HeadRecipe(
    "body and head from random weights, cls_k oracle", objective="joint", body_mode="scratch", epochs=400, base_lr=1e-4,
    modes=("fast",), scaling="scratch", reported={"fast": 78.27},
)  # fmt: skip

SCRATCH: Mapping[str, HeadRecipe] = {
    "scratch_saliency_attn": replace(
        _BASE, summary="body and head from random weights, saliency_attn oracle", oracle="saliency_attn",
        reported={"fast": 104.24},
    ),
    "scratch_cls_k": _BASE,
}  # fmt: skip
"""Row name -> recipe, in the document's order; `reported` is FID-5K on ImageNet-100."""

VARIED: Mapping[str, HeadRecipe] = {
    "scratch_cls_k_varied": replace(
        _BASE, summary="the same under masks of 70 to 100 %, as MAR's own training has", objective="joint_varied",
        reported={},
    ),
}  # fmt: skip
"""Ours. The study's Stage 2 always shows a quarter of the cells, so a body from nothing never learns to start."""


def grown(config: MARConfig) -> MARConfig:
    """What MAR-B is to the study's MAR-S (`body.mar.SIZES`): twice as wide, a wider and deeper DiffLoss."""
    return replace(
        config, encoder_width=2 * config.encoder_width, encoder_heads=2 * config.encoder_heads,
        decoder_width=2 * config.decoder_width, decoder_heads=2 * config.decoder_heads,
        diffloss_width=config.diffloss_width * 4 // 3, diffloss_depth=config.diffloss_depth * 3 // 2,
    )  # fmt: skip


def _task(tokens: Tokens, labels_N: Tensor) -> tuple[int, Loss, Evaluation | None]:
    """MAR's loss with one noise level a cell, as the rows have it, so that the masks alone differ (ours)."""
    return len(tokens), losses.body_loss(tokens, labels_N, repeats=1), None


def _plain(summary: str, build: Callable[[MARConfig], MAR]) -> GroundRecipe:
    lengths: Mapping[str, LoopConfig] = scales(_BASE)
    return GroundRecipe(summary, build, _task, lengths)


PLAIN: Mapping[str, GroundRecipe] = {
    "scratch_plain": _plain("a body of the ground's sizes under random masks, as long as section 7's rows", MAR),
    "scratch_plain_large": _plain("a body as much larger as MAR-B is than MAR-S", lambda body: MAR(grown(body))),
}
"""Section 7's baselines: on MAR-S's ground these are MAR-S and MAR-B."""

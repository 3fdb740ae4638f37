"""Training a head: the body's z in a context, scores, the diffusion loss under their mask, and an oracle to agree with.

Legend: B batch, L cells, C token channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from orderhead.body.mar import MAR, MARConfig
from orderhead.core.checkpoint import save_model
from orderhead.core.names import lookup
from orderhead.data.posteriors import Tokens, drawn
from orderhead.oracles.importance import Oracle
from orderhead.orders.head import HEADS, OrderHead
from orderhead.training.bodies import BODY_MODES, KEPT
from orderhead.training.contexts import CONTEXTS
from orderhead.training.loop import Batch, LoopConfig, Loss
from orderhead.training.objectives import OBJECTIVES
from orderhead.training.order_losses import ORDER_LOSSES

STUDY_CELLS = 256  # cluster sizes are the study's, on 16 x 16 cells
STUDY_BATCH = 256


READS: Mapping[str, Callable[[MARConfig], int]] = {"z": lambda body: 0, "z_and_class": lambda body: body.classes}
"""What a head reads -> how many classes it knows, of a body's."""


@dataclass(frozen=True)
class HeadRecipe:
    """One row of the study: what differs, at the document's own scale, and what it reports.

    `cluster_size` counts cells of 16 x 16 and scales with the grid. `order_loss_weight` is the study's lambda, which
    counts after `warmup_steps` of 256 images. With `oracle_images` > 0 the head is trained on so many images only,
    about which a costly oracle is asked once. With a `teacher` (a row, or the folder of a trained head) the head learns
    that head's ranking instead of an oracle's. `reads`: what it is given (`READS`). `reported` is FID-50K (in section 7
    FID-5K) by rescoring mode. `scaling` is a row of `SCALINGS`. ValueError for a field out of its table.
    """

    summary: str
    reported: Mapping[str, float] = field(default_factory=dict)
    context: str = "non_aligned"
    objective: str = "straight_through"
    oracle: str = "cls_k"
    cluster_size: int = 64
    order_loss: str = "mse"
    order_loss_weight: float = 1.0
    warmup_steps: int = 200
    base_lr: float = 5e-4
    epochs: int = 40
    depth: int = 4
    body_mode: str = "frozen"
    ground_truth_share: float = 0.0
    oracle_images: int = 0
    teacher: str = ""
    reads: str = "z"
    modes: tuple[str, ...] = ("fast", "semifast-8")
    scaling: str = "head"

    def __post_init__(self) -> None:
        lookup("scaling", self.scaling, SCALINGS)
        lookup("context", self.context, CONTEXTS)
        lookup("objective", self.objective, OBJECTIVES)
        lookup("order loss", self.order_loss, ORDER_LOSSES)
        lookup("body mode", self.body_mode, BODY_MODES)
        lookup("input of the head", self.reads, READS)
        if self.teacher and not self.oracle_images:
            raise ValueError("a teacher is asked once about some images; give their number, oracle_images > 0")
        if not 0 <= self.ground_truth_share <= 1 or self.order_loss_weight < 0:
            raise ValueError(
                f"ground_truth_share lies in [0, 1] and order_loss_weight is not negative; got "
                f"{self.ground_truth_share} and {self.order_loss_weight}"
            )

    def clusters(self, cells: int) -> int:
        """The cluster size on a grid of so many cells, at least 1."""
        return max(1, self.cluster_size * cells // STUDY_CELLS)


class HeadAndBody(nn.Module):
    """Both, for recipes that train both."""

    def __init__(self, head: OrderHead, body: MAR) -> None:
        super().__init__()
        self.head, self.body = head, body


def untrained_head(recipe: HeadRecipe, body: MAR) -> OrderHead:
    """A head of the size that goes with the body's, at the recipe's depth, for what the recipe lets it read."""
    own = body.config
    size = HEADS["base"] if own.decoder_width >= 384 else HEADS["tiny"]
    fitted = replace(size, grid_h=own.grid_h, grid_w=own.grid_w, z_width=own.decoder_width, channels=own.channels)
    return OrderHead(replace(fitted, depth=recipe.depth, classes=READS[recipe.reads](own)))


Target = Callable[[Batch, Tensor, Tensor, Tensor], Tensor]
"""Batch, tokens (B, L, C), labels (B,), scores (B, L) -> importance (B, L)."""


def asked(oracle: Oracle) -> Target:
    """The oracle's answer, asked anew for each batch."""
    return lambda batch, tokens, labels, scores: oracle(tokens, labels, scores_BL=scores, rng=batch.rng)


def known(importance_NL: Tensor) -> Target:
    """The answers of an oracle that was asked about every item beforehand."""
    return lambda batch, tokens, labels, scores: importance_NL[batch.index_B].to(scores.device)


def head_loss(
    recipe: HeadRecipe, frozen: MAR | None, target: Target, tokens_NLC: Tokens, labels_N: Tensor, warmup_images: int
) -> Loss:
    """The diffusion loss under the scores' mask + lambda * (order loss to the target), lambda on after a warm-up.

    The model is an `OrderHead` beside the `frozen` body, or (None) a `HeadAndBody`.
    """
    context, objective = CONTEXTS[recipe.context], OBJECTIVES[recipe.objective]
    order_loss = ORDER_LOSSES[recipe.order_loss]

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        head, body = _parts(model, frozen)
        tokens = drawn(tokens_NLC, batch.index_B, batch.rng).to(body.device)
        labels = labels_N[batch.index_B].to(body.device)
        mask = context(head, body, tokens, labels, batch.rng)
        z = body.predict(tokens, mask, labels)
        scores = head(z, tokens, _given(recipe, mask, batch), labels)
        diffusion, logs = objective(body, tokens, labels, scores, batch.progress, batch.rng)
        order = order_loss(scores, target(batch, tokens, labels, scores.detach()), batch.rng)
        weight = recipe.order_loss_weight if batch.seen >= warmup_images else 0.0
        spread = scores.detach().std(1).mean().item()
        return diffusion + weight * order, logs | {
            "diffusion": diffusion.item(), "order": order.item(), "score_std": spread
        }  # fmt: skip

    return loss


def _parts(model: nn.Module, frozen: MAR | None) -> tuple[OrderHead, MAR]:
    if isinstance(model, HeadAndBody):
        return model.head, model.body
    assert isinstance(model, OrderHead)
    assert frozen is not None
    return model, frozen


def _given(recipe: HeadRecipe, mask_BL: Tensor, batch: Batch) -> Tensor | None:
    """The ground-truth curriculum: a share of cells read as clean tokens, which falls to 0 half-way (ours)."""
    if recipe.ground_truth_share == 0:
        return None
    share = recipe.ground_truth_share * max(0.0, 1 - 2 * batch.progress)
    return (torch.rand(mask_BL.shape, generator=batch.rng) < share).to(mask_BL.device)


def saver(recipe: HeadRecipe) -> Callable[[nn.Module, Path], None]:
    """Saves the head as a model folder; a body that was trained with it beside it, in `body/`."""
    kept = KEPT.get(recipe.body_mode, lambda body: body)

    def save(model: nn.Module, out: Path) -> None:
        if isinstance(model, HeadAndBody):
            save_model(kept(model.body), out / "body")
            model = model.head
        save_model(model, out)

    return save


Scales = dict[str, LoopConfig]
"""How long and how fast, by the name of the scale."""


def scales(recipe: HeadRecipe) -> Scales:
    """The recipe's `smoke`, `mini` and `full`."""
    return SCALINGS[recipe.scaling](recipe)


def head_scales(recipe: HeadRecipe) -> Scales:
    """`full` is the document's setting: batch 256, and 256,000 images an epoch, as in its plots.

    `mini` sees 1/800 of the images in batches of 32, at 16 times the base lr (2 times the rate of a step), since a
    small head has a few hundred steps to learn in; `smoke` is a few steps.
    """
    full = LoopConfig(images=256_000 * recipe.epochs, batch=256, base_lr=recipe.base_lr, warmup_images=50_000)
    mini = replace(
        full, images=full.images // 800, batch=32, base_lr=16 * full.base_lr, warmup_images=320, ema_decay=0.97
    )
    return {"smoke": replace(mini, images=64, batch=8, warmup_images=8), "mini": mini, "full": full}


def finetuning_scales(recipe: HeadRecipe) -> Scales:
    """`full` as for heads. An epoch of `mini` is 24 batches of 16 at full's rate of a step, of `smoke` one of 8 (ours).

    The average forgets within an epoch, so that each epoch's evaluation is of that epoch.
    """
    full = head_scales(recipe)["full"]
    mini = replace(
        full, images=384 * recipe.epochs, batch=16, base_lr=16 * full.base_lr, warmup_images=384, ema_decay=0.95
    )
    return {"smoke": replace(mini, images=8 * recipe.epochs, batch=8, warmup_images=8), "mini": mini, "full": full}


def scratch_scales(recipe: HeadRecipe) -> Scales:
    """`full`: epochs of the 126,689 images that ImageNet-100 usually has, as MAR's own training goes (the README's
    batch, warm-up of 100 epochs and average); the document names no setting but the epochs.

    `mini`, ours: 16 images for an epoch in batches of 16, at the rate of a step that trained the shipped body (1e-3).
    """
    epoch = 126_689
    full = LoopConfig(
        images=epoch * recipe.epochs, batch=2048, base_lr=recipe.base_lr, warmup_images=100 * epoch, ema_decay=0.9999
    )
    mini = replace(
        full, images=16 * recipe.epochs, batch=16, base_lr=160 * recipe.base_lr, warmup_images=800,
        cooldown_images=1920, ema_decay=0.99,
    )  # fmt: skip
    smoke = replace(mini, images=64, batch=8, warmup_images=8, cooldown_images=0)
    return {"smoke": smoke, "mini": mini, "full": full}


SCALINGS: Mapping[str, Callable[[HeadRecipe], Scales]] = {
    "head": head_scales,
    "finetuning": finetuning_scales,
    "scratch": scratch_scales,
}
"""How much training a row's scales mean: of a head alone, of a body with it, of a body from nothing."""


def warmup_images(recipe: HeadRecipe, config: LoopConfig) -> int:
    """How many images pass before lambda counts: the study's 200 steps, as a share of the run."""
    return round(recipe.warmup_steps * STUDY_BATCH * config.images / scales(recipe)["full"].images)

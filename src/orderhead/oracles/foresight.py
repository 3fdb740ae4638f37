"""Importance from the body itself: what revealing a cell does for the cells that are still to come.

Contexts are random masks at the ratios that the body was trained on, so no figure is taken from a mask that it never
saw. A cell's loss is the mean over the middles of LEVELS equal spans of timesteps, the same for every cell, with noise
that all contexts of an image share: what differs between cells is the cell's, between contexts the context's.

Legend: B batch, L cells, C token channels, M draws (random masks).
"""

from __future__ import annotations

import torch
from torch import Tensor

from orderhead.body.diffusion import Diffusion, add_noise
from orderhead.body.mar import MAR
from orderhead.body.soft import cell_losses
from orderhead.oracles.importance import Oracle, mean_where, unit_ranks

MASK_RATIO = (0.7, 1.0)  # MAR's training range
LEVELS = tuple(range(125, 1000, 250))


def _masks(shape_BL: torch.Size, draws: int, rng: torch.Generator) -> Tensor:
    """(M, B, L) bool, True = masked: a ratio a draw from MASK_RATIO, at least one cell masked and one seen."""
    L = shape_BL[1]
    low, high = MASK_RATIO
    masked_M = (L * (low + (high - low) * torch.rand(draws, generator=rng))).round().clamp(1, L - 1)
    return torch.rand(draws, *shape_BL, generator=rng).argsort(2).argsort(2) < masked_M[:, None, None]


@torch.no_grad()
def losses_under(body: MAR, tokens_BLC: Tensor, labels_B: Tensor, masks_MBL: Tensor, rng: torch.Generator) -> Tensor:
    """(M, B, L): the diffusion loss of every cell under each mask (that of a cell which is seen means nothing)."""
    noises = [torch.randn(tokens_BLC.shape, generator=rng).to(tokens_BLC.device) for _ in LEVELS]
    rows = []
    for mask_BL in masks_MBL:
        z_BLD = body.predict(tokens_BLC, mask_BL, labels_B)
        at_levels = [
            cell_losses(body, tokens_BLC, z_BLD, torch.full_like(mask_BL, t, dtype=torch.long), noise_BLC)
            for t, noise_BLC in zip(LEVELS, noises, strict=True)
        ]
        rows.append(torch.stack(at_levels).mean(0))
    return torch.stack(rows)


def predictability(body: MAR, draws: int = 16) -> Oracle:
    """Minus the cell's own diffusion loss while it is masked: easy cells first. Unit ranks."""

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        masks_MBL = _masks(tokens_BLC.shape[:2], draws, rng).to(tokens_BLC.device)
        losses_MBL = losses_under(body, tokens_BLC, labels_B, masks_MBL, rng)
        return unit_ranks(-(losses_MBL * masks_MBL).sum(0) / masks_MBL.sum(0).clamp(min=1))

    return importance


def future_gain(body: MAR, draws: int = 64) -> Oracle:
    """How much lower the rest's diffusion loss is, in expectation over contexts, when the cell is seen. Unit ranks.

    Each draw serves every cell, as in `recognition.marginal`; a cell's mean loss over the draws is subtracted from it
    first, so that which cells happen to be masked together does not count. Noisy: at 64 draws two estimates of the
    same image correlate at 0.16 (as they do when single cells are switched at the same cost). A head, which averages
    over images, can use that; for single images take more draws.
    """

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        masks_MBL = _masks(tokens_BLC.shape[:2], draws, rng).to(tokens_BLC.device)
        losses_MBL = losses_under(body, tokens_BLC, labels_B, masks_MBL, rng)
        usual_BL = (losses_MBL * masks_MBL).sum(0) / masks_MBL.sum(0).clamp(min=1)
        excess_MBL = (losses_MBL - usual_BL) * masks_MBL
        rest_MB = excess_MBL.sum(2) / masks_MBL.sum(2)
        return unit_ranks(mean_where(rest_MB, masks_MBL) - mean_where(rest_MB, ~masks_MBL))

    return importance


def reconstruction(body: MAR) -> Oracle:
    """How much lower the others' diffusion loss is when this cell alone is shown to a body that sees none. Unit ranks.

    The study's fourth alternative by name, formula ours. Costs L + 1 body passes an image.
    """

    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        B, L, _ = tokens_BLC.shape
        others_LL = ~torch.eye(L, dtype=torch.bool, device=tokens_BLC.device)
        masks_MBL = torch.cat([torch.ones_like(others_LL[:1]), others_LL])[:, None].expand(-1, B, -1)
        nothing_BL, *shown = losses_under(body, tokens_BLC, labels_B, masks_MBL, rng)
        falls = [(nothing_BL - one_BL)[:, others_L].mean(1) for one_BL, others_L in zip(shown, others_LL, strict=True)]
        return unit_ranks(torch.stack(falls, 1))

    return importance


def entropy(body: MAR, draws: int = 16) -> Oracle:
    """Minus the body's uncertainty while the cell is masked: certain cells first. Unit ranks.

    The uncertainty is the variance that the diffusion head has learned (the fraction of IDDPM eq. 15, mean over
    channels, timesteps and contexts). The study's third alternative by name, formula ours.
    """
    process = Diffusion.cosine()

    @torch.no_grad()
    def importance(tokens_BLC: Tensor, labels_B: Tensor, *, scores_BL: Tensor | None = None, rng: torch.Generator):
        masks_MBL = _masks(tokens_BLC.shape[:2], draws, rng).to(tokens_BLC.device)
        total_BL = torch.zeros(tokens_BLC.shape[:2], device=tokens_BLC.device)
        for m, mask_BL in enumerate(masks_MBL):
            t_BL = torch.full_like(mask_BL, LEVELS[m % len(LEVELS)], dtype=torch.long)
            noise_BLC = torch.randn(tokens_BLC.shape, generator=rng).to(tokens_BLC.device)
            z_BLD = body.predict(tokens_BLC, mask_BL, labels_B)
            total_BL += _variance_fraction(body, process, tokens_BLC, z_BLD, t_BL, noise_BLC) * mask_BL
        return unit_ranks(-total_BL / masks_MBL.sum(0).clamp(min=1))

    return importance


def _variance_fraction(
    body: MAR, process: Diffusion, tokens_BLC: Tensor, z_BLD: Tensor, t_BL: Tensor, noise_BLC: Tensor
) -> Tensor:
    """(B, L): where the learned log-variance lies between its bounds, in about [-1, 1], mean over channels."""
    x_NC = add_noise(process, tokens_BLC.flatten(0, 1), t_BL.flatten(), noise_BLC.flatten(0, 1))
    out_N2C = body.denoise(x_NC, t_BL.flatten(), z_BLD.flatten(0, 1)).float()
    return out_N2C.chunk(2, dim=-1)[1].mean(-1).unflatten(0, t_BL.shape)

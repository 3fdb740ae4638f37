"""The body under a mask that is a number: what `MAR.predict` gives for 0 and 1, differentiable in between.

Every cell is encoded; a cell's visibility v weighs its keys in the encoder's attention (exp(a) becomes v exp(a)) and
mixes its encoding with the mask token before the decoder. Ours: the study says only that the diffusion loss reaches
the scores through the mask.

Legend: B batch, L cells, C token channels, D width, S buffer tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from orderhead.body.diffusion import TIMESTEPS, Diffusion, loss_terms
from orderhead.body.mar import MAR

SMALLEST = 1e-6  # added to v before the logarithm: the derivative at v = 0 stays what it is, finite


def predict_soft(body: MAR, tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> Tensor:
    """z (B, L, D) for a float mask in [0, 1], 1 = masked; equal to `predict` within 1e-4 where all are 0 or 1."""
    seen_BL = 1 - mask_BL
    x = _decoder_input(body, _encoded(body, tokens_BLC, seen_BL, labels_B), seen_BL)
    for block in body.decoder_blocks:
        x = block(x)
    return body.decoder_norm(x)[:, body.config.buffer_size :] + body.diffusion_pos_embed_learned


def _encoded(body: MAR, tokens_BLC: Tensor, seen_BL: Tensor, labels_B: Tensor) -> Tensor:
    x = body.embedded(tokens_BLC, labels_B)
    bias = F.pad((seen_BL + SMALLEST).log(), (body.config.buffer_size, 0))[:, None, None, :].to(x.dtype)
    if bias.requires_grad:  # CUDA's attention gives its bias a gradient only where the queries have one too
        x.requires_grad_()
    for block in body.encoder_blocks:
        x = block(x, attn_mask=bias)
    return body.encoder_norm(x)


def _decoder_input(body: MAR, x: Tensor, seen_BL: Tensor) -> Tensor:
    S, x = body.config.buffer_size, body.decoder_embed(x)
    v_BL1 = seen_BL[..., None].to(x.dtype)
    cells = v_BL1 * x[:, S:] + (1 - v_BL1) * body.mask_token.to(x.dtype)
    return torch.cat([x[:, :S], cells], dim=1) + body.decoder_pos_embed_learned


def cell_losses(body: MAR, tokens_BLC: Tensor, z_BLD: Tensor, t_BL: Tensor, noise_BLC: Tensor) -> Tensor:
    """MAR's diffusion loss of every cell, (B, L), at the timesteps and noise given."""
    z_ND = z_BLD.flatten(0, 1)
    losses = loss_terms(
        Diffusion.cosine(), lambda x, t: body.denoise(x, t, z_ND), tokens_BLC.flatten(0, 1), t_BL.flatten(),
        noise_BLC.flatten(0, 1),
    )  # fmt: skip
    return losses.unflatten(0, t_BL.shape)


def random_levels(shape_BLC: torch.Size, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A timestep (B, L) and noise (B, L, C) for every cell, on the CPU."""
    return torch.randint(0, TIMESTEPS, shape_BLC[:2], generator=rng), torch.randn(shape_BLC, generator=rng)

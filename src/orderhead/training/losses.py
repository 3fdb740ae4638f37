"""What is minimised: each function closes over its data and maps (model, batch) to a loss.

Legend: B batch, L cells, C channels, M masked cells, R repeats of the diffusion loss.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderhead.body.diffusion import TIMESTEPS, Diffusion, loss_terms
from orderhead.body.mar import MAR
from orderhead.body.tokenizer import KLTokenizer
from orderhead.data.posteriors import Tokens, drawn
from orderhead.training.loop import Batch, Loss
from orderhead.training.masks import Masks, published, random_mask


def _edges(images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return images_BCHW.diff(dim=2), images_BCHW.diff(dim=3)


def tokenizer_loss(images_NCHW: Tensor, kl_weight: float = 1e-4) -> Loss:
    """L1 of pixels and of their differences (for sharp edges), plus the KL of the latents to N(0, 1)."""

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        index_B, rng = batch.index_B, batch.rng
        assert isinstance(model, KLTokenizer)
        device = next(model.parameters()).device
        images = images_NCHW[index_B].to(device)
        mean, log_var = model.moments(images)
        noise = torch.randn(mean.shape, generator=rng).to(device)
        decoded = model.vae.decode(mean + (0.5 * log_var).exp() * noise).sample  # type: ignore[union-attr]
        l1 = F.l1_loss(decoded, images)
        edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(decoded), _edges(images), strict=True))
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
        return l1 + edges + kl_weight * kl, {"l1": l1.item(), "kl": kl.item()}

    return loss


def _augmented(images_BCHW: Tensor, rng: torch.Generator, reach: int = 2) -> Tensor:
    """Each image mirrored with probability 1/2 and shifted by up to `reach` pixels."""
    B, _, H, W = images_BCHW.shape
    flip = torch.rand(B, generator=rng) < 0.5
    images = torch.where(flip[:, None, None, None], images_BCHW.flip(-1), images_BCHW)
    padded = F.pad(images, (reach,) * 4, value=-1.0)
    dy, dx = torch.randint(0, 2 * reach + 1, (2, B), generator=rng)
    rows, cols = dy[:, None] + torch.arange(H), dx[:, None] + torch.arange(W)
    return padded[torch.arange(B)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


def image_class_loss(images_NCHW: Tensor, labels_N: Tensor, smoothing: float = 0.05) -> Loss:
    """Cross-entropy of a classifier of pixels, on mirrored and shifted images."""

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        index_B, rng = batch.index_B, batch.rng
        device = next(model.parameters()).device
        images = _augmented(images_NCHW[index_B], rng).to(device)
        logits, labels = model(images), labels_N[index_B].to(device)
        accuracy = (logits.argmax(-1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), {"accuracy": accuracy}

    return loss


def partial_class_loss(tokens_NLC: Tokens, labels_N: Tensor, smoothing: float = 0.0) -> Loss:
    """Cross-entropy of a classifier that sees 10 to 100 % of the cells, uniformly many, one count a batch.

    The study draws a ratio; that it is one a batch (so that no padding is fed) is ours.
    """

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        index_B, rng = batch.index_B, batch.rng
        device = next(model.parameters()).device
        tokens = drawn(tokens_NLC, index_B, rng)
        B, L, _ = tokens.shape
        seen = math.ceil(L * (0.1 + 0.9 * torch.rand((), generator=rng).item()))
        mask = random_mask(B, L, L - seen, rng).to(device)
        logits, labels = model(tokens.to(device), mask), labels_N[index_B].to(device)
        accuracy = (logits.argmax(-1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), {"accuracy": accuracy}

    return loss


def among(rows_N: Tensor, loss: Loss) -> Loss:
    """`loss` where only the rows `rows_N` of its data are trained on: item k is row `rows_N[k]`."""
    return lambda model, batch: loss(model, replace(batch, index_B=rows_N[batch.index_B]))


def body_loss(
    tokens_NLC: Tokens, labels_N: Tensor, repeats: int = 4, label_drop: float = 0.1, masks: Masks = published
) -> Loss:
    """MAR's diffusion loss on masked cells, MAR's own masks or others of `MASKS`; labels dropped to null for guidance.

    As published, but for one thing: the denoiser runs on the masked cells only, which gives the same loss sooner.
    """
    process = Diffusion.cosine()

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        index_B, rng = batch.index_B, batch.rng
        assert isinstance(model, MAR)
        tokens, labels = drawn(tokens_NLC, index_B, rng).to(model.device), labels_N[index_B]
        B, _, C = tokens.shape
        labels = torch.where(torch.rand(B, generator=rng) < label_drop, -1, labels).to(model.device)
        mask = masks(B, model.grid, rng).to(model.device)
        z_MD = model.predict(tokens, mask, labels)[mask].repeat(repeats, 1)
        x0_MC = tokens[mask].repeat(repeats, 1)
        t_M = torch.randint(0, TIMESTEPS, (len(x0_MC),), generator=rng).to(model.device)
        noise_MC = torch.randn(len(x0_MC), C, generator=rng).to(model.device)
        return loss_terms(process, lambda x, t: model.denoise(x, t, z_MD), x0_MC, t_M, noise_MC).mean(), {}

    return loss

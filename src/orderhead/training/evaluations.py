"""Numbers watched while training: each closes over held-out data and maps (model, images seen) to numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orderhead.core.rng import torch_generator
from orderhead.training.loop import Evaluation
from orderhead.training.masks import random_mask


def reconstruction(images_NCHW: Tensor, batch: int = 250) -> Evaluation:
    """Peak signal-to-noise ratio of an autoencoder on held-out images, dB over the range [-1, 1]."""

    def evaluate(model: nn.Module, seen: int) -> dict[str, float]:
        device = next(model.parameters()).device
        errors = [
            (model.reconstruct(chunk.to(device)).cpu() - chunk).square().mean((1, 2, 3))  # type: ignore[operator]
            for chunk in images_NCHW.split(batch)
        ]
        return {"psnr": (10 * torch.log10(4 / torch.cat(errors))).mean().item()}

    return evaluate


@torch.no_grad()
def _accuracy(logits_of: nn.Module, inputs: list[tuple[Tensor, ...]], labels_N: Tensor) -> float:
    device = next(logits_of.parameters()).device
    guesses = torch.cat([logits_of(*[x.to(device) for x in chunk]).argmax(-1).cpu() for chunk in inputs])
    return (guesses == labels_N).double().mean().item()


def accuracy(images_NCHW: Tensor, labels_N: Tensor, batch: int = 500) -> Evaluation:
    """Top-1 accuracy of a classifier of images."""
    chunks = [(chunk,) for chunk in images_NCHW.split(batch)]
    return lambda model, seen: {"test_accuracy": _accuracy(model, chunks, labels_N)}


def partial_accuracy(tokens_NLC: Tensor, labels_N: Tensor, batch: int = 500) -> Evaluation:
    """Top-1 accuracy of a partial-visibility classifier at 10, 25, 50 and 100 % of the cells."""
    N, L, _ = tokens_NLC.shape

    def evaluate(model: nn.Module, seen: int) -> dict[str, float]:
        numbers = {}
        for percent in (10, 25, 50, 100):
            mask = random_mask(N, L, L - max(1, L * percent // 100), torch_generator(0, percent))
            chunks = list(zip(tokens_NLC.split(batch), mask.split(batch), strict=True))
            numbers[f"test_accuracy_{percent}"] = _accuracy(model, chunks, labels_N)
        return numbers

    return evaluate

"""How far along the first images of a run are after each step: what is seen, what a classifier knows, what is missing.

Legend: N images, T steps, L cells, C channels, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from orderhead.core.grid import Grid
from orderhead.oracles.classifier import PartialVisClassifier
from orderhead.sampling import frames
from orderhead.sampling.export import to_uint8
from orderhead.sampling.sample import Samples


def masks_NTL(samples: Samples, n: int) -> Tensor:
    """What is masked after each step in the first `n` images, bool (n, T, L)."""
    return torch.from_numpy(samples.trace.masks_TBL()[:, :n]).transpose(0, 1)


def partial_images(samples: Samples, n: int) -> Tensor:
    """The first `n` images after each step, masked tokens as zeros, float (n, T, C, H, W) in [-1, 1]."""
    tokens, masks = samples.tokens_BLC[:n], masks_NTL(samples, n).unbind(1)
    return torch.stack([frames.partial_images(tokens, mask_NL, samples.tokenizer) for mask_NL in masks], dim=1)


def greyed(images_NTCHW: Tensor, mask_NTL: Tensor, grid: Grid) -> np.ndarray:
    """uint8 (N, T, H, W) or (N, T, H, W, 3) with the cells that are still masked in grey."""
    pixels = np.moveaxis(to_uint8(frames.greyed(images_NTCHW, mask_NTL, grid)), 2, -1)
    return pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels


@torch.no_grad()
def recognition(
    classifier: PartialVisClassifier, samples: Samples, n: int, batch: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """p(true class) and top-1 correctness after each step of the first `n` images, (n, T) each.

    The classifier reads the revealed tokens alone; images of one step see equally many, so each step is one batch.
    """
    labels = torch.from_numpy(samples.trace.labels_B[:n])
    confidence, correct = [], []
    for mask_NL in masks_NTL(samples, n).unbind(1):
        rows = zip(samples.tokens_BLC[:n].cpu().split(batch), mask_NL.split(batch), strict=True)
        p_NK = torch.cat([classifier(*row) for row in rows]).softmax(-1)
        confidence.append(p_NK.gather(1, labels[:, None]).squeeze(1))
        correct.append(p_NK.argmax(1) == labels)
    return torch.stack(confidence, 1).numpy(), torch.stack(correct, 1).numpy()


def mse_to_final(images_NTCHW: Tensor) -> np.ndarray:
    """Mean squared error of each intermediate image to the last one, (N, T), over the range [-1, 1]."""
    return (images_NTCHW - images_NTCHW[:, -1:]).square().mean((2, 3, 4)).numpy()

"""Which items make up the batch of step t: a function of (seed, t), so that a resumed run sees the same batches."""

from __future__ import annotations

import torch
from torch import Tensor

from orderhead.core.rng import torch_generator


def batch_indices(n: int, batch: int, seed: int, step: int) -> Tensor:
    """Indices (batch,) into `n` items at `step`: epochs are fresh permutations, laid end to end.

    Every item appears once an epoch, whatever the batch size. ValueError where there are no items.
    """
    if n < 1:
        raise ValueError("there are no training items")
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    picked = torch.empty(batch, dtype=torch.long)
    for epoch in epochs.unique().tolist():
        permutation = torch.randperm(n, generator=torch_generator(seed, 0, epoch))
        picked[epochs == epoch] = permutation[positions[epochs == epoch] % n]
    return picked

"""A batch on a CPU: each thread has images of its own, from beginning to end.

Threads that share every product wait for each other at every product, and most are small.

Legend: B images of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.core.together import Check, together
from orderhead.sampling.sample import Sampler, Samples
from orderhead.sampling.settings import Settings

LEAST = 8  # images that are worth a thread of their own

Make = Callable[[Sampler, Tensor, Tensor], Samples]
"""Sampler, labels (B,), the images' numbers (B,) -> samples. Several threads may ask at once."""


def shares_of(settings: Settings, body: MAR, images: int) -> int:
    """In how many parts a batch is sampled: as many as keep most of torch's threads busy; one on a GPU.

    One too with the published random stream, which is of a batch.
    """
    if body.device.type != "cpu" or settings.rng == "official":
        return 1
    threads = torch.get_num_threads()
    most = max(1, min(threads, images // LEAST))
    return max(range(1, most + 1), key=lambda shares: (threads // shares * shares, shares))


def in_threads(make: Make, sampler: Sampler, labels_B: Tensor, index_B: Tensor) -> Samples:
    """`make(sampler, labels_B, index_B)`, in as many threads as `shares_of` says.

    What fails in one is raised here, and stops the others at their next step.
    """
    if (shares := shares_of(sampler.settings, sampler.body, len(index_B))) == 1:
        return make(sampler, labels_B, index_B)

    def share(labels: Tensor, index: Tensor, check: Check) -> Samples:
        return make(sampler.watched(check), labels, index)

    parts = zip(labels_B.tensor_split(shares), index_B.tensor_split(shares), strict=True)
    return Samples.join(together([partial(share, *part) for part in parts], torch.get_num_threads() // shares))

"""A batch on a CPU: each thread has images of its own, from beginning to end.

Threads that share every product wait for each other at every product, and most are small.

Legend: B images of the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.body.watched import watched
from orderhead.sampling.sample import Samples, Settings

LEAST = 8  # images that are worth a thread of their own

Make = Callable[[Settings, MAR, Tensor, Tensor], Samples]
"""Settings, body, labels (B,), the images' numbers (B,) -> samples."""


class _Stopped(Exception):  # noqa: N818
    """Another thread has failed, or somebody has stopped all."""


def shares_of(settings: Settings, body: MAR, images: int) -> int:
    """In how many parts a batch is sampled: one on a GPU, and with the published random stream, which is of a batch."""
    if body.device.type != "cpu" or settings.rng == "official":
        return 1
    return max(1, min(torch.get_num_threads(), images // LEAST))


def in_threads(make: Make, settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor) -> Samples:
    """`make(settings, body, labels_B, index_B)`, in as many threads as `shares_of` says.

    What fails in one is raised here, and stops the others at their next step.
    """
    if (shares := shares_of(settings, body, len(index_B))) == 1:
        return make(settings, body, labels_B, index_B)
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def share(labels: Tensor, index: Tensor) -> Samples:
        try:
            return make(settings, watched(body, check), labels, index)
        except BaseException:
            stopped.set()
            raise

    with _threads(torch.get_num_threads() // shares), ThreadPoolExecutor(shares) as pool:
        given = zip(labels_B.tensor_split(shares), index_B.tensor_split(shares), strict=True)
        parts = [pool.submit(share, *part) for part in given]
        try:
            done = [part.exception() for part in parts]  # of all: the first may have been stopped by a later one
        except BaseException:
            stopped.set()
            raise
    for error in done:
        if error is not None and not isinstance(error, _Stopped):
            raise error
    return Samples.join([part.result() for part in parts])


@contextmanager
def _threads(each: int) -> Iterator[None]:
    """Threads that are started here have so many of torch's threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(each)
    try:
        yield
    finally:
        torch.set_num_threads(before)

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
"""Settings, body, labels (B,), the images' numbers (B,) -> samples. Several threads may ask at once."""


class _Stopped(Exception):  # noqa: N818
    """Another thread has failed, or somebody has stopped all."""


def shares_of(settings: Settings, body: MAR, images: int) -> int:
    """In how many parts a batch is sampled: as many as keep most of torch's threads busy; one on a GPU.

    One too with the published random stream, which is of a batch, and with equalized guidance, since every part would
    find it anew.
    """
    if body.device.type != "cpu" or settings.rng == "official" or settings.cfg_schedule == "equalized":
        return 1
    threads = torch.get_num_threads()
    most = max(1, min(threads, images // LEAST))
    return max(range(1, most + 1), key=lambda shares: (threads // shares * shares, shares))


def in_threads(make: Make, settings: Settings, body: MAR, labels_B: Tensor, index_B: Tensor) -> Samples:
    """`make(settings, body, labels_B, index_B)`, in as many threads as `shares_of` says.

    What fails in one is raised here, and stops the others at their next step.
    """
    if (shares := shares_of(settings, body, len(index_B))) == 1:
        return make(settings, body, labels_B, index_B)
    stopped, threads = threading.Event(), torch.get_num_threads() // shares

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def share(labels: Tensor, index: Tensor) -> Samples:
        try:
            torch.set_num_threads(threads)  # a thread of its own would have as many as there are cores
            return make(settings, watched(body, check), labels, index)
        except BaseException:
            stopped.set()
            raise

    given = zip(labels_B.tensor_split(shares), index_B.tensor_split(shares), strict=True)
    with _threads_kept(), ThreadPoolExecutor(shares) as pool:
        try:
            parts = [pool.submit(share, *part) for part in given]
            done = [part.exception() for part in parts]  # of all: the first may have been stopped by a later one
        except BaseException:
            stopped.set()
            raise
    for error in done:
        if error is not None and not isinstance(error, _Stopped):
            raise error
    return Samples.join([part.result() for part in parts])


@contextmanager
def _threads_kept() -> Iterator[None]:
    """torch's threads are afterwards as many as before: some of their number is everybody's."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)

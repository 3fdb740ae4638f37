"""On CUDA: what a small network computes again and again, recorded once as a graph of kernels and replayed.

A denoising step of a few rows takes the GPU less time than Python takes to launch its kernels. A graph is launched at
once. Recording takes longer than computing, so it begins when the same is asked a second time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

MOST = 32
"""Recordings that are kept for one owner, each with its own memory; the one that was unused for longest goes first."""


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor

    @classmethod
    def of(cls, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> _Recording:
        own, graph, device = tuple(tensor.clone() for tensor in inputs), torch.cuda.CUDAGraph(), inputs[0].device
        recording = torch.cuda.graph(graph, stream=_stream(device), capture_error_mode="thread_local")
        with torch.cuda.device(device), recording:
            output = function(*own)
        return cls(graph, own, output)

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.output.clone()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Where a device's recordings are made: one stream, since libraries keep memory for each."""
    return torch.cuda.Stream(device)


@dataclass
class _Kept:
    """What an owner has been asked, and what was recorded of it."""

    asked: set[Hashable] = field(default_factory=set)
    recordings: OrderedDict[Hashable, _Recording] = field(default_factory=OrderedDict)


_KEPT: WeakKeyDictionary[object, _Kept] = WeakKeyDictionary()


def replayed(owner: object, function: Callable[..., Tensor], fixed: tuple[Hashable, ...], *inputs: Tensor) -> Tensor:
    """`function(*fixed, *inputs)`: computed the first time for these shapes, from then on replayed.

    Every function that comes with an owner is the same one: it does the same with the same arguments, waits for
    nothing, and draws nothing from torch's generators; weights that it reads are the owner's, which lives as long as
    they do. Not for two threads at once. Off CUDA, and under autocast (which keeps casts of weights of its own), it is
    computed each time.
    """
    if not _recordable(inputs[0].device):
        return function(*fixed, *inputs)
    kept = _KEPT.setdefault(owner, _Kept())
    key = (*fixed, *((tensor.shape, tensor.dtype) for tensor in inputs))
    if key not in kept.asked:
        computed = function(*fixed, *inputs)
        kept.asked.add(key)  # only now: what it keeps for later calls is there
        return computed
    if key not in kept.recordings:
        kept.recordings[key] = _Recording.of(lambda *own: function(*fixed, *own), inputs)
    kept.recordings.move_to_end(key)
    if len(kept.recordings) > MOST:
        kept.recordings.popitem(last=False)
    return kept.recordings[key](inputs)


def _recordable(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.is_autocast_enabled("cuda")

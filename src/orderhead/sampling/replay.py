"""On CUDA: what a small network computes again and again, recorded once as a graph of kernels and replayed.

A denoising step of a few rows takes the GPU less time than Python takes to launch its kernels. A graph is launched at
once. Recording takes longer than computing, so it begins when the same is asked a second time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

MOST, REMEMBERED = 64, 4096
"""Recordings that are kept for one owner, each with its own memory; what was asked of it last."""


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
    """What an owner has been asked and at which call last, the longest unused first; and what was recorded of it."""

    calls: int = 0
    asked: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    recordings: dict[Hashable, _Recording] = field(default_factory=dict)

    def ask(self, key: Hashable) -> None:
        self.calls += 1
        self.asked[key] = self.calls
        self.asked.move_to_end(key)
        if len(self.asked) > REMEMBERED:
            self.recordings.pop(self.asked.popitem(last=False)[0], None)

    def room(self, key: Hashable) -> bool:
        """Make room for another recording: one gives way that was asked for last before this one was asked for last.

        So shapes that come in turn, more of them than are kept, do not push each other out.
        """
        if len(self.recordings) < MOST:
            return True
        oldest = min(self.recordings, key=self.asked.__getitem__)
        if idle := self.asked[oldest] < self.asked[key]:
            del self.recordings[oldest]
        return idle


_KEPT: WeakKeyDictionary[object, _Kept] = WeakKeyDictionary()


def replayed(owner: object, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(owner, *inputs)`: computed the first time for these shapes, then replayed where there is room.

    Equal functions do the same with the same arguments. A function waits for nothing and draws nothing from torch's
    generators; weights that it reads are the owner's, which lives as long as they do. Not for two threads at once. Off
    CUDA, and under autocast (which keeps casts of weights of its own), it is computed each time.
    """
    if not _recordable(inputs[0].device):
        return function(owner, *inputs)
    kept = _KEPT.setdefault(owner, _Kept())
    key = (function, *((tensor.shape, tensor.dtype) for tensor in inputs))
    if key in kept.asked and key not in kept.recordings and kept.room(key):
        kept.recordings[key] = _Recording.of(partial(function, owner), inputs)
    recording = kept.recordings.get(key)
    computed = function(owner, *inputs) if recording is None else recording(inputs)
    kept.ask(key)  # only now: what a function keeps for later calls is there
    return computed


def _recordable(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.is_autocast_enabled("cuda")

"""Peak memory of a computation, by what torch holds: on a CPU the same number on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Held(TorchDispatchMode):
    """Adds up the storages that are alive among those that were made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._hold(tensor.untyped_storage(), counts=False)  # what was there before
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._hold(tensor.untyped_storage(), counts=True)
        return out

    def _hold(self, storage: torch.UntypedStorage, counts: bool) -> None:
        if (key := storage._cdata) not in self._known:
            self._known.add(key)
            size = storage.nbytes() if counts else 0
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def peak(work: Callable[[], object]) -> int:
    """The most bytes that tensors made by `work` take at one time, without what one operation needs for itself.

    What a CUDA graph holds is not seen.
    """
    with _Held() as held:
        work()
    return held.peak

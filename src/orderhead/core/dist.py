"""The little that one needs to know about other processes (torchrun's environment variables)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def share(items: Sequence[T]) -> Iterator[T]:
    """This process's share of `items`: item k goes to rank k mod world size."""
    return iter(items[rank() :: world_size()])


def _group() -> Any:
    """torch.distributed, with its process group (gloo for tensors on the CPU, NCCL for those on a GPU)."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return torch.distributed


def barrier() -> None:
    """Wait until every process is here; nothing where there is one process."""
    if world_size() > 1:
        _group().barrier()


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes; nothing where there is one process."""
    if world_size() > 1:
        for tensor in tensors:
            _group().all_reduce(tensor)
            tensor /= world_size()

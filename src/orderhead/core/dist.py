"""The little that one needs to know about other processes (torchrun's environment variables)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def share(items: Sequence[T]) -> Iterator[T]:
    """This process's share of `items`: item k goes to rank k mod world size."""
    return iter(items[rank() :: world_size()])


def barrier() -> None:
    """Wait until every process is here (gloo); nothing where there is one process."""
    if world_size() > 1:
        import torch.distributed

        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        torch.distributed.barrier()

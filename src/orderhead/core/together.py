"""Tasks in threads of their own, all of which end where one fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

Check = Callable[[], None]
"""A task calls it as often as it may be stopped; it raises `Stopped` where another task has failed."""


class Stopped(Exception):  # noqa: N818
    """Another task has failed, or somebody has stopped all."""


def together(tasks: Sequence[Callable[[Check], T]], torch_threads: int) -> list[T]:
    """What each task gives, in their order; each has a thread of its own, with so many of torch's.

    What one raises is raised here, when the others have ended at their next check. torch's threads are afterwards as
    many as before: some of their number is everybody's.
    """
    stopped, before = threading.Event(), torch.get_num_threads()

    def check() -> None:
        if stopped.is_set():
            raise Stopped

    def work(task: Callable[[Check], T]) -> T:
        try:
            torch.set_num_threads(torch_threads)  # a new thread would have as many as there are cores
            return task(check)
        except BaseException:
            stopped.set()
            raise

    try:
        with ThreadPoolExecutor(len(tasks)) as pool:
            try:
                done = [pool.submit(work, task) for task in tasks]
                errors = [task.exception() for task in done]  # of all: the first may have been stopped by a later one
            except BaseException:  # Ctrl-C
                stopped.set()
                raise
    finally:
        torch.set_num_threads(before)
    for error in errors:
        if error is not None and not isinstance(error, Stopped):
            raise error
    return [task.result() for task in done]

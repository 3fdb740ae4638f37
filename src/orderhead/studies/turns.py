"""Runs that go forward together, a step of each at a time: whatever else the machine does slows all of them alike."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import torch
from torch import Tensor

from orderhead.body.mar import MAR
from orderhead.core.together import Check, together
from orderhead.sampling import stream
from orderhead.sampling.sample import Sampler
from orderhead.sampling.settings import Settings

Pause = Callable[[], None]
"""A run calls it at the start of each unmasking step: the other runs go first."""

Run = Callable[[Pause], Tensor]
"""What is timed; it gives the tokens that it sampled."""


class Turns:
    """Who may compute: runs take turns, and the time that each has had the floor is counted."""

    def __init__(self, names: Sequence[str]) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self._queue, self._floor, self._since = deque(names), threading.Condition(), 0.0

    def take(self, name: str) -> None:
        """Wait until it is this run's turn."""
        with self._floor:
            self._floor.wait_for(lambda: self._queue[0] == name)
            self._since = time.perf_counter()

    def leave(self, name: str, done: bool = False) -> None:
        """Let the next run go on; one that is `done` has no further turn."""
        with self._floor:
            self.seconds[name] += time.perf_counter() - self._since
            self._queue.popleft()
            if not done:
                self._queue.append(name)
            self._floor.notify_all()


@dataclass
class Round:
    """Seconds of each run, and what it sampled."""

    seconds: Mapping[str, float]
    tokens: Mapping[str, Tensor] = field(default_factory=dict)


def alternate(cases: Mapping[str, Run], device: torch.device, step: Callable[[], object] = lambda: None) -> Round:
    """All cases go forward step by step, in turn; `step` is told of each step.

    What one raises is raised here, and stops the others at their next step.
    """
    turns = Turns(list(cases))

    def case(name: str, check: Check) -> Tensor:
        def pause() -> None:
            wait(device)
            turns.leave(name)
            turns.take(name)
            check()
            step()

        turns.take(name)
        try:
            tokens = cases[name](pause)
            wait(device)
            return tokens
        finally:
            turns.leave(name, done=True)

    tokens = together([partial(case, name) for name in cases], torch.get_num_threads())
    return Round(turns.seconds, dict(zip(cases, tokens, strict=True)))


def sampled(settings: Settings, body: MAR, images: int, pause: Pause, batches: int = 1) -> Tensor:
    """Tokens of the first so many images, with a pause at the start of every unmasking step.

    In several batches, one after the other, a turn is as many steps: as much work as a step of all images.
    """
    found, passes = [], count()
    sampler = Sampler.of(settings, body).watched(lambda: None if next(passes) % batches else pause())
    for index in torch.arange(images).tensor_split(batches):
        labels = stream.labels_of(index, body.config.classes).to(body.device)
        found.append(sampler(labels, index).tokens_BLC)
    return torch.cat(found)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

"""What asking a head costs, end to end: the same images under random and under a head, side by side.

Weights are untrained, since time does not depend on them. The runs of a round go forward together, one unmasking step
of each at a time, so that whatever else the machine does slows all of them alike; a ratio compares their seconds, and
the value is the median over rounds, beside the least and the greatest. `inside` says the same from within the runs: 1 +
the head's own seconds over all others.
"""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from orderhead.body.conditions import Conditions
from orderhead.body.mar import MAR, SIZES
from orderhead.core.device import default_device
from orderhead.core.names import lookup
from orderhead.orders.learned import learned
from orderhead.orders.policy import Policy
from orderhead.orders.state import DecodeState
from orderhead.sampling.sample import Settings, run
from orderhead.training.heads import HeadRecipe, untrained_head

MODES = ("fast", "semifast-8", "slow")


@dataclass(frozen=True)
class Setting:
    """What is timed: a body's size, unmasking and denoising steps, images at once, guidance."""

    size: str = "base"
    steps: int = 64
    denoise_steps: int = 100
    batch: int = 1
    cfg_scale: float = 2.9


def rescoring(setting: Setting = Setting(), rounds: int = 3, modes: Sequence[str] = MODES) -> list[dict[str, object]]:
    """Seconds of each mode over those of random, as rows: mode, inside, ratio, least, greatest, rounds and the setting.

    ValueError for an unknown size, or fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is at least 1, got {rounds}")
    body = MAR(lookup("size", setting.size, SIZES)).to(default_device()).eval()
    network = untrained_head(HeadRecipe(""), body)
    random = Settings(steps=setting.steps, denoise_steps=setting.denoise_steps, cfg_scale=setting.cfg_scale)
    heads = {mode: _Timed(learned(network)) for mode in modes}
    cases = {"random": random} | {mode: replace(random, order=head, rescore=mode) for mode, head in heads.items()}
    for case in cases.values():
        case.check(body)
    seconds, own = ({name: [] for name in cases} for _ in range(2))
    with tqdm(total=rounds * len(cases) * setting.steps, desc="timing", unit="step") as bar:
        for _ in range(rounds):
            for head in heads.values():
                head.seconds = 0.0
            for name, spent in together(cases, body, setting.batch, bar.update).items():
                seconds[name].append(spent)
                own[name].append(heads[name].seconds if name in heads else 0.0)
    return [_row(mode, seconds[mode], seconds["random"], own[mode], setting) for mode in modes]


@dataclass
class _Timed:
    """A policy, and the seconds that it took."""

    policy: Policy
    seconds: float = 0.0

    def __call__(self, state: DecodeState) -> Tensor:
        _wait(state.mask_BL.device)
        started = time.perf_counter()
        scores_BL = self.policy(state)
        _wait(state.mask_BL.device)
        self.seconds += time.perf_counter() - started
        return scores_BL


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


def together(
    cases: Mapping[str, Settings], body: MAR, batch: int, step: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Seconds of each case for the same `batch` images, all cases going forward step by step; `step` is told of each.

    Whatever a case raises is raised here.
    """
    turns, failed, threads = Turns(list(cases)), [], torch.get_num_threads()
    labels, index = torch.arange(batch, device=body.device) % body.config.classes, torch.arange(batch)

    def work(name: str) -> None:
        turns.take(name)
        try:
            torch.set_num_threads(threads)  # a thread of its own would have as many as there are cores
            run(cases[name], _stepping(body, name, turns, step), labels, index)
            _wait(body.device)
        except Exception as error:
            failed.append(error)
        turns.leave(name, done=True)

    workers = [threading.Thread(target=work, args=(name,), daemon=True) for name in cases]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return turns.seconds


def _stepping(body: MAR, name: str, turns: Turns, step: Callable[[], object]) -> MAR:
    """The same body, which lets the other runs go first at the start of every unmasking step."""
    own, conditions = copy.copy(body), body.conditions

    def predicted(tokens_BLC: Tensor, mask_BL: Tensor, labels_B: Tensor) -> Conditions:
        _wait(body.device)
        turns.leave(name)
        turns.take(name)
        step()
        return conditions(tokens_BLC, mask_BL, labels_B)

    own.conditions = predicted
    return own


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _row(mode: str, mine: list[float], random: list[float], own: list[float], setting: Setting) -> dict[str, object]:
    ratios = sorted(a / b for a, b in zip(mine, random, strict=True))
    inside = statistics.median(a / (a - head) for a, head in zip(mine, own, strict=True))
    return {
        "mode": mode, "inside": round(inside, 4), "ratio": round(statistics.median(ratios), 4),
        "least": round(ratios[0], 4), "greatest": round(ratios[-1], 4), "rounds": len(ratios), "size": setting.size,
        "steps": setting.steps, "denoise_steps": setting.denoise_steps, "batch": setting.batch,
        "threads": torch.get_num_threads(),
    }  # fmt: skip

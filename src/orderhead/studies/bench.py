"""What asking a head costs, end to end: the same images under random and under a head, in interleaved rounds.

Weights are untrained, since time does not depend on them. A ratio compares runs of one round, one after the other; the
value is the median over rounds, beside the least and the greatest. `inside` says the same from within the runs: 1 + the
head's own seconds over all others, which a machine that is busy with other things too disturbs less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

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
    head = _Timed(learned(untrained_head(HeadRecipe(""), body)))
    random = Settings(steps=setting.steps, denoise_steps=setting.denoise_steps, cfg_scale=setting.cfg_scale)
    cases = {"random": random} | {mode: replace(random, order=head, rescore=mode) for mode in modes}
    for case in cases.values():
        case.check(body)
    seconds, own = ({name: [] for name in cases} for _ in range(2))
    for name in tqdm(list(_interleaved(list(cases), rounds)), desc="timing", unit="run"):
        head.seconds = 0.0
        seconds[name].append(_seconds(cases[name], body, setting.batch))
        own[name].append(head.seconds)
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


def _interleaved(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Every name once a round, each round starting with the next one."""
    for k in range(rounds):
        yield from names[k % len(names) :]
        yield from names[: k % len(names)]


def _seconds(settings: Settings, body: MAR, batch: int) -> float:
    labels = torch.arange(batch, device=body.device) % body.config.classes
    _wait(body.device)
    started = time.perf_counter()
    run(settings, body, labels, torch.arange(batch))
    _wait(body.device)
    return time.perf_counter() - started


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

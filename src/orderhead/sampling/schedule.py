"""How many tokens each step reveals: counts that sum to the number of masked cells.

Legend: T steps, L cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import pairwise

from orderhead.body.diffusion import TIMESTEPS
from orderhead.core.checks import whole
from orderhead.core.names import lookup


def cosine(steps: int, cells: int) -> tuple[int, ...]:
    """floor(L cos(pi/2 (t + 1) / T)) stay masked after step t, within [1, still masked - 1] (MaskGIT; MAR 3.4)."""
    counts, masked = [], cells
    for step in range(steps - 1):
        keep = math.floor(cells * math.cos(math.pi / 2 * (step + 1) / steps))
        keep = max(1, min(masked - 1, keep))
        counts.append(masked - keep)
        masked = keep
    return (*counts, masked)


def linear(steps: int, cells: int) -> tuple[int, ...]:
    """The same number each step, as far as it divides: L t / T rounded down is revealed after step t."""
    edges = [cells * step // steps for step in range(steps + 1)]
    return tuple(b - a for a, b in pairwise(edges))


def one_by_one(steps: int, cells: int) -> tuple[int, ...]:
    """One token a step, whatever `steps` says."""
    return (1,) * cells


SCHEDULES: Mapping[str, Callable[[int, int], tuple[int, ...]]] = {
    "cosine": cosine, "linear": linear, "one_by_one": one_by_one,
}  # fmt: skip


def counts_of(schedule: str | Sequence[int], steps: int, cells: int) -> tuple[int, ...]:
    """The counts of a named schedule, or explicit ones, checked.

    ValueError for an unknown name, steps outside [1, cells], or counts that are not positive or do not sum to `cells`.
    """
    if not isinstance(schedule, str):
        if not isinstance(schedule, Sized):
            raise ValueError(f"a schedule is a name or a list of tokens a step, got {schedule!r}")
        counts = tuple(whole("a step's number of tokens", c) for c in schedule)
        if sum(counts) != cells or min(counts, default=0) < 1:
            raise ValueError(f"explicit counts are positive and sum to {cells} cells, got {list(counts)}")
        return counts
    make = lookup("schedule", schedule, SCHEDULES)
    if not 1 <= steps <= cells:
        raise ValueError(f"steps lies in [1, {cells}] (the cells to reveal), got {steps}")
    return make(steps, cells)


DenoiseSteps = int | str | Sequence[int]
"""Denoising steps a token: one number; `"50:5"`, from the first unmasking step to the last in equal parts; or a number
for each unmasking step."""


def denoise_counts(given: DenoiseSteps, steps: int) -> tuple[int, ...]:
    """The denoising steps of each unmasking step.

    ValueError for text of another form, a list of another length, and numbers outside [1, 1000].
    """
    if isinstance(given, str):
        counts = _between(given, steps)
    elif isinstance(given, Sequence):
        counts = tuple(whole("a number of denoising steps", n) for n in given)
    else:
        counts = (whole("denoise_steps", given),) * steps
    if len(counts) != steps:
        raise ValueError(f"denoise_steps has {len(counts)} numbers for {steps} unmasking steps; give one for each")
    for n in counts:
        if not 1 <= n <= TIMESTEPS:
            raise ValueError(f"denoise_steps lies in [1, {TIMESTEPS}], got {n}")
    return counts


def _between(text: str, steps: int) -> tuple[int, ...]:
    """`"50:5"` -> whole numbers from 50 down to 5, `"25"` -> the same one everywhere."""
    ends = [part.strip() for part in text.split(":")]
    if len(ends) > 2 or not all(end.isdecimal() for end in ends):
        raise ValueError(f"denoise_steps is a number, FIRST:LAST or a list of numbers, got {text!r}")
    first, last = int(ends[0]), int(ends[-1])
    return tuple(round(first + (last - first) * k / max(steps - 1, 1)) for k in range(steps))


def rescore_steps(rescore: int | str, steps: int) -> frozenset[int]:
    """The steps at which the policy is asked: `fast` 1, `semifast-8` 8, `slow` every step, or an integer.

    n calls are spread as floor(i T / n), so semifast-8 on 64 steps is 0, 8, ..., 56. ValueError for anything else.
    """
    named = {"fast": 1, "semifast-8": min(8, steps), "slow": steps}
    if isinstance(rescore, str):
        rescore = int(rescore) if rescore.isdecimal() else lookup("rescore mode", rescore, named)
    rescore = whole("rescore", rescore)
    if not 1 <= rescore <= steps:
        raise ValueError(f"rescore lies in [1, steps = {steps}], got {rescore}")
    return frozenset(i * steps // rescore for i in range(rescore))

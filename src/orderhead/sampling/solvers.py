"""From starting noise to a token: the published ancestral sampler, and a deterministic one for few steps.

A solver maps (denoise, noise, settings) to tokens; it knows neither orders nor guidance.

Legend: N tokens, C channels, K denoising steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from orderhead.body.diffusion import (
    TIMESTEPS,
    Diffusion,
    log_scale,
    posterior_mean,
    predict_x0,
)
from orderhead.core.checks import within

Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""x (N, C) and a timestep in [0, 1000) -> epsilon and variance fraction (N, C), guidance in them."""

Noise = Callable[[int], Tensor]
"""k -> standard normals (N, C): 0 is where the solver starts, k >= 1 what its k-th step adds."""


@dataclass(frozen=True)
class Denoising:
    """Settings that all solvers share.

    `temperature` multiplies the noise that is added (the published meaning; `dpm` adds none and scales the noise that
    it starts from); `x0_bound` clamps every predicted token to [-bound, bound] (infinity is the published code: small
    bodies diverge there with few steps).
    """

    steps: int = 100
    temperature: float = 1.0
    x0_bound: float = math.inf

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= TIMESTEPS:
            raise ValueError(f"denoise_steps lies in [1, {TIMESTEPS}], got {self.steps}")
        within("temperature", self.temperature, 0, 10)
        if not (isinstance(self.x0_bound, Real) and self.x0_bound > 0):
            raise ValueError(f"x0_bound > 0, got {self.x0_bound!r}")


@dataclass(frozen=True)
class Solver:
    """`solve` makes tokens; `timesteps` are those that it asks about with so many steps, in order."""

    solve: Callable[[Denoise, Noise, Denoising], Tensor]
    timesteps: Callable[[int], Sequence[int]]


def ancestral(denoise: Denoise, noise: Noise, settings: Denoising) -> Tensor:
    """Ancestral sampling (DDPM algorithm 2, learned variance), respaced from 1000 steps: MAR as published."""
    process, x_NC = Diffusion.cosine(settings.steps), noise(0)
    for i in reversed(range(settings.steps)):
        epsilon, fraction = denoise(x_NC, int(process.timestep_K[i]))
        x_NC = posterior_mean(process, predict_x0(process, x_NC, i, epsilon, settings.x0_bound), x_NC, i)
        fresh = noise(settings.steps - i)
        if i > 0:
            x_NC = torch.addcmul(x_NC, log_scale(process, fraction, i).exp(), fresh, value=settings.temperature)
    return x_NC


@cache
def ancestral_timesteps(steps: int) -> tuple[int, ...]:
    """`steps` timesteps, from the noisiest on."""
    return tuple(Diffusion.cosine(steps).timestep_K[::-1].tolist())


@cache
def dpm_timesteps(steps: int, start: int = 950) -> tuple[int, ...]:
    """At most `steps` timesteps from `start` down to 0, evenly spaced in log(alpha / sigma), without repeats."""
    alpha_bar = Diffusion.cosine().alpha_bar_K
    log_snr = 0.5 * np.log(alpha_bar / (1 - alpha_bar))  # falls with t
    wanted = np.linspace(log_snr[start], log_snr[0], steps)
    return tuple(np.unique([np.abs(log_snr - value).argmin() for value in wanted])[::-1].tolist())


def dpm(denoise: Denoise, noise: Noise, settings: Denoising) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): deterministic, for few steps (10 are plenty; about 40 the most).

    It starts at t = 950, below the last timesteps, where the cosine schedule divides by almost nothing. It starts there
    from noise alone, which pulls a token's mean towards 0 by at most 8 %. The temperature scales that noise.
    """
    t_K = dpm_timesteps(settings.steps)
    alpha_bar = Diffusion.cosine().alpha_bar_K[list(t_K)]
    alpha_K, sigma_K = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    lambda_K = np.log(alpha_K / sigma_K)
    x_NC, previous = noise(0) * settings.temperature * sigma_K[0], None
    for k, t in enumerate(t_K):
        epsilon, _ = denoise(x_NC, t)
        x0 = ((x_NC - sigma_K[k] * epsilon) / alpha_K[k]).clamp(-settings.x0_bound, settings.x0_bound)
        if k == len(t_K) - 1:
            return x0
        h, blend = lambda_K[k + 1] - lambda_K[k], x0
        if previous is not None:
            share = h / (2 * (lambda_K[k] - lambda_K[k - 1]))
            blend = (1 + share) * x0 - share * previous
        x_NC, previous = sigma_K[k + 1] / sigma_K[k] * x_NC - alpha_K[k + 1] * math.expm1(-h) * blend, x0
    raise AssertionError("settings.steps >= 1")


SOLVERS: Mapping[str, Solver] = {
    "ancestral": Solver(ancestral, ancestral_timesteps), "dpm": Solver(dpm, dpm_timesteps),
}  # fmt: skip

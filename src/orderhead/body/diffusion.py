"""Gaussian diffusion on single tokens, as MAR uses it: cosine schedule, epsilon, learned variance range.

Sources: Ho et al. 2020 (DDPM, equation numbers below), Nichol and Dhariwal 2021 (IDDPM: cosine schedule eq. 17,
variance range eq. 15), Li et al. 2024 (MAR). Everything is a table in float64 plus a formula; the network is a
function that is passed in.

Legend: N tokens, C channels, K denoising steps kept of T = 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

TIMESTEPS = 1000

Denoiser = Callable[[Tensor, Tensor], Tensor]  # x_NC, t_N -> raw epsilon and variance halves (N, 2C)


def cosine_betas(timesteps: int = TIMESTEPS) -> np.ndarray:
    """beta_t of the cosine schedule, float64 (T,), capped at 0.999 (IDDPM eq. 17)."""
    alpha_bar = np.array([math.cos((i / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(timesteps + 1)])
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


def respaced(steps: int, timesteps: int = TIMESTEPS) -> np.ndarray:
    """The `steps` of `timesteps` that are kept, evenly spaced from 0 to T - 1 and rounded (IDDPM section 4).

    ValueError unless 1 <= steps <= timesteps.
    """
    if not 1 <= steps <= timesteps:
        raise ValueError(f"denoise_steps lies in [1, {timesteps}], got {steps}")
    stride = (timesteps - 1) / (steps - 1) if steps > 1 else 1.0
    kept, position = [], 0.0
    for _ in range(steps):  # the running sum, not i * stride: the published rounding
        kept.append(round(position))
        position += stride
    return np.array(kept)


@dataclass(frozen=True)
class Diffusion:
    """The tables of a (respaced) process. Each array is float64 (K,), index 0 is the least noisy step."""

    timestep_K: np.ndarray
    beta_K: np.ndarray
    alpha_bar_K: np.ndarray
    posterior_mean_x0_K: np.ndarray
    posterior_mean_xt_K: np.ndarray
    posterior_log_var_K: np.ndarray

    @classmethod
    def cosine(cls, steps: int = TIMESTEPS) -> Diffusion:
        """The cosine process on `steps` evenly spaced timesteps; the kept alpha_bar are the full process's own."""
        return _cosine(steps)

    def __len__(self) -> int:
        return len(self.timestep_K)


Step = Tensor | int
"""The index of each token's step (N,), or of all tokens'."""


def _column(table_K: np.ndarray, t: Step) -> Tensor | float:
    """A float64 table at the indices t, as a float32 column (N, 1) on their device; or its number at one index."""
    if isinstance(t, int):
        return float(table_K[t])
    return torch.from_numpy(table_K).float().to(t.device)[t].unsqueeze(-1)


@lru_cache(maxsize=32)
def _cosine(steps: int) -> Diffusion:
    kept = respaced(steps)
    alpha_bar = np.cumprod(1 - cosine_betas())[kept]
    previous = np.append(1.0, alpha_bar[:-1])
    beta = 1 - alpha_bar / previous
    variance = beta * (1 - previous) / (1 - alpha_bar)  # DDPM eq. 7
    clipped = np.append(variance[1:2], variance[1:]) if steps > 1 else np.maximum(variance, 1e-20)
    return Diffusion(
        timestep_K=kept,
        beta_K=beta,
        alpha_bar_K=alpha_bar,
        posterior_mean_x0_K=beta * np.sqrt(previous) / (1 - alpha_bar),
        posterior_mean_xt_K=(1 - previous) * np.sqrt(1 - beta) / (1 - alpha_bar),
        posterior_log_var_K=np.log(clipped),
    )


def add_noise(process: Diffusion, x0_NC: Tensor, t_N: Tensor, noise_NC: Tensor) -> Tensor:
    """q(x_t | x_0), DDPM eq. 4."""
    signal, noise = np.sqrt(process.alpha_bar_K), np.sqrt(1 - process.alpha_bar_K)
    return _column(signal, t_N) * x0_NC + _column(noise, t_N) * noise_NC


def predict_x0(process: Diffusion, x_NC: Tensor, t: Step, epsilon_NC: Tensor, bound: float = math.inf) -> Tensor:
    """x_0 from epsilon (DDPM eq. 4 solved), clamped to [-bound, bound]; no bound is the published code."""
    scale, shift = np.sqrt(1 / process.alpha_bar_K), np.sqrt(1 / process.alpha_bar_K - 1)
    x0_NC = _column(scale, t) * x_NC - _column(shift, t) * epsilon_NC
    return x0_NC if bound == math.inf else x0_NC.clamp(-bound, bound)


def posterior_mean(process: Diffusion, x0_NC: Tensor, x_NC: Tensor, t: Step) -> Tensor:
    """The mean of q(x_{t-1} | x_t, x_0), DDPM eq. 7."""
    return _column(process.posterior_mean_x0_K, t) * x0_NC + _column(process.posterior_mean_xt_K, t) * x_NC


def log_scale(process: Diffusion, fraction_NC: Tensor, t: Step) -> Tensor:
    """Half the log of the learned variance, log-linear between the posterior's and beta (IDDPM eq. 15).

    The fraction lies in [-1, 1].
    """
    high, low = np.log(process.beta_K), process.posterior_log_var_K
    return fraction_NC * _column((high - low) / 4, t) + _column((high + low) / 4, t)


def loss_terms(process: Diffusion, denoise: Denoiser, x0_NC: Tensor, t_N: Tensor, noise_NC: Tensor) -> Tensor:
    """MAR's training loss of each token, (N,): epsilon's MSE plus the variational bound of the variance, in bits.

    The bound (IDDPM L_vlb) trains the variance alone: epsilon is detached in it.
    """
    x_NC = add_noise(process, x0_NC, t_N, noise_NC)
    epsilon, fraction = denoise(x_NC, t_N).float().chunk(2, dim=-1)
    mse = (epsilon - noise_NC).square().mean(-1)
    return mse + _bound(process, x0_NC, x_NC, t_N, epsilon.detach(), fraction).mean(-1) / math.log(2)


def bound_terms(process: Diffusion, denoise: Denoiser, x0_NC: Tensor, t_N: Tensor, noise_NC: Tensor) -> Tensor:
    """Each token's term of the variational bound at its timestep, (N,), in bits, summed over channels.

    Their sum over all timesteps bounds -log2 p(token | condition) from above, up to a constant (Ho et al. 2020, eq. 5;
    the prior's term depends on no network).
    """
    x_NC = add_noise(process, x0_NC, t_N, noise_NC)
    epsilon, fraction = denoise(x_NC, t_N).float().chunk(2, dim=-1)
    return _bound(process, x0_NC, x_NC, t_N, epsilon, fraction).sum(-1) / math.log(2)


def _bound(
    process: Diffusion, x0_NC: Tensor, x_NC: Tensor, t_N: Tensor, epsilon_NC: Tensor, fraction_NC: Tensor
) -> Tensor:
    """KL(q(x_{t-1} | x_t, x_0) to the model's step), nats a channel; at t = 0 the discretized likelihood of x_0."""
    mean = posterior_mean(process, predict_x0(process, x_NC, t_N, epsilon_NC), x_NC, t_N)
    true_mean, true_log_var = posterior_mean(process, x0_NC, x_NC, t_N), _column(process.posterior_log_var_K, t_N)
    half_log_var = log_scale(process, fraction_NC, t_N)
    log_var = 2 * half_log_var
    kl = 0.5 * (log_var - true_log_var - 1 + (true_log_var - log_var).exp())
    kl = kl + 0.5 * (true_mean - mean).square() * (-log_var).exp()
    first = _discretized_nll(x0_NC, mean, half_log_var)
    return torch.where((t_N == 0).unsqueeze(-1), first, kl)


def _discretized_nll(x_NC: Tensor, mean_NC: Tensor, log_scale_NC: Tensor) -> Tensor:
    """-log p(x) of a Gaussian on bins of 1/255 half-width, nats (DDPM eq. 13, with its tanh form of the CDF)."""

    def cdf(v: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    centered, inverse = x_NC - mean_NC, (-log_scale_NC).exp()
    upper, lower = cdf(inverse * (centered + 1 / 255)), cdf(inverse * (centered - 1 / 255))
    mass = torch.where(x_NC < -0.999, upper, torch.where(x_NC > 0.999, 1 - lower, upper - lower))
    return -mass.clamp(min=1e-12).log()

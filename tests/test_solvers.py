"""The sampler's numerics against other ways of computing them: guidance cell by cell, solvers in closed form."""

import itertools
import math

import numpy as np
import pytest
import torch

from orderhead.body.diffusion import Diffusion, cosine_betas
from orderhead.core.grid import Grid
from orderhead.core.rng import Paired
from orderhead.orders.policy import POLICIES
from orderhead.orders.state import DecodeState
from orderhead.sampling import guidance as guide
from orderhead.sampling.schedule import counts_of
from orderhead.sampling.solvers import Denoising, ancestral, dpm

# Guidance.


def _guidance_by_cell(guidance, orders_NL, counts, grid):
    """What each cell of each order gets, (N, L), through the function that the sampler calls."""
    N, L = orders_NL.shape
    state = DecodeState.start(grid, 1, torch.zeros(N, dtype=torch.long), torch.arange(N), counts, Paired(0))
    got = torch.zeros(N, L)
    edges = np.concatenate([[0], np.cumsum(counts)])
    for a, b in itertools.pairwise(edges):
        where = torch.zeros(N, L, dtype=torch.bool).scatter(1, torch.from_numpy(orders_NL[:, a:b]), True)
        got[where] = guidance(state, where)
        state = state.reveal(where, torch.zeros(int(where.sum()), 1))
    return got.double().numpy()


@pytest.mark.parametrize("name", ["center_spiral", "multiscale", "center_perturbed", "spread"])
def test_equalized_gives_every_cell_the_random_orders_mean(name):
    grid, counts = Grid(8, 8), counts_of("cosine", 16, 64)
    orders = np.stack([POLICIES[name].order(grid, np.random.default_rng(i), counts) for i in range(50)])
    got = _guidance_by_cell(guide.equalized(3.0, orders, counts), orders, counts, grid)
    uniform = _guidance_by_cell(guide.linear(3.0), np.arange(64)[None], counts, grid).mean()
    assert got.mean(0) == pytest.approx(np.full(64, uniform), abs=1e-5)
    linear = _guidance_by_cell(guide.linear(3.0), orders, counts, grid)
    assert linear.mean(0).std() > 0.05  # which is what there was to equalise


def test_linear_guidance_rises_as_published():
    got = _guidance_by_cell(guide.linear(3.0), np.arange(64)[None], counts_of("linear", 4, 64), Grid(8, 8))
    assert np.unique(got) == pytest.approx([1.5, 2.0, 2.5, 1 + 2 * 63 / 64])


# Solvers, against a data distribution whose denoiser is known in closed form: x0 ~ N(mean, std^2).

MEAN, STD = 0.7, 0.5


def gaussian_denoiser(x_NC, t):
    """E[epsilon | x_t] of N(MEAN, STD^2) data, and the variance fraction that gives the posterior's true variance."""
    alpha_bar = np.cumprod(1 - cosine_betas())[t].item()
    variance = alpha_bar * STD**2 + 1 - alpha_bar
    epsilon = math.sqrt(1 - alpha_bar) * (x_NC - math.sqrt(alpha_bar) * MEAN) / variance
    return epsilon, -torch.ones_like(x_NC)


def _draw(solver, steps, n=20_000, **settings):
    def noise(k):
        return torch.randn(n, 1, generator=torch.Generator().manual_seed(k))

    return solver(gaussian_denoiser, noise, Denoising(steps, **settings))


@pytest.mark.parametrize("steps", [1000, 250])
def test_ancestral_sampling_samples_a_gaussian(steps):
    x = _draw(ancestral, steps)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(STD, abs=0.02)


def _exact_flow(x_T):
    """For Gaussian data the ODE's solution is known: (x_t - mean_t) / std_t stays constant from t = 950 to 0."""
    alpha_bar = np.cumprod(1 - cosine_betas())
    start, end = alpha_bar[950], alpha_bar[0]
    std = lambda a: np.sqrt(a * STD**2 + 1 - a)  # noqa: E731
    x_start = x_T.double() * np.sqrt(1 - start)
    x_end = np.sqrt(end) * MEAN + std(end) / std(start) * (x_start - np.sqrt(start) * MEAN)
    epsilon, _ = gaussian_denoiser(x_end, 0)
    return (x_end - np.sqrt(1 - end) * epsilon) / np.sqrt(end)


def test_dpm_converges_to_the_exact_flow_at_second_order():
    exact = _exact_flow(torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)))
    errors = [(_draw(dpm, steps, 1000).double() - exact).abs().max().item() for steps in (10, 20, 40)]
    assert errors[0] < 0.1
    assert errors[0] / errors[1] > 2.5
    assert errors[1] / errors[2] > 2.5
    assert exact.mean().item() == pytest.approx(MEAN * 0.95, abs=0.04)  # what starting from noise at 950 costs


def test_the_bound_and_the_temperature_do_what_they_say():
    assert _draw(dpm, 10, x0_bound=0.2).abs().max() <= 0.2
    assert _draw(ancestral, 50, x0_bound=0.2, temperature=0.0).abs().max() < 0.21
    assert torch.equal(_draw(ancestral, 50, temperature=0.0), _draw(ancestral, 50, temperature=0.0))
    assert _draw(ancestral, 100, temperature=0.5).std() < _draw(ancestral, 100).std()
    for bad in ({"temperature": -1.0}, {"x0_bound": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Denoising(10, **bad)


def test_one_step_predicts_x0_at_once():
    process = Diffusion.cosine(1)
    assert len(process) == 1
    assert torch.isfinite(_draw(ancestral, 1, x0_bound=2.0)).all()

"""The body's laws at a small size, and its diffusion against formulas written out from the papers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from parity.fill import fill
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from orderhead.body import MAR, SIZES
from orderhead.body.diffusion import Diffusion, cosine_betas, loss_terms, respaced

CONFIG = replace(
    SIZES["tiny"], grid_h=4, grid_w=4, classes=3, encoder_width=32, encoder_depth=2, decoder_width=64,
    decoder_depth=2, buffer_size=4, diffloss_width=32, diffloss_depth=2,
)  # fmt: skip
L, C = CONFIG.grid.L, CONFIG.channels


@pytest.fixture(scope="module")
def body() -> MAR:
    return fill(MAR(CONFIG)).eval().requires_grad_(False)  # type: ignore[return-value]


def batch(size: int = 3, masked: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, a mask with the same count in each row, labels."""
    g = torch.Generator().manual_seed(1)
    rank = torch.rand(size, L, generator=g).argsort(1)
    return torch.randn(size, L, C, generator=g), rank < int(masked * L), torch.arange(size) % CONFIG.classes


# predict


def test_masked_tokens_are_not_read(body: MAR) -> None:
    tokens, mask, labels = batch()
    hidden = torch.where(mask[..., None], torch.nan, tokens)
    assert torch.equal(body.predict(tokens, mask, labels), body.predict(hidden, mask, labels))


def test_visible_tokens_are_read(body: MAR) -> None:
    tokens, mask, labels = batch()
    assert not torch.allclose(body.predict(tokens, mask, labels), body.predict(tokens + 0.1, mask, labels))


def test_rows_may_see_different_counts(body: MAR) -> None:
    """From nothing visible to everything visible, in one batch."""
    tokens, _, _ = batch(5)
    labels = torch.tensor([0, 1, 2, -1, 0])
    mask = torch.arange(L)[torch.randperm(L, generator=torch.Generator().manual_seed(2))]
    mask = mask[None] >= torch.tensor([0, 1, 5, 11, L])[:, None]
    mixed = body.predict(tokens, mask, labels)
    alone = [body.predict(tokens[i : i + 1], mask[i : i + 1], labels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(mixed, torch.cat(alone), atol=1e-5, rtol=0)


def test_padding_is_not_read_even_where_it_is_not_a_number(body: MAR) -> None:
    tokens, _, labels = batch(2)
    mask = torch.ones(2, L, dtype=torch.bool)
    mask[0, :2] = mask[1, 3:9] = False
    hidden = torch.where(mask[..., None], 1e4, tokens)
    assert torch.equal(body.predict(tokens, mask, labels[:2]), body.predict(hidden, mask, labels[:2]))


def test_batches_of_any_size_agree(body: MAR) -> None:
    tokens, mask, labels = batch(8)
    whole = body.predict(tokens, mask, labels)
    parts = [body.predict(*(x[i : i + 3] for x in (tokens, mask, labels))) for i in range(0, 8, 3)]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=0)


def test_label_minus_one_is_the_null_embedding(body: MAR) -> None:
    tokens, mask, labels = batch()
    swapped = MAR(CONFIG).eval()
    swapped.load_state_dict(body.state_dict() | {"class_emb.weight": body.fake_latent.expand(CONFIG.classes, -1)})
    null = body.predict(tokens, mask, torch.full_like(labels, -1))
    torch.testing.assert_close(null, swapped.predict(tokens, mask, labels), atol=1e-6, rtol=0)
    assert not torch.allclose(null, body.predict(tokens, mask, labels))


@pytest.mark.parametrize("masked", [0.0, 1.0])
def test_all_and_nothing_masked(body: MAR, masked: float) -> None:
    z_BLD = body.predict(*batch(masked=masked))
    assert z_BLD.shape == (3, L, CONFIG.decoder_width)
    assert z_BLD.isfinite().all()


TOKENS, MASK, LABELS = batch()
WRONG = {
    "grid": (TOKENS[:, :-1], MASK[:, :-1], LABELS),
    "channels": (TOKENS[..., :-1], MASK, LABELS),
    "batch": (TOKENS[:2], MASK, LABELS),
    "mask dimensions": (TOKENS, MASK[0], LABELS),
    "mask type": (TOKENS, MASK.float(), LABELS),
    "label too high": (TOKENS, MASK, LABELS + CONFIG.classes),
    "label too low": (TOKENS, MASK, LABELS - 2),
    "label count": (TOKENS, MASK, LABELS[:2]),
    "label type": (TOKENS, MASK, LABELS.float()),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_a_value_error(body: MAR, case: str) -> None:
    with pytest.raises(ValueError, match=r"this body reads|labels") as caught:
        body.predict(*WRONG[case])
    assert "\n" not in str(caught.value)


def test_autocast_to_bfloat16_stays_near(body: MAR) -> None:
    tokens, _, labels = batch()
    mask = torch.arange(L)[None] >= torch.tensor([2, 7, 7])[:, None]
    x_NC, t_N = torch.randn(3, C, generator=torch.Generator().manual_seed(3)), torch.tensor([0, 500, 999])
    z_BLD = body.predict(tokens, mask, labels)
    out_N2C = body.denoise(x_NC, t_N, z_BLD[:, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough_BLD = body.predict(tokens, mask, labels)
        rough_N2C = body.denoise(x_NC, t_N, z_BLD[:, 0])
    assert (rough_BLD - z_BLD).norm() / z_BLD.norm() < 0.03
    assert (rough_N2C - out_N2C).norm() / out_N2C.norm() < 0.03


def test_gradients_reach_every_parameter() -> None:
    body = fill(MAR(CONFIG))
    assert isinstance(body, MAR)
    tokens, mask, _ = batch()
    z_BLD = body.predict(tokens, mask, torch.tensor([0, 1, -1]))
    body.denoise(tokens[mask], torch.zeros(int(mask.sum()), dtype=torch.int64), z_BLD[mask]).square().sum().backward()
    dead = [name for name, p in body.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_a_new_denoiser_predicts_zero() -> None:
    """Zero-initialised output (Peebles and Xie 2023)."""
    out = MAR(CONFIG).denoise(torch.ones(2, C), torch.tensor([0, 999]), torch.ones(2, CONFIG.decoder_width))
    assert torch.equal(out, torch.zeros(2, 2 * C))


# diffusion


def closed_alpha_bar(t: np.ndarray) -> np.ndarray:
    """f(t) / f(0), IDDPM eq. 17; t in [0, 1]."""
    return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2


def test_alpha_bar_is_the_cosine() -> None:
    process = Diffusion.cosine()
    want = closed_alpha_bar(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(process.alpha_bar_K[:-1], want[:-1], rtol=1e-9)
    assert cosine_betas()[-1] == 0.999  # the cap; the cosine ends at 0
    assert process.alpha_bar_K[-1] == pytest.approx(want[-2] * 0.001, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 25, 100, 999, 1000])
def test_a_respaced_process_keeps_alpha_bar(steps: int) -> None:
    process, kept = Diffusion.cosine(steps), respaced(steps)
    assert len(process) == len(kept) == steps
    np.testing.assert_allclose(process.alpha_bar_K, Diffusion.cosine().alpha_bar_K[kept], rtol=1e-12)
    np.testing.assert_allclose(np.cumprod(1 - process.beta_K), process.alpha_bar_K, rtol=1e-6)
    assert np.isfinite(process.posterior_log_var_K).all()


def test_respaced_to_100() -> None:
    kept = respaced(100)
    assert len(kept) == 100
    assert (kept[0], kept[-1]) == (0, 999)
    assert set(np.diff(kept)) == {10, 11}
    np.testing.assert_allclose(kept, np.linspace(0, 999, 100), atol=0.5 + 1e-9)


def test_respaced_for_every_count() -> None:
    for steps in range(2, 1001):
        kept = respaced(steps)
        assert len(set(kept)) == steps
        assert (kept[0], kept[-1]) == (0, 999)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_respaced_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match="denoise_steps"):
        respaced(steps)


def gaussian_posterior(x0: Tensor, x_t: Tensor, before: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), as a product of two Gaussians in x_{t-1} (Bayes)."""
    prior, likelihood = 1 / (1 - before), (1 - beta) / beta
    variance = 1 / (prior + likelihood)
    return variance * (prior * before.sqrt() * x0 + (1 - beta).sqrt() / beta * x_t), variance


def slow_loss(x0: Tensor, t: int, noise: Tensor, raw: Tensor) -> float:
    """One token's loss in float64: MSE of epsilon plus the variance's bound in bits (IDDPM section 3.1)."""
    bar = torch.from_numpy(np.append(1.0, np.cumprod(1 - cosine_betas())))
    before, now, beta = bar[t], bar[t + 1], 1 - bar[t + 1] / bar[t]
    x_t = now.sqrt() * x0 + (1 - now).sqrt() * noise
    epsilon, fraction = raw.double().chunk(2)
    guess = (x_t - (1 - now).sqrt() * epsilon) / now.sqrt()
    share = (fraction + 1) / 2
    if t == 0:  # the posterior is a point: the variance of t = 1 stands in, and x_0 has a discrete likelihood
        floor = (1 - bar[1]) / (1 - bar[2]) * (1 - bar[2] / bar[1])
        model = Normal(guess, (0.5 * (share * beta.log() + (1 - share) * floor.log())).exp())
        upper = torch.where(x0 > 0.999, 1.0, model.cdf(x0 + 1 / 255))  # the bins at the ends reach to infinity
        lower = torch.where(x0 < -0.999, 0.0, model.cdf(x0 - 1 / 255))
        bits = -(upper - lower).log() / math.log(2)
    else:
        true_mean, floor = gaussian_posterior(x0, x_t, before, beta)
        mean, _ = gaussian_posterior(guess, x_t, before, beta)
        scale = (0.5 * (share * beta.log() + (1 - share) * floor.log())).exp()
        bits = kl_divergence(Normal(true_mean, floor.sqrt()), Normal(mean, scale)) / math.log(2)
    return float(((epsilon - noise) ** 2).mean() + bits.mean())


@pytest.mark.parametrize(
    ("t", "error", "tolerance"),
    [
        (0, 0.0, 1e-3),
        (0, 0.5, 3e-2),
        (1, 0.5, 1e-4),
        (2, 0.5, 1e-4),
        (100, 0.5, 1e-4),
        (500, 0.5, 1e-4),
        (998, 0.5, 1e-4),
    ],
)
def test_the_loss_equals_a_slow_one(t: int, error: float, tolerance: float) -> None:
    """At t = 0 ours has the published tanh form of the normal's CDF, which is coarse in the tails."""
    g = torch.Generator().manual_seed(t)
    x0, noise = torch.randn(6, 16, generator=g), torch.randn(6, 16, generator=g)
    raw = torch.cat([noise, torch.zeros(6, 16)], 1) + error * torch.randn(6, 32, generator=g)
    got = loss_terms(Diffusion.cosine(), lambda x, t: raw, x0, torch.full((6,), t), noise)
    want = [slow_loss(x0[i].double(), t, noise[i].double(), raw[i]) for i in range(6)]
    np.testing.assert_allclose(got.numpy(), want, rtol=tolerance)


def test_the_bound_trains_the_variance_alone() -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(4, 16, generator=g), torch.randn(4, 16, generator=g)
    raw = torch.randn(4, 32, generator=g, requires_grad=True)
    loss_terms(Diffusion.cosine(), lambda x, t: raw, x0, torch.tensor([0, 3, 500, 999]), noise).sum().backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad[:, :16], 2 * (raw[:, :16] - noise).detach() / 16)
    assert (raw.grad[:, 16:] != 0).any(1).all()


def test_a_perfect_guess_costs_nothing() -> None:
    """Epsilon right and the variance the posterior's own: both terms vanish for t > 0."""
    x0, noise = torch.ones(3, 4), torch.full((3, 4), 0.5)
    raw = torch.cat([noise, -torch.ones(3, 4)], 1)
    got = loss_terms(Diffusion.cosine(), lambda x, t: raw, x0, torch.tensor([1, 500, 998]), noise)
    torch.testing.assert_close(got, torch.zeros(3), atol=1e-5, rtol=0)

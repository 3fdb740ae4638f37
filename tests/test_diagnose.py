"""Why an order loses: bits against a world with a closed form, switches against what they must leave alone, the run."""

import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from worlds import bare_body, fashion_body, few_real_images, one_line

from orderhead.body.diffusion import Diffusion, bound_terms, loss_terms
from orderhead.body.load import load_body
from orderhead.cli import main
from orderhead.core.checkpoint import save_model
from orderhead.core.grid import Grid
from orderhead.core.rng import Paired, torch_generator
from orderhead.metrics.intervals import contrast, paired
from orderhead.metrics.statistic import Statistic
from orderhead.metrics.tokens import token_distance
from orderhead.orders.policy import POLICIES, Shifted
from orderhead.orders.state import DecodeState
from orderhead.report import build
from orderhead.sampling.bits import image_bits
from orderhead.sampling.sample import inject, run
from orderhead.sampling.settings import Settings
from orderhead.studies import causes
from orderhead.studies import diagnose as diagnosing
from orderhead.studies.causes import ARMS, BITS, DISTANCE, TOKENS, left_out, possible
from orderhead.training.heads import HeadRecipe, untrained_head

COVARIANCE = 0.8 ** (torch.arange(4.0)[:, None] - torch.arange(4.0)).abs()  # a chain: cells are not exchangeable


class GaussianBody(torch.nn.Module):
    """The exact conditionals of a Gaussian chain of four cells: what a body without mismatch says.

    `trust` spoils it in contexts that raster always meets and random sometimes: the first two cells seen.
    """

    def __init__(self, trust: float = 1.0) -> None:
        super().__init__()
        self.grid, self.device, self.trust = Grid(2, 2), torch.device("cpu"), trust
        self.config = SimpleNamespace(channels=1, token_bound=math.inf)

    def predict(self, tokens_BLC, mask_BL, labels_B):
        """Mean and variance of each cell given the visible ones, (B, L, 2)."""
        z_BL2 = torch.empty(*mask_BL.shape, 2)
        for mask_L in mask_BL.unique(dim=0):
            rows, seen = (mask_BL == mask_L).all(1), ~mask_L
            weight = torch.linalg.solve(COVARIANCE[seen][:, seen], COVARIANCE[seen])
            mean = tokens_BLC[rows][:, seen, 0] @ weight * (self.trust if seen[:2].all() else 1.0)
            variance = (1 - (weight * COVARIANCE[seen]).sum(0)).clamp(min=1e-3)
            z_BL2[rows] = torch.stack([mean, variance.expand_as(mean)], -1)
        return z_BL2

    def conditions(self, tokens_BLC, mask_BL, labels_B):
        z_BL2 = self.predict(tokens_BLC, mask_BL, labels_B)
        return SimpleNamespace(everywhere=z_BL2, at=lambda where_BL: z_BL2[where_BL])

    def denoise(self, x_N1, t_N, z_N2):
        """The best epsilon and the true reverse variance, as the share between the two that the head learns."""
        process, (mean, variance) = Diffusion.cosine(), z_N2[:, None].unbind(-1)
        pick = lambda table: torch.from_numpy(table).float()[t_N][:, None]  # noqa: E731
        signal = pick(process.alpha_bar_K)
        total = signal * variance + 1 - signal
        epsilon = (1 - signal).sqrt() * (x_N1 - signal.sqrt() * mean) / total
        reverse = pick(process.posterior_log_var_K).exp()
        reverse = reverse + pick(process.posterior_mean_x0_K) ** 2 * variance * (1 - signal) / total
        low, high = pick(process.posterior_log_var_K), pick(np.log(process.beta_K))
        return torch.cat([epsilon, 2 * (reverse.log() - low) / (high - low) - 1], 1)


@pytest.fixture(scope="module")
def chain() -> torch.Tensor:
    return (torch.randn(2000, 4, generator=torch_generator(0)) @ torch.linalg.cholesky(COVARIANCE).T)[..., None]


def _bits(body: GaussianBody, real: torch.Tensor, levels: int = 32, **settings) -> torch.Tensor:
    index = torch.arange(len(real))
    chosen = Settings(**{"steps": 4} | settings)
    return image_bits(chosen, body, torch.zeros_like(index), index, real, levels)[0].sum(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("drawn", [{"null_every": 2}, {"full_every": 2}, {"denoise_by": "pull"}, {"cfg_scale": 3.0}])
def test_bits_have_nothing_to_do_with_what_draws_tokens(chain, drawn):
    settings = {"cfg_scale": 2.0} | drawn
    assert torch.equal(_bits(GaussianBody(), chain[:10], 4, **settings), _bits(GaussianBody(), chain[:10], 4))


def _mismatch(body: GaussianBody, real: torch.Tensor) -> tuple[float, float]:
    """What raster costs more than random at one cell a step, and its standard error."""
    gap = _bits(body, real, order="raster", schedule="one_by_one") - _bits(body, real, schedule="one_by_one")
    return gap.mean().item(), gap.std().item() / math.sqrt(len(gap))


def test_the_chain_rule_holds_for_a_body_whose_conditionals_fit_together(chain):
    gap, error = _mismatch(GaussianBody(), chain)
    assert abs(gap) < 4 * error < 0.6


def test_mismatch_is_seen_where_conditionals_do_not_fit_together(chain):
    gap, error = _mismatch(GaussianBody(trust=0.3), chain)
    assert gap > 5 * error


@pytest.mark.parametrize(("levels", "images"), [(1000, 300), (32, 2000)])
def test_what_a_step_ignores_is_the_cells_total_correlation(chain, levels, images):
    """Second source: -1/2 log2 det of the correlation matrix."""
    body, real = GaussianBody(), chain[:images]
    together = _bits(body, real, levels, order="raster", steps=1)
    together = together - _bits(body, real, levels, order="raster", schedule="one_by_one")
    expected = -0.5 * math.log2(torch.linalg.det(COVARIANCE).item())
    error = together.std().item() / math.sqrt(images)
    assert together.mean().item() == pytest.approx(expected, abs=4 * error)
    assert error < 0.2


def test_the_bound_is_what_the_training_loss_adds_to_the_mean_squared_error():
    x0, noise = (torch.randn(50, 3, generator=torch_generator(k)) for k in (0, 1))
    t = torch.arange(0, 1000, 20)

    def denoise(x, t_N):
        return torch.cat([0.9 * x, 0.1 * x], 1)

    process = Diffusion.cosine()
    signal = torch.from_numpy(process.alpha_bar_K).float()[t][:, None]
    mse = (0.9 * (signal.sqrt() * x0 + (1 - signal).sqrt() * noise) - noise).square().mean(1)
    both = loss_terms(process, denoise, x0, t, noise), bound_terms(process, denoise, x0, t, noise)
    torch.testing.assert_close(both[0] - mse, both[1] / 3, rtol=1e-4, atol=1e-4)


def _state(B: int, grid: Grid) -> DecodeState:
    return DecodeState.start(grid, 1, torch.zeros(B).long(), torch.arange(B), (grid.L,), Paired(0))


def test_a_shifted_order_is_the_order_moved_and_starts_anywhere():
    grid, state = Grid(3, 4), _state(400, Grid(3, 4))
    plain, moved = POLICIES["raster"](state), Shifted(POLICIES["raster"])(state)
    rolled = {(r, c): plain[0].view(3, 4).roll((r, c), (0, 1)).flatten() for r in range(grid.h) for c in range(grid.w)}
    shifts = [next(shift for shift, scores in rolled.items() if scores.equal(row)) for row in moved]
    counts = np.array([shifts.count(shift) for shift in rolled])
    assert ((counts - 400 / 12) ** 2 / (400 / 12)).sum() < 28  # chi-square, 11 degrees of freedom, p = 0.003
    assert Shifted(POLICIES["raster"])(state).equal(moved)


def test_injecting_an_order_s_own_samples_changes_nothing():
    body, labels, index = bare_body(), torch.tensor([0, 1, 2]), torch.arange(3)
    settings = Settings("raster", steps=4, denoise_steps=3, cfg_scale=2.0)
    own = run(settings, body, labels, index)
    again = inject(settings, body, labels, index, own.tokens_BLC)
    torch.testing.assert_close(again.tokens_BLC, own.tokens_BLC)
    assert (again.trace.order_BL == own.trace.order_BL).all()
    other = inject(settings, body, labels, index, own.tokens_BLC + 1)
    first = settings.counts(16)[0]
    cells = own.trace.order_BL[0]
    torch.testing.assert_close(other.tokens_BLC[0, cells[:first]], own.tokens_BLC[0, cells[:first]])
    assert not torch.allclose(other.tokens_BLC[0, cells[first:]], own.tokens_BLC[0, cells[first:]])


def test_a_contrast_of_two_is_a_paired_difference():
    rng = np.random.default_rng(0)
    a, b = (Statistic.mean(rng.standard_normal(40) + k) for k in (0, 1))
    labels = np.arange(40) % 4
    assert contrast([(1.0, a), (-1.0, b)], labels) == paired(a, b, labels)
    with pytest.raises(ValueError, match="a contrast needs the same images, got 40 and 41"):
        contrast([(1.0, a), (1.0, Statistic.mean(rng.standard_normal(41)))])


def test_the_distance_of_tokens_is_the_squared_shift_of_each_cell():
    tokens = np.random.default_rng(0).standard_normal((60, 5, 3))
    assert token_distance(tokens, tokens).value == pytest.approx(0, abs=1e-9)
    moved = token_distance(tokens + np.array([0.5, 0, 0]), tokens)
    assert moved.value == pytest.approx(0.25)
    shuffled = np.stack([np.random.default_rng(k).permutation(tokens[:, k]) for k in range(5)], 1)
    assert token_distance(shuffled, tokens).value == pytest.approx(0, abs=1e-9)  # which cells go together is not read


def test_shares_sum_to_the_gap_where_they_are_said_to():
    for family in (TOKENS, BITS):
        gap, *rest = (cause.weights for cause in family.values())
        assert {arm: sum(w.get(arm, 0.0) for w in rest) for arm in ARMS} == {a: gap.get(a, 0.0) for a in ARMS}
    for cause in (*DISTANCE.values(), *TOKENS.values(), *BITS.values()):
        assert sum(cause.weights.values()) == 0
        assert cause.weights.keys() <= ARMS.keys()


@pytest.mark.parametrize("order", ["raster", "ar_raster", "random_apart", "learned_fast", "learned_slow"])
@pytest.mark.parametrize("changes", [{}, {"cfg_schedule": "constant"}, {"cfg_scale": 1.0}, {"schedule": (1, 3, 12)}])
def test_a_switch_changes_what_it_names_and_no_more(order, changes):
    settings = Settings(order, **{"steps": 4, "head": "fashion-aligned", "cfg_scale": 2.0} | changes)
    linear = settings.cfg_schedule == "linear"
    for arm in ARMS.values():
        switched = arm.switch(settings)
        single = arm.switch in (causes.one_a_step, causes.all_three)
        assert switched.counts(16) == ((1,) * 16 if single else settings.counts(16))
        assert isinstance(switched.order, Shifted) == (arm.switch in (causes.shifted, causes.all_three))
        even = linear and arm.switch in (causes.equalized, causes.all_three)
        assert switched.cfg_schedule == ("equalized" if even else settings.cfg_schedule)
        assert (switched.rescores(), switched.cfg_scale) == (settings.rescores(), settings.cfg_scale)
    told = {"gap", "together"} | (set() if order == "learned_slow" else {"diversity", "left"})
    told |= {"guidance"} if linear and settings.cfg_scale != 1 and order != "learned_slow" else set()
    assert possible(settings).keys() == told
    assert bool(left_out(settings)) == (len(told) < len(DISTANCE))


# ---------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small untrained body, few real images, and raster taken apart on them in `home/out`."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERHEAD_CACHE", str(home / "cache"))
        few_real_images(patch)
        fashion_body(home)
        diagnosing.diagnose(home / "out", orders=["raster"], **_settings(home))
        yield home


def _settings(home) -> dict:
    return {"body": str(home / "body"), "images": 10, "steps": 4, "denoise_steps": 2, "cfg_scale": 2.0}


@pytest.fixture
def out(home, tmp_path):
    """A copy of what was measured."""
    return Path(shutil.copytree(home / "out", tmp_path / "out"))


def _numbers(out) -> dict:
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return {(r["row"], r["metric"]): r["value"] for r in lines}


def test_an_order_is_taken_apart_and_another_joins_it(home, out, monkeypatch):
    world = _settings(home)
    first = _numbers(out)
    bits, tokens = ([first["raster", c] for c in family] for family in (BITS, TOKENS))
    assert bits[0] == pytest.approx(bits[1] + bits[2])
    assert tokens[0] == pytest.approx(tokens[1] + tokens[2])
    sampled = []
    write = diagnosing.stream.write
    monkeypatch.setattr(diagnosing.stream, "write", lambda s, *a, **k: sampled.append(k["title"]) or write(s, *a, **k))
    diagnosing.diagnose(out, orders=["raster"], **world)
    assert not sampled
    (out / "results.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("orderhead.studies.real._encoded", None)  # what is encoded is kept
        diagnosing.diagnose(out, orders=["raster", "random_apart"], **world)
    assert {k: v for k, v in _numbers(out).items() if k[0] == "raster"} == first
    page = build(out).read_text()
    assert re.findall(r'<section id="[^"]+" aria-labelledby="[^"]+"><h2 id="[^"]+">([^<]+)', page) == [
        "raster", "random_apart", "Protocol"
    ]  # fmt: skip
    assert page.count('class="cause ') == 2 * (len(DISTANCE) + len(TOKENS) + len(BITS))
    assert page.count("<polyline") == 4
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(lines[:-2]))  # stopped while it wrote
    diagnosing.diagnose(out, orders=["raster", "random_apart"], **world)
    assert len(_numbers(out)) == len(lines)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        diagnosing.diagnose(out, orders=["raster"], **world | {"steps": 5})


def test_bits_alone_are_those_of_the_whole_and_sample_nothing(home, out, tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosing.stream, "write", None)
    world = _settings(home) | {"images": 1000}  # more than are used, or are there
    monkeypatch.setattr(diagnosing, "BITS_IMAGES", 10)
    diagnosing.diagnose(tmp_path / "bits", orders=["raster"], sampled=False, **world)
    whole = _numbers(out)
    assert _numbers(tmp_path / "bits") == {
        ("raster", metric): pytest.approx(whole["raster", metric]) for metric in BITS
    }
    with pytest.raises(ValueError, match="holds a run with other settings"):  # its page would lose its distances
        diagnosing.diagnose(out, orders=["raster"], sampled=False, **world)
    page = build(tmp_path / "bits").read_text()
    assert page.count('class="cause ') == len(BITS)
    assert page.count("<polyline") == 2


def test_what_one_of_the_arms_cannot_do_is_told_before_anything_is_sampled(home, tmp_path):
    world = _settings(home)
    with pytest.raises(ValueError, match=f"denoise_steps has {world['steps']} numbers for .. unmasking steps"):
        diagnosing.diagnose(tmp_path / "out", orders=["raster"], **world | {"denoise_steps": [2] * world["steps"]})
    assert not (tmp_path / "out").exists()


def test_a_head_s_gap_is_taken_apart_as_far_as_it_can_be(home, out):
    for depth in (1, 2):
        save_model(untrained_head(HeadRecipe("", depth=depth), load_body(str(home / "body"))), home / f"head-{depth}")
    diagnosing.diagnose(out, orders=["learned_slow"], head=str(home / "head-1"), **_settings(home))
    found = {metric for row, metric in _numbers(out) if row == "learned_slow"}
    assert found == {"gap_fd", "together_fd", *TOKENS, *BITS}
    assert "learned_slow: left out are guidance, sameness" in build(out).read_text()
    with pytest.raises(ValueError, match="holds learned_slow with another head or body"):
        diagnosing.diagnose(out, orders=["learned_slow"], head=str(home / "head-2"), **_settings(home))


def test_a_damaged_file_of_a_run_is_told_in_one_line(home, out):
    (out / "results.jsonl").unlink()
    next(out.glob("judged/*")).write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"damaged .* remove it and run again"):
        diagnosing.diagnose(out, orders=["raster"], **_settings(home))


def test_damaged_pictures_and_curves_are_left_out(out):
    whole = build(out).read_text()
    for path in (*out.glob("bits/*"), *out.glob("judged/*")):
        path.write_bytes(b"no")
    damaged = build(out).read_text()
    assert ("<polyline" in whole, "<polyline" in damaged) == (True, False)
    assert ("strips" in whole.split("</style>")[1], "strips" in damaged.split("</style>")[1]) == (True, False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bits", "--order", "raster", "--features", "clip"], "--bits judges no images; leave out --features"),
        (["--order", "random"], "a diagnosis is of an order that is not random"),
        (["--order", "rastr"], "unknown order 'rastr'; did you mean 'raster'"),
        (["--order", "raster", "--images", "3"], "at least 5 images an arm, got 3"),
        (["--order", "raster", "--images", "20000"], "this needs 40000 real images, the classes in turn"),
    ],
)
def test_what_cannot_be_taken_apart_is_told_in_one_line(words, says, tmp_path, capsys):
    assert main(["diagnose", *words, "--out", str(tmp_path / "out")]) == 2
    assert says in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()

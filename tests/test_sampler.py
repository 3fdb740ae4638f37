"""The laws of the sampler, over every policy; schedules, inpainting, official mode; what it refuses."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from orderhead.body import MAR, SIZES
from orderhead.core.rng import Paired
from orderhead.orders.policy import POLICIES, Given, Shifted
from orderhead.orders.state import DecodeState, top_masked
from orderhead.sampling.sample import run, sample
from orderhead.sampling.sampler import decode, given_draw, plain
from orderhead.sampling.schedule import SCHEDULES, counts_of, denoise_counts, rescore_steps
from orderhead.sampling.settings import Settings
from orderhead.sampling.trace import Recorder, Trace

CHEAP = {"steps": 5, "denoise_steps": 3, "x0_bound": 3.0}


@pytest.fixture(scope="module")
def body() -> MAR:
    """An untrained body on 3 x 5 cells whose every part has an effect."""
    config = dataclasses.replace(
        SIZES["tiny"], grid_h=3, grid_w=5, classes=4, buffer_size=2, encoder_width=64, encoder_depth=1, encoder_heads=1,
        decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32, diffloss_depth=1, tokenizer="",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MAR(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def same(a, b, tolerance=1e-4):
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)


# Laws over every policy.


@pytest.mark.parametrize("name", POLICIES)
def test_an_order_is_a_permutation_and_each_cell_is_revealed_once(body, name):
    revealed = torch.zeros(3, 15, dtype=torch.long)
    state = DecodeState.start(body.grid, 4, torch.tensor([0, 1, -1]), torch.arange(3), (1, 2, 5, 7), Paired(0))
    recorder = Recorder(state.counts, {0})

    def save(state, where_BL):
        recorder(state, where_BL)
        revealed.add_(where_BL)
        assert (where_BL.sum(1) == state.counts[state.step - 1]).all()

    real = torch.randn(3, 15, 4, generator=torch.Generator().manual_seed(0))
    final = decode(state, plain(body.passes()), POLICIES[name], given_draw(real), save, {0})
    assert (revealed == 1).all()
    assert not final.mask_BL.any()
    assert torch.equal(final.tokens_BLC, real)
    assert (np.sort(recorder.trace(state.labels_B).order_BL, axis=1) == np.arange(15)).all()


@pytest.mark.parametrize("name", POLICIES)
def test_asking_a_state_blind_policy_again_changes_nothing(body, name):
    once, always = (sample(body, [0, 1], name, rescore=mode, cfg_scale=2.0, **CHEAP) for mode in ("fast", "slow"))
    assert torch.equal(once.tokens_BLC, always.tokens_BLC)
    assert (once.trace.order_BL == always.trace.order_BL).all()
    assert always.trace.scores_BRL.shape[1] == len(always.trace.counts_T)


def by_z(state):
    return state.z_BLD[..., :5].sum(-1)


READING: list[dict] = [
    {"order": by_z, "rescore": "slow"},
    {"order": Shifted(by_z), "rescore": 2},
    {"order": Shifted(POLICIES["raster"])},
    {"order": "shift(center_spiral)"},
    {"order": Given(torch.randn(8, 15, generator=torch.Generator().manual_seed(0)))},
    {"order": by_z, "cfg_schedule": "equalized"},
    {"order": "multiscale", "cfg_schedule": "equalized", "denoise_by": "pull"},
]
"""Orders that see the image, or are moved, and guidance that knows the order."""


@pytest.mark.parametrize("given", [*({"order": name} for name in POLICIES), *READING], ids=str)
def test_an_image_does_not_depend_on_its_batch(body, given):
    settings, labels = Settings(cfg_scale=2.0, **given, **CHEAP), torch.arange(8) % 4
    whole = run(settings, body, labels, torch.arange(8))
    for size in (1, 3):
        parts = [run(settings, body, labels[i], i) for i in torch.arange(8).split(size)]
        assert same(whole.tokens_BLC, torch.cat([p.tokens_BLC for p in parts]))
        assert (whole.trace.order_BL == Trace.join([p.trace for p in parts]).order_BL).all()


@pytest.mark.parametrize("cfg_schedule", ["linear", "constant", "equalized"])
@pytest.mark.parametrize("name", POLICIES)
def test_cfg_1_is_no_guidance(body, name, cfg_schedule):
    plain_run = sample(body, [0, 3], name, cfg_scale=1, **CHEAP)
    nearly = sample(body, [0, 3], name, cfg_scale=1 + 1e-7, cfg_schedule=cfg_schedule, **CHEAP)
    assert same(plain_run.tokens_BLC, nearly.tokens_BLC, 1e-3)


def test_the_same_noise_meets_a_cell_under_every_order(body):
    """With a draw that is the noise alone, all orders make the same image."""

    def noise_draw(state, where_BL):
        row, cell = where_BL.nonzero(as_tuple=True)
        return state.rng.noise(state.index_B[row], cell, 0, 4)

    images = []
    for policy in POLICIES.values():
        state = DecodeState.start(body.grid, 4, torch.tensor([0, 1]), torch.tensor([3, 9]), (5, 10), Paired(2))
        images.append(decode(state, plain(body.passes()), policy, noise_draw, lambda *_: None, {0}).tokens_BLC)
    assert all(torch.equal(images[0], image) for image in images[1:])


# Denoising steps by unmasking step.


def test_denoising_steps_go_from_the_first_number_to_the_last():
    assert denoise_counts(25, 3) == (25, 25, 25)
    assert denoise_counts("25", 2) == (25, 25)
    assert denoise_counts("50:5", 4) == (50, 35, 20, 5)
    assert denoise_counts("5:50", 1) == (5,)
    assert denoise_counts([3, 9], 2) == (3, 9)


@pytest.mark.parametrize(
    ("given", "says"),
    [("5:x", "FIRST:LAST"), ("1:2:3", "FIRST:LAST"), ("", "FIRST:LAST"), ([3, 4, 5], "3 numbers for 2"),
     ("0:9", r"\[1, 1000\], got 0"), ([2, 1001], "got 1001"), (2.5, "whole number")],
)  # fmt: skip
def test_other_denoising_steps_are_refused(body, given, says):
    with pytest.raises(ValueError, match=says):
        sample(body, [0], steps=2, denoise_steps=given)


def test_the_same_number_everywhere_is_that_number(body):
    cheap = {**CHEAP, "cfg_scale": 2.0}
    wanted = sample(body, [0, 1], **cheap | {"denoise_steps": 3}).tokens_BLC
    for given in ("3", "3:3", [3] * len(Settings("random", CHEAP["steps"]).counts(15))):
        assert torch.equal(sample(body, [0, 1], **cheap | {"denoise_steps": given}).tokens_BLC, wanted)


def test_what_a_step_draws_depends_on_its_own_denoising_steps_alone(body):
    """Until the step where the numbers differ, the images are the same."""
    few, many = (sample(body, [0], "raster", steps=3, denoise_steps=n) for n in ([4, 4, 4], [4, 4, 9]))
    first = few.trace.counts_T[:2].sum()
    assert torch.equal(few.tokens_BLC[:, :first], many.tokens_BLC[:, :first])
    assert not torch.equal(few.tokens_BLC[:, first:], many.tokens_BLC[:, first:])


# A policy of one's own.


def test_a_policy_sees_z_and_the_mask_and_any_callable_will_do(body):
    asked = []

    def most_energy(state):
        asked.append((state.step, int(state.mask_BL.sum())))
        return state.z_BLD.square().sum(-1)

    samples = sample(body, [0, 1], most_energy, rescore=2, **CHEAP)
    assert [step for step, _ in asked] == [0, 2]
    assert asked[0][1] == 30
    assert samples.trace.scores_BRL.shape == (2, 2, 15)


def test_a_policy_that_diverged_is_named(body):
    with pytest.raises(ValueError, match="NaN"):
        sample(body, [0], lambda state: torch.full((1, 15), torch.nan), **CHEAP)


@pytest.mark.parametrize("guidance", [{}, {"cfg_scale": 2.0, "cfg_schedule": "equalized"}])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "real numbers, higher = earlier; got NoneType"),
        ([0.0] * 15, "got list"),
        (torch.zeros(1, 15, dtype=torch.complex64), "got torch.complex64"),
        (np.array([["first"] * 15]), "got <U5"),
        (torch.zeros(15), "one a cell"),
        (np.full((1, 15), np.nan), "one a cell|NaN"),
    ],
)
def test_a_policy_that_gives_no_scores_is_named(body, answer, said, guidance):
    """With equalized guidance it is first asked for pilot orders, 32 images at a time."""
    with pytest.raises(ValueError, match=said):
        sample(body, [0], lambda state: answer, **CHEAP | guidance)


@pytest.mark.parametrize(
    "kind", [np.float64, np.float16, np.int64, np.uint8, torch.float64, torch.float16, torch.int32]
)
def test_scores_of_any_real_kind_will_do(body, kind):
    falling = np.tile(np.arange(15)[::-1], (2, 1))  # a view with a negative stride

    def policy(state):
        return torch.tensor(falling.copy(), dtype=kind) if isinstance(kind, torch.dtype) else falling.astype(kind)

    assert (sample(body, [0, 1], policy, **CHEAP).trace.order_BL == np.arange(15)).all()
    assert (sample(body, [0, 1], lambda state: falling, **CHEAP).trace.order_BL == np.arange(15)).all()


def test_an_order_is_a_name_or_a_callable(body):
    with pytest.raises(ValueError, match="an order is a name or a callable"):
        sample(body, [0], None, **CHEAP)


def test_ties_go_to_the_lower_raster_index_and_infinite_scores_are_fine():
    mask = torch.tensor([[False, True, True, True]])
    assert top_masked(torch.zeros(1, 4), mask, 2).tolist() == [[False, True, True, False]]
    lowest = torch.tensor([[torch.inf, -torch.inf, -torch.inf, torch.inf]])
    assert top_masked(lowest, mask, 3).tolist() == mask.tolist()


# Inpainting.


@pytest.mark.parametrize("name", POLICIES)
def test_inpainting_keeps_what_is_known_and_reveals_the_rest_once(body, name):
    known = torch.randn(2, 15, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 15, dtype=torch.bool)
    mask[0, :7], mask[1, 8:] = True, True
    samples = sample(body, [0, 1], name, known=(known, mask), cfg_scale=2.0, **CHEAP)
    assert torch.equal(samples.tokens_BLC[~mask], known[~mask])
    assert (samples.tokens_BLC[mask] != known[mask]).all()
    assert samples.trace.counts_T.sum() == 7
    assert (np.sort(samples.trace.order_BL, axis=1) == np.arange(15)).all()
    assert ((samples.trace.step_BL == -1) == ~mask.numpy()).all()


def test_inpainting_wants_equally_many_unknown_cells(body):
    mask = torch.zeros(2, 15, dtype=torch.bool)
    mask[0, 0] = True
    with pytest.raises(ValueError, match="same number"):
        sample(body, [0, 1], known=(torch.zeros(2, 15, 4), mask), **CHEAP)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_known_tokens_are_finite(body, bad):
    """What stands in cells that are to be generated is not read."""
    tokens, mask = torch.zeros(15, 4), torch.arange(15) >= 3
    tokens[3:] = bad
    assert sample(body, [0, 1], known=(tokens.numpy(), mask.numpy()), **CHEAP).tokens_BLC.isfinite().all()
    tokens[2, 1] = bad
    with pytest.raises(ValueError, match="a known token is NaN or infinite"):
        sample(body, [0, 1], known=(tokens, mask), **CHEAP)


def test_a_trace_lists_known_cells_first_as_step_minus_1(body):
    mask = torch.arange(15) % 2 == 0
    trace = sample(body, [0, 1], known=(torch.zeros(15, 4), mask), **CHEAP).trace
    assert (trace.order_BL[:, :7] == np.arange(1, 15, 2)).all()
    first = trace.order_BL[:, 15 - trace.counts_T.sum()]
    assert (np.take_along_axis(trace.step_BL, trace.order_BL, 1)[:, :8] == [-1] * 7 + [0]).all()
    assert mask.numpy()[first].all()


def test_inpainting_takes_no_more_steps_than_there_are_unknown_cells(body):
    """Unless it is told to."""
    known = (torch.zeros(15, 4), torch.arange(15) >= 12)
    samples = sample(body, [0, 1], known=known, denoise_steps=2, x0_bound=3.0)
    assert samples.trace.counts_T.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"steps lies in \[1, 3\]"):
        sample(body, [0, 1], known=known, steps=4)


# Schedules.


@pytest.mark.parametrize(("name", "cells"), list(itertools.product(SCHEDULES, (1, 2, 7, 64, 256))))
def test_a_schedule_sums_to_the_cells_with_a_token_each_step(name, cells):
    for steps in {1, 2, cells // 2, cells} - {0}:
        if steps <= cells:
            counts = counts_of(name, steps, cells)
            assert sum(counts) == cells
            assert min(counts) >= 1
            assert len(counts) == (cells if name == "one_by_one" else steps)


def test_the_cosine_schedule_keeps_what_the_formula_keeps():
    masked = 256 - np.cumsum(counts_of("cosine", 64, 256))
    t = np.arange(1, 64)
    assert (masked[:-1] <= np.floor(256 * np.cos(np.pi / 2 * t / 64)).clip(min=1)).all()
    assert masked[32] / 256 == pytest.approx(0.70, abs=0.02)  # the study: 30 % are visible at step 33 of 64


@pytest.mark.parametrize(
    "bad", [{"steps": 16}, {"steps": 0}, {"schedule": (5, 5)}, {"schedule": (0, 15)}, {"schedule": "cosin"}]
)
def test_a_schedule_that_does_not_fit_is_refused(body, bad):
    with pytest.raises(ValueError, match=r"steps|explicit|cosine"):
        sample(body, [0], **CHEAP | bad)


@pytest.mark.parametrize(("schedule", "own"), [((4, 11), 2), ("one_by_one", 15)])
def test_steps_that_the_schedule_would_ignore_are_refused(body, schedule, own):
    for steps in (None, own):
        trace = sample(body, [0], schedule=schedule, steps=steps, denoise_steps=2, x0_bound=3.0).trace
        assert len(trace.counts_T) == own
    with pytest.raises(ValueError, match=f"the schedule has {own} steps of its own, got steps 5"):
        sample(body, [0], schedule=schedule, steps=5)


def test_semifast_asks_at_every_eighth_of_64():
    assert sorted(rescore_steps("semifast-8", 64)) == list(range(0, 64, 8))
    assert rescore_steps("fast", 64) == {0}
    assert rescore_steps("slow", 5) == rescore_steps(5, 5) == rescore_steps("5", 5) == {0, 1, 2, 3, 4}
    for bad in (0, 65, "quick"):
        with pytest.raises(ValueError, match="rescore"):
            rescore_steps(bad, 64)


# Official mode.


def test_official_mode_is_one_stream_and_ignores_the_bodys_bound(body):
    labels = torch.tensor([0, 1])
    settings = Settings("random", steps=4, denoise_steps=2, cfg_scale=2.0, rng="official", seed=3)
    bounded = MAR(dataclasses.replace(body.config, token_bound=0.5)).eval()
    bounded.load_state_dict(body.state_dict())
    official = run(settings, bounded, labels, torch.arange(2)).tokens_BLC
    assert torch.equal(official, run(settings, body, labels, torch.arange(2)).tokens_BLC)
    paired = run(dataclasses.replace(settings, rng="paired"), bounded, labels, torch.arange(2)).tokens_BLC
    assert paired.abs().max() <= 0.5 + 1e-6 < official.abs().max()


def test_names_are_checked_with_the_nearest_match(body):
    for bad in ({"order": "rastr"}, {"cfg_schedule": "linea"}, {"rng": "oficial"}, {"solver": "dpn"}):
        with pytest.raises(ValueError, match=r"did you mean '(raster|linear|official|dpm)'"):
            sample(body, [0], **CHEAP | {"cfg_scale": 2.0} | bad)
    with pytest.raises(ValueError, match="no images"):
        sample(body, [], **CHEAP)


@pytest.mark.parametrize("labels", [["Bag", "shoe"], ["bag", 1], np.array([0, 1]), torch.tensor([0, 1]), ("0", "1")])
def test_labels_are_numbers_or_names(body, labels, monkeypatch):
    monkeypatch.setattr(body, "config", dataclasses.replace(body.config, class_names=("bag", "shoe", "hat", "coat")))
    assert sample(body, labels, **CHEAP).trace.labels_B.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"labels_B": 3}, "labels are a list, one an image"),
        ({"labels_B": "bag"}, "labels are a list, one an image"),
        ({"labels_B": torch.tensor(3)}, "labels are a list, one an image"),
        ({"labels_B": [1.5]}, "a label is a whole number, got 1.5"),
        ({"labels_B": torch.tensor([1.0])}, "a label is a whole number, got 1.0"),
        ({"labels_B": [None]}, "a label is a whole number, got None"),
        ({"labels_B": ["bag"]}, "this body names no classes"),
        ({"labels_B": [4]}, r"labels lie in \[0, 4\)"),
        ({"steps": "3"}, "steps is a whole number, got '3'"),
        ({"steps": 3.5}, "steps is a whole number, got 3.5"),
        ({"denoise_steps": 3.0}, "denoise_steps is a whole number, got 3.0"),
        ({"seed": "7"}, "seed is a whole number, got '7'"),
        ({"rescore": 2.5}, "rescore is a whole number, got 2.5"),
        ({"steps": None, "schedule": (7.5, 7.5)}, "number of tokens is a whole number, got 7.5"),
        ({"schedule": 15}, "a schedule is a name or a list of tokens a step, got 15"),
        ({"index_B": [0.5]}, "index_B is a whole number, got 0.5"),
        ({"index_B": 3}, "index_B is a list"),
        ({"index_B": [-1]}, r"index_B lies in \[0, 2\*\*32\), got -1"),
        ({"seed": -1}, r"seed lies in \[0, 2\*\*32\), got -1"),
        ({"seed": 2**32}, r"seed lies in \[0, 2\*\*32\), got 4294967296"),
        ({"cfg_schedule": None, "cfg_scale": 2.0}, "unknown cfg schedule None"),
    ],
)
def test_numbers_are_whole_and_labels_a_list(body, bad, said):
    with pytest.raises(ValueError, match=said):
        sample(body, **{"labels_B": [0]} | CHEAP | bad)


def test_whole_numbers_of_numpy_and_torch_will_do(body):
    settings = {"steps": np.int64(5), "denoise_steps": torch.tensor(3), "rescore": np.int32(2), "index_B": [np.int8(0)]}
    assert torch.equal(
        sample(body, [np.int64(1)], **CHEAP | settings).tokens_BLC, sample(body, [1], **CHEAP).tokens_BLC
    )


def test_a_trace_of_infinite_scores_is_still_a_permutation(body):
    def ruled_out(state):
        return torch.full(state.mask_BL.shape, -torch.inf).index_fill(1, torch.tensor([3]), 1.0)

    order_BL = sample(body, [0, 1], ruled_out, **CHEAP).trace.order_BL
    assert (np.sort(order_BL, axis=1) == np.arange(order_BL.shape[1])).all()
    assert (order_BL[:, 0] == 3).all()


def test_what_does_not_fit_a_run_is_a_value_error(body):
    L, C = body.grid.L, body.config.channels
    mask = torch.arange(L)[None] >= 3
    for match, bad in {
        "known is tokens": {"known": (torch.zeros(1, L - 1, C), mask)},
        "a mask": {"known": (torch.zeros(1, L, C), mask[:, 1:])},
        "equalized guidance": {"known": (torch.zeros(1, L, C), mask), "cfg_scale": 2.0, "cfg_schedule": "equalized"},
        "numbers each image": {"index_B": [0, 1, 2]},
        r"cfg_scale lies in \[0, 100\], got nan": {"cfg_scale": float("nan")},
        r"cfg_scale lies in \[0, 100\], got -0.5": {"cfg_scale": -0.5},
        r"cfg_scale lies in \[0, 100\], got '3'": {"cfg_scale": "3"},
        "x0_bound > 0": {"x0_bound": 0.0},
        r"temperature lies in \[0, 10\], got inf": {"temperature": float("inf")},
        r"temperature lies in \[0, 10\], got 1e\+30": {"temperature": 1e30},
        "one a cell": {"order": lambda state: torch.zeros(L)},
    }.items():
        with pytest.raises(ValueError, match=match):
            sample(body, [0, 1], **CHEAP | bad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_known_tokens_may_be_of_any_precision(body, dtype):
    known, mask = torch.randn(1, 15, 4).to(dtype), torch.arange(15)[None] >= 7
    found, exact = (sample(body, [0], known=(k, mask), **CHEAP).tokens_BLC for k in (known, known.float()))
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_an_inpainting_of_run_is_checked_as_sample_s(body):
    settings, index = Settings(**CHEAP), torch.arange(2)
    mask_L = torch.arange(15) >= 7
    whole = run(settings, body, index, index, (torch.zeros(2, 15, 4), mask_L.expand(2, -1)))
    assert torch.equal(run(settings, body, index, index, (torch.zeros(15, 4), mask_L)).tokens_BLC, whole.tokens_BLC)
    with pytest.raises(ValueError, match="the same number"):
        run(settings, body, index, index, (torch.zeros(2, 15, 4), torch.stack([mask_L, mask_L.roll(1) | mask_L])))


def test_what_a_policy_says_is_kept_whenever_it_is_asked(body):
    """It may give the same tensor again, or write its next answer into it."""
    fixed, counted = torch.randn(2, 15), torch.zeros(2, 15)
    for policy, each in ((lambda state: fixed, [fixed] * 5), (lambda state: counted.add_(1), [*range(1, 6)])):
        scores_BRL = sample(body, [0, 1], policy, rescore="slow", **CHEAP).trace.scores_BRL
        assert scores_BRL.shape == (2, 5, 15)
        assert all((scores_BRL[:, r] == np.asarray(each[r])).all() for r in range(5))


def test_equalized_guidance_asks_scores_about_the_images_that_have_some(body):
    given = Given(torch.randn(3, 15))
    samples = sample(body, [0, 1, 2], given, cfg_scale=2.0, cfg_schedule="equalized", **CHEAP)
    assert (samples.trace.order_BL == (-given.scores_NL).argsort(dim=1, stable=True).numpy()).all()


def test_equalized_guidance_is_asked_of_a_body_that_is_not_training():
    body = MAR(dataclasses.replace(SIZES["tiny"], tokenizer="", dropout=0.5))
    with torch.no_grad():
        [torch.nn.init.normal_(parameter, std=0.1) for parameter in body.parameters()]

    def by_z(state):
        return state.z_BLD[..., 0]

    settings = CHEAP | {"cfg_scale": 2.0, "cfg_schedule": "equalized"}
    first, second = (sample(body.train(), [0], by_z, **settings).tokens_BLC for _ in range(2))
    assert torch.equal(first, second)


def test_a_trace_comes_back_from_disk(body, tmp_path):
    trace = sample(body, [0, 1], rescore=2, **CHEAP).trace
    trace.save(tmp_path / "trace.npz")
    back = Trace.load(tmp_path / "trace.npz")
    for name in ("order_BL", "counts_T", "labels_B"):
        assert (getattr(back, name) == getattr(trace, name)).all()
    masks = trace.masks_TBL()
    assert (masks.sum(-1)[:, 0] == 15 - np.cumsum(trace.counts_T)).all()
    assert (masks[:-1] | ~masks[1:]).all()

"""What a sampler asks of a body (conditions where they are needed, the denoiser's short way) is what the body gives."""

import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from parity.fill import fill
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from worlds import bare_body

from orderhead.body.conditions import block_at
from orderhead.body.denoiser import rows_ahead
from orderhead.body.mar import MAR, SIZES
from orderhead.body.watched import watched
from orderhead.core.cells import visible
from orderhead.core.rng import Paired
from orderhead.orders.state import DecodeState
from orderhead.sampling import flops
from orderhead.sampling.sample import run
from orderhead.sampling.sampler import with_null, with_null_kept
from orderhead.sampling.settings import KEPT, Settings
from orderhead.sampling.stream import labels_of

TOLERANCE = 1e-5  # relative to the norm: exact mode's
CONFIG = SIZES["tiny"]
L = CONFIG.grid.L


@pytest.fixture(scope="module")
def body() -> MAR:
    return fill(MAR(CONFIG)).eval().requires_grad_(False)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def seen():
    """Tokens, a mask with other counts in every row, labels."""
    rng = torch.Generator().manual_seed(0)
    tokens, rank = torch.randn(3, L, CONFIG.channels, generator=rng), torch.rand(3, L, generator=rng).argsort(1)
    return tokens, rank < torch.tensor([[64], [40], [7]]), torch.tensor([0, 3, -1])


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("counts", [(4, 4, 4), (1, 9, 0), (64, 64, 64)])
def test_conditions_at_some_cells_are_those_of_everywhere(body, seen, counts):
    order = torch.rand(3, L, generator=torch.Generator().manual_seed(1)).argsort(1)
    where = order < torch.tensor(counts)[:, None]
    expected = body.predict(*seen)[where]
    conditions = body.conditions(*seen)
    assert relative(conditions.at(where), expected) <= TOLERANCE
    assert torch.equal(conditions.everywhere[where], expected)
    assert torch.equal(conditions.at(where), expected)  # known everywhere by now


def test_halves_are_the_batch_cut_in_two(body, seen):
    doubled = [torch.cat([part, part.flip(0)]) for part in seen]
    whole, where = body.conditions(*doubled), torch.eye(3, L).bool()
    for half, rows in zip(whole.halves(), (slice(3), slice(3, 6)), strict=True):
        assert relative(half.at(where), whole.everywhere[rows][where]) <= TOLERANCE
        assert relative(half.everywhere, whole.everywhere[rows]) <= TOLERANCE


def test_rows_that_know_nothing_are_computed_once_a_label(body):
    labels, mask = torch.tensor([3, -1, 3, 0, -1, -1]), torch.ones(6, L, dtype=torch.bool)
    tokens, where = torch.randn(6, L, CONFIG.channels), torch.rand(6, L) < torch.linspace(0, 0.5, 6)[:, None]
    rows, expected = [], body.conditions(tokens, mask, labels)
    with pytest.MonkeyPatch.context() as patch:
        whole = body._pass
        patch.setattr(body, "_pass", lambda *given: (rows.append(len(given[2])), whole(*given))[1])
        for found, wanted in zip(
            (body.passes()(tokens, mask, labels), *body.passes()(tokens, mask, labels).halves()),
            (expected, *expected.halves()),
            strict=True,
        ):
            part = where[: len(wanted.everywhere)]
            assert relative(found.at(part), wanted.at(part)) <= TOLERANCE
            assert relative(found.everywhere, wanted.everywhere) <= TOLERANCE
        body.passes()(tokens, mask, torch.arange(6))  # all different
        mask[1, 4] = False  # one row knows a cell
        body.passes()(tokens, mask, labels)
    assert rows == [3, 3, 6, 6]


def test_adapters_must_be_merged_before(body, seen):
    block = fill(MAR(CONFIG)).decoder_blocks[-1]
    block.attn.qkv = torch.nn.Sequential(block.attn.qkv)
    with pytest.raises(AssertionError, match="merge adapters"):
        block_at(block, torch.zeros(1, 4, CONFIG.decoder_width), torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize("t", [0, 37, 999])
def test_the_denoiser_gives_what_denoise_gives(body, t):
    rng = torch.Generator().manual_seed(t)
    x, z = torch.randn(5, CONFIG.channels, generator=rng), torch.randn(10, CONFIG.decoder_width, generator=rng)
    ask = body.denoiser().under(z, [999, 37, 0])
    expected = body.denoise(x.repeat(2, 1), torch.full((10,), t), z)
    assert relative(ask(x, t), expected) <= TOLERANCE
    assert relative(body.denoiser().under(z[:5], [t])(x, t), expected[:5]) <= TOLERANCE


@pytest.mark.parametrize(
    ("rows", "images", "at_once"), [(1, 1, 48), (12, 1, 4), (24, 1, 2), (60, 1, 0), (24, 3, 3), (60, 3, 2), (150, 9, 0)]
)
def test_modulations_computed_ahead_are_those_of_each_timestep(body, rows, images, at_once):
    """All five timesteps at once, some, or one after the other; and one that is asked out of turn."""
    assert rows_ahead(CONFIG.diffloss_width, CONFIG.diffloss_depth, rows, images, "cpu") // rows == at_once
    z, x, times = torch.randn(rows, CONFIG.decoder_width), torch.randn(rows, CONFIG.channels), [999, 700, 37, 36, 0]
    ask = body.denoiser().under(z, times, images)
    for t in (*times, 37):
        assert relative(ask(x, t), body.denoise(x, torch.full((rows,), t), z)) <= TOLERANCE


def test_the_denoiser_works_in_half_precision(body):
    x, z = torch.randn(5, CONFIG.channels), torch.randn(10, CONFIG.decoder_width)
    with torch.autocast("cpu", torch.bfloat16):
        rough = body.denoiser().under(z, [500])(x, 500)
    assert rough.dtype == torch.float32
    assert relative(rough, body.denoise(x.repeat(2, 1), torch.full((10,), 500), z)) < 0.05


def test_a_body_of_half_precision_samples_nearly_the_same():
    body = fill(MAR(CONFIG)).eval()
    settings, labels = Settings(steps=4, denoise_steps=10, cfg_scale=2.0, solver="dpm"), torch.arange(2)
    full = run(settings, body, labels, labels).tokens_BLC
    half = run(settings, body.bfloat16(), labels, labels).tokens_BLC
    assert half.dtype == torch.float32
    assert 0 < relative(half, full) < 0.1


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(body: MAR, denoise_steps: int, rng: str) -> int:
    with Operations() as counted:
        run(Settings("random", 8, denoise_steps, 3.0, rng=rng), body, torch.tensor([0]), torch.tensor([0]))
    return counted.count


@pytest.mark.parametrize("rng", ["official", "paired"])
def test_a_denoising_step_is_75_operations_at_most(rng):
    """At the published depth, guided; the published code makes 161. Twelve more steps, in each of eight draws."""
    body = bare_body(diffloss_depth=6, diffloss_width=192)
    assert (operations(body, 14, rng) - operations(body, 2, rng)) / (8 * 12) <= 75


# What it costs.

SHAPES = {
    "grid": {"buffer_size": 3, "grid_h": 4, "grid_w": 6},
    "widths": {"encoder_width": 32, "decoder_width": 64, "diffloss_width": 48, "decoder_heads": 2},
    "depths": {"encoder_depth": 2, "decoder_depth": 3, "diffloss_depth": 2},
}


@pytest.mark.parametrize("images", [1, 2, 12])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula_counts_what_torch_counts(shape, guided, images):
    body, index = bare_body(**SHAPES[shape]), torch.arange(images)
    settings = Settings("random", 3, 4, 2.0 if guided else 1.0)
    with FlopCounterMode(display=False) as counted:
        run(settings, body, labels_of(index, body.config.classes), index)
    assert counted.get_total_flops() == flops.sampled(body.config, settings, images)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_published_formula_counts_what_its_layers_do(shape):
    """As the published code does, `predict` runs the last block for every token, and `denoise` embeds timestep and
    condition for every row; that code projects masked tokens too, which ours does not."""
    body = bare_body(**SHAPES[shape])
    L, c = body.grid.L, body.config
    counts = (5, L - 5)
    mask, labels = torch.ones(1, L, dtype=torch.bool), torch.tensor([0])
    with FlopCounterMode(display=False) as counted:
        for count in counts:
            body.predict(torch.zeros(1, L, c.channels), mask, labels)
            mask = mask.clone()
            mask[:, : counts[0]] = False
            for _ in range(3):
                body.denoise(torch.zeros(count, c.channels), torch.zeros(count), torch.zeros(count, c.decoder_width))
    masked = 2 * (L + (L - counts[0])) * c.channels * c.encoder_width
    assert counted.get_total_flops() + masked == flops.published(c, Settings(denoise_steps=3, schedule=counts))


def test_the_formula_counts_a_number_of_denoising_steps_for_each_step():
    body, settings = bare_body(), Settings("random", 3, "7:2", 2.0)
    with FlopCounterMode(display=False) as counted:
        run(settings, body, torch.tensor([0]), torch.tensor([0]))
    assert counted.get_total_flops() == flops.sampled(body.config, settings)


@pytest.mark.parametrize("steps", [64, 256])
def test_flops_are_at_most_0_955_of_the_published_codes(steps):
    """At MAR-B's shape, guided, 100 denoising steps."""
    work = SIZES["base"], Settings(steps=steps, cfg_scale=2.9)
    assert flops.sampled(*work) <= 0.955 * flops.published(*work)


# Guidance's second half, kept for some steps.


def test_null_every_1_is_exact_and_3_is_three_passes_of_nine(body):
    labels, index = torch.tensor([0, 3]), torch.tensor([0, 1])
    exact, rows = Settings("random", 9, 2, 3.0), []
    expected = run(exact, body, labels, index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys.modules["orderhead.sampling.sample"], "with_null_kept", lambda passes, every: with_null(passes)
        )
        assert torch.equal(run(exact, body, labels, index).tokens_BLC, expected.tokens_BLC)
    seen = watched(body, lambda: None)

    def counting(tokens_BLC, mask_BL, labels_B):
        rows.append(len(labels_B))
        return body.conditions(tokens_BLC, mask_BL, labels_B)

    seen.passes = lambda full_every: counting
    kept = run(replace(exact, null_every=3), seen, labels, index)
    assert rows == [4, 2, 2] * 3
    assert (kept.trace.order_BL == expected.trace.order_BL).all()
    assert 0 < relative(kept.tokens_BLC, expected.tokens_BLC) < 1


def test_no_label_stays_as_far_from_the_labels_as_it_was(body, seen):
    """Between refreshes null conditions are the labels' own, shifted by what the last refresh found, cell by cell."""
    tokens, mask, labels = seen
    state = DecodeState.start(CONFIG.grid, CONFIG.channels, labels, torch.arange(3), (8,) * 8, Paired(0))
    state = replace(state, tokens_BLC=tokens, mask_BL=mask)
    predict = with_null_kept(body.passes(), 4)
    first = predict(state)
    shift = body.predict(tokens, mask, torch.full_like(labels, -1)) - body.predict(tokens, mask, labels)
    where = torch.eye(3, L).bool()
    assert (
        relative(first.null_conditions.at(where), body.predict(tokens, mask, torch.full_like(labels, -1))[where]) < 1e-5
    )
    later = predict(replace(state, step=1, tokens_BLC=tokens.flip(0)))
    expected = body.predict(tokens.flip(0), mask, labels) + shift
    assert relative(later.null_conditions.everywhere, expected) < 1e-5
    assert relative(later.null_conditions.at(where), expected[where]) < 1e-5


# Features of the body, kept for some steps.


def revealing(steps):
    """Tokens and labels, two rows each, and the masks of so many steps, each of which reveals four cells more."""
    rng = torch.Generator().manual_seed(3)
    rank = torch.rand(2, L, generator=rng).argsort(1)
    tokens = torch.randn(2, L, CONFIG.channels, generator=rng)
    return tokens, torch.tensor([3, -1]), [rank >= 4 * (step + 1) for step in range(steps)]


def test_full_passes_are_exact(body):
    tokens, labels, masks = revealing(5)
    kept = body.passes(2)
    for step, mask in enumerate(masks):
        asked = mask & (torch.arange(L) % 3 == 0)
        found, expected = kept(tokens, mask, labels), body.conditions(tokens, mask, labels)
        wrong = relative(found.at(asked), expected.at(asked))
        assert wrong <= TOLERANCE if step % 2 == 0 else TOLERANCE < wrong < 1
        if step % 2 == 0:
            assert relative(found.everywhere, expected.everywhere) <= TOLERANCE


def test_where_nothing_has_changed_what_is_kept_is_exact(body):
    """So every path is checked that a partial pass takes: only what others have missed is an approximation."""
    tokens, labels, (mask, *_) = revealing(1)
    kept, expected = body.passes(99), body.conditions(tokens, mask, labels)
    for part in range(3):
        asked = mask & (torch.arange(L) % 3 == part)
        assert relative(kept(tokens, mask, labels).at(asked), expected.at(asked)) <= TOLERANCE
    assert relative(kept(tokens, mask, labels).everywhere, expected.everywhere) <= TOLERANCE
    for half, other in zip(kept(tokens, mask, labels).halves(), expected.halves(), strict=True):
        assert relative(half.at(asked[:1]), other.at(asked[:1])) <= TOLERANCE
        assert relative(half.everywhere, other.everywhere) <= TOLERANCE
        assert torch.equal(half.at(asked[:1]), half.everywhere[asked[:1]])


def test_new_cells_are_seen_by_the_cells_that_are_asked(body):
    """A partial pass knows every token: what was revealed since the full pass reaches whom z is asked of."""
    tokens, labels, masks = revealing(2)
    other, new = tokens.clone(), masks[0] & ~masks[1]
    other[new] += 1
    answers = []
    for revealed in (tokens, other):
        kept = body.passes(2)
        kept(tokens, masks[0], labels).at(masks[1])
        answers.append(kept(revealed, masks[1], labels).at(masks[1]))
    assert relative(*answers) > 1e-3


def test_rows_that_are_not_asked_keep_what_they_have(body):
    """Guidance's null half may be asked more seldom; it then catches up on all that was revealed in between."""
    tokens, labels, masks = revealing(3)
    kept = body.passes(3)
    kept(tokens, masks[0], labels).at(masks[1])
    kept(tokens[:1], masks[1][:1], labels[:1]).at(masks[2][:1])
    late = kept(tokens, masks[2], labels).at(masks[2]).split(masks[2].sum(1).tolist())
    for row, asked in ((slice(0, 1), masks), (slice(1, 2), masks[::2])):
        alone = body.passes(3)
        for mask, following in zip(asked, (*asked[1:], masks[2]), strict=True):
            expected = alone(tokens[row], mask[row], labels[row]).at(following[row])
        assert relative(late[row.start], expected) <= TOLERANCE


def test_rows_that_missed_a_full_pass_have_it_when_they_are_next_asked(body):
    tokens, labels, masks = revealing(4)
    kept = body.passes(2)
    kept(tokens, masks[0], labels).at(masks[1])
    for mask in masks[1:3]:
        kept(tokens[:1], mask[:1], labels[:1]).at(mask[:1])
    late, expected = kept(tokens, masks[3], labels), body.conditions(tokens, masks[3], labels)
    assert relative(late.halves()[1].at(masks[3][1:]), expected.halves()[1].at(masks[3][1:])) <= TOLERANCE


@pytest.mark.parametrize("look", [True, False])
def test_rows_that_began_as_the_same_go_on_each_for_itself(body, look):
    """Four rows of two labels know nothing at first, when z is asked of them or not; then each has cells of its own."""
    rng, labels = torch.Generator().manual_seed(5), torch.tensor([3, -1, 3, -1])
    tokens, rank = torch.randn(4, L, CONFIG.channels, generator=rng), torch.rand(4, L, generator=rng).argsort(1)
    masks = [rank >= 4 * step for step in range(5)]
    kept, alone = body.passes(3), [body.passes(3) for _ in labels]
    for step, (mask, following) in enumerate(pairwise(masks)):
        asked = mask & ~following
        found = kept(tokens, mask, labels)
        each = [one(*(x[[row]] for x in (tokens, mask, labels))) for row, one in enumerate(alone)]
        if look or step > 0:
            expected = torch.cat([one.at(asked[[row]]) for row, one in enumerate(each)])
            assert relative(found.at(asked), expected) <= TOLERANCE
            assert relative(found.halves()[1].at(asked[2:]), expected[len(expected) // 2 :]) <= TOLERANCE


def test_rows_that_began_as_the_same_catch_up_each_for_itself(body):
    """The last two rows are not asked at the second step: at the third they are as if it had not been."""
    rng, labels = torch.Generator().manual_seed(6), torch.tensor([3, -1, 3, -1])
    tokens, rank = torch.randn(4, L, CONFIG.channels, generator=rng), torch.rand(4, L, generator=rng).argsort(1)
    masks, kept = [rank >= 4 * step for step in range(4)], body.passes(99)
    for rows, mask, following in zip((4, 2, 4), masks, masks[1:], strict=False):
        asked = (mask & ~following)[:rows]
        found = kept(tokens[:rows], mask[:rows], labels[:rows]).at(asked)
    for row, steps in enumerate(((0, 1, 2), (0, 1, 2), (0, 2), (0, 2))):
        alone = body.passes(99)
        for step in steps:
            cells = (masks[step] & ~masks[step + 1])[[row]]
            expected = alone(tokens[[row]], masks[step][[row]], labels[[row]]).at(cells)
        assert relative(found[4 * row : 4 * row + 4], expected) <= TOLERANCE


def test_a_partial_pass_is_what_one_block_would_say():
    """With one block each the encoder's old keys are exact, so all that is stale are old cells in the decoder."""
    body = bare_body(grid_h=8, grid_w=8)
    tokens, labels, masks = revealing(2)
    labels = labels.clamp(max=2)
    kept, inputs = body.passes(2), []
    kept(tokens, masks[0], labels).at(masks[1])
    found = kept(tokens, masks[1], labels).at(masks[1])
    for mask in masks:
        seen = visible(mask)
        inputs.append(body._decoder_input(body._encode(tokens, *seen, labels), *seen, mask))
    S, stale = body.config.buffer_size, torch.nn.functional.pad(~masks[0], (body.config.buffer_size, 0))
    x = body.decoder_blocks[0](torch.where(stale[..., None], *inputs))
    expected = (body.decoder_norm(x)[:, S:] + body.diffusion_pos_embed_learned)[masks[1]]
    assert relative(found, expected) <= TOLERANCE


def test_conditions_of_an_earlier_pass_are_gone(body):
    tokens, labels, masks = revealing(2)
    kept = body.passes(2)
    first = kept(tokens, masks[0], labels)
    half = first.halves()[0]
    kept(tokens, masks[1], labels)
    for late in (lambda: first.at(masks[1]), first.halves, lambda: half.everywhere):
        with pytest.raises(AssertionError, match="of an earlier pass"):
            late()


@pytest.mark.parametrize("settings", [Settings(full_every=4), Settings(full_every=3, null_every=2, rescore=3)])
def test_an_image_is_the_same_in_any_batch_with_kept_features(body, settings):
    settings = replace(settings, steps=9, denoise_steps=3, cfg_scale=3.0, x0_bound=3.0)
    labels, index = torch.tensor([0, 3, 5]), torch.tensor([4, 0, 9])
    together = run(settings, body, labels, index).tokens_BLC
    assert relative(run(settings, body, labels[1:2], index[1:2]).tokens_BLC[0], together[1]) < 1e-4
    assert relative(together, run(replace(settings, full_every=1, null_every=1), body, labels, index).tokens_BLC) > 1e-4


def test_kept_features_are_of_bodies_of_half_precision_too():
    body = fill(MAR(CONFIG)).eval().bfloat16()
    tokens, labels, masks = revealing(2)
    kept = body.passes(2)
    with torch.no_grad():
        for mask in masks:
            found, expected = kept(tokens, mask, labels).at(mask), body.conditions(tokens, mask, labels).at(mask)
            assert relative(found.float(), expected.float()) < (0.02 if mask is masks[0] else 0.2)


@pytest.mark.parametrize("rescore", ["fast", "slow"])
def test_an_order_that_reads_z_is_asked_of_kept_features_too(body, rescore):
    settings = Settings(lambda state: -state.z_BLD.std(-1), 6, 3, 3.0, x0_bound=3.0, full_every=3, rescore=rescore)
    index = torch.arange(2)
    known = (
        torch.randn(2, L, CONFIG.channels, generator=torch.Generator().manual_seed(1)),
        index[:, None] * 0 + torch.arange(L) >= 20,
    )
    for given in (None, known):
        found = run(settings, body, index, index, given)
        assert found.tokens_BLC.isfinite().all()
        assert (found.trace.order_BL.argsort(1).argsort(1) == found.trace.order_BL).all()
    torch.testing.assert_close(found.tokens_BLC[:, :20], known[0][:, :20])


@pytest.mark.parametrize("images", [1, 2, 12])
@pytest.mark.parametrize(
    ("null_every", "full_every", "cfg_scale"),
    [(n, f, 2.0) for n, f in ((2, 1), (3, 1), (9, 1), (1, 2), (1, 4), (2, 2), (2, 3), (3, 2), (4, 3))]
    + [(1, 2, 1.0), (1, 4, 1.0)],
)
def test_the_formula_counts_kept_steps(null_every, full_every, cfg_scale, images):
    body, index = bare_body(**SHAPES["widths"]), torch.arange(images)
    settings = Settings("random", 5, 4, cfg_scale, null_every=null_every, full_every=full_every)
    with FlopCounterMode(display=False) as counted:
        run(settings, body, labels_of(index, body.config.classes), index)
    assert counted.get_total_flops() == flops.sampled(body.config, settings, images)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_kept_for_at_least_a_step(body, name):
    with pytest.raises(ValueError, match=f"{name} is at least 1, got 0"):
        Settings(**{name: 0})
    with pytest.raises(ValueError, match="rng official gives the published code's images"):
        run(Settings(rng="official", **{name: 2}), body, torch.tensor([0]), torch.tensor([0]))

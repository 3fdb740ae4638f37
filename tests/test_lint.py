"""The linter: the study's figures, closed forms, and loops that count again."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderhead.core.grid import Grid
from orderhead.orders import spatial
from orderhead.orders.lint import (
    lint,
    lint_orders,
    neighbour_pairs,
    orders_NL,
    same_step_pairs,
    step_entropy_bits,
    visible_neighbours,
)
from orderhead.orders.spatial import SPATIAL
from orderhead.sampling.schedule import cosine, one_by_one

SQUARE = Grid(16, 16)
COUNTS = cosine(64, 256)


@pytest.mark.parametrize(
    ("name", "figure"),
    [("quadtree", 1), ("halton", 2), ("quincunx", 9), ("multiscale", 11), ("checkerboard", 14), ("raster", 179),
     ("center_spiral", 35), ("quadtree_shuffled", 1)],
)  # fmt: skip
def test_the_studys_same_step_pairs(name, figure):
    assert round(lint(SPATIAL[name], SQUARE, COUNTS).same_step_pairs) == figure


def expected_pairs(sets_L, grid, counts):
    """The mean over shuffles inside sets, in closed form: every pair of one or two sets is equally likely to meet."""
    size = np.bincount(sets_L)
    a, b = neighbour_pairs(grid)
    edges = np.zeros((len(size), len(size)))
    np.add.at(edges, (np.minimum(sets_L[a], sets_L[b]), np.maximum(sets_L[a], sets_L[b])), 1)
    total, rank_set, start = 0.0, np.repeat(np.arange(len(size)), size), 0
    for count in counts:
        n = np.bincount(rank_set[start : start + count], minlength=len(size))
        for s in range(len(size)):
            total += comb(int(n[s]), 2) * edges[s, s] / max(comb(int(size[s]), 2), 1)
            total += sum(n[s] * n[t] * edges[s, t] / (size[s] * size[t]) for t in range(s + 1, len(size)))
        start += count
    return total


def test_same_step_pairs_in_closed_form():
    r, c = SQUARE.rows_L, SQUARE.cols_L
    exact = {
        "random": expected_pairs(np.zeros(256, int), SQUARE, COUNTS),
        "multiscale": expected_pairs(
            np.where(r % 4 + c % 4 == 0, 0, np.where(r % 2 + c % 2 == 0, 1, 2)), SQUARE, COUNTS
        ),
        "quincunx": expected_pairs(np.where((r + c) % 2, 2, r % 2), SQUARE, COUNTS),
        "checkerboard": expected_pairs(np.array([0, 2, 1, 3])[(r + c) % 4], SQUARE, COUNTS),
    }
    assert exact["random"] == pytest.approx(sum(comb(n, 2) for n in COUNTS) * 930 / comb(256, 2))
    assert {name: round(value, 1) for name, value in exact.items()} == EXACT
    for name, value in exact.items():
        orders = orders_NL(SPATIAL[name], SQUARE, COUNTS, 0, range(400))
        steps = np.repeat(np.arange(64), COUNTS)[np.argsort(orders, axis=1)]
        pairs = same_step_pairs(steps, SQUARE)
        assert abs(pairs.mean() - value) < 4 * pairs.std() / 20, name


EXACT = {"random": 14.3, "multiscale": 11.4, "quincunx": 9.1, "checkerboard": 14.1}
"""The study's 15 for random is not what its definition gives: one image's standard deviation is 3.8, so a few dozen
seeds may well have said so. Its other three agree."""


@given(h=st.integers(1, 7), w=st.integers(1, 7), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=40)
def test_pairs_and_visible_neighbours_by_loops(h, w, seed, data):
    grid = Grid(h, w)
    steps = data.draw(st.integers(1, grid.L))
    counts = cosine(steps, grid.L)
    step = np.repeat(np.arange(steps), counts)[np.argsort(orders_NL(spatial.random, grid, counts, seed, [0])[0])]
    same, visible = 0, np.zeros(grid.L, int)
    for i in range(grid.L):
        for j in range(grid.L):
            if i != j and abs(i // w - j // w) <= 1 and abs(i % w - j % w) <= 1:
                same += step[i] == step[j]
                visible[i] += step[j] < step[i]
    assert same_step_pairs(step[None], grid).tolist() == [same // 2]
    assert visible_neighbours(step[None], grid)[0].tolist() == visible.tolist()
    assert same // 2 + visible.sum() == len(neighbour_pairs(grid)[0])


@pytest.mark.parametrize("name", SPATIAL)
def test_every_pair_meets_in_a_step_or_one_sees_the_other(name):
    report = lint(SPATIAL[name], SQUARE, COUNTS, seeds=4)
    assert report.same_step_pairs + 256 * report.visible_neighbours == pytest.approx(930)


def test_mean_guidance_is_a_matter_of_the_schedule():
    ends = np.minimum(np.cumsum(COUNTS), 255) / 256  # as published, one cell counts as masked at the end
    expected = 1 + 1.9 * (ends * COUNTS).sum() / 256
    for name in ("random", "center_spiral", "halton", "spread"):
        report = lint(SPATIAL[name], SQUARE, COUNTS, seeds=4, cfg_scale=2.9)
        assert report.mean_guidance == pytest.approx(expected)
        assert report.guidance_hw.mean() == pytest.approx(expected)
    assert lint(SPATIAL["random"], SQUARE, COUNTS, seeds=4, cfg_scale=1.0).guidance_hw.tolist() == [[1.0] * 16] * 16


def test_raster_gives_its_first_row_the_least_guidance():
    report = lint(spatial.raster, SQUARE, one_by_one(0, 256), seeds=2, cfg_scale=3.0)
    assert report.guidance_hw.ravel() == pytest.approx(1 + 2 * np.minimum(np.arange(1, 257), 255) / 256)
    assert report.rank_hw.ravel().tolist() == list(range(256))
    assert report.guidance_spread == pytest.approx(report.guidance_hw.std())


def test_guidance_spread_is_zero_where_position_does_not_matter():
    assert lint(spatial.random, SQUARE, COUNTS, seeds=64).guidance_spread < 0.02
    assert (
        lint(spatial.random, SQUARE, COUNTS, seeds=64).guidance_hw.std() > 0.05
    )  # uncorrected: the noise of 64 images
    assert lint(spatial.center_spiral, SQUARE, COUNTS, seeds=4).guidance_spread > 0.5


@pytest.mark.parametrize("name", ["raster", "center_spiral", "edge_spiral", "halton_fixed", "quadtree"])
def test_a_fixed_order_has_no_entropy(name):
    assert lint(SPATIAL[name], SQUARE, COUNTS, seeds=8).entropy_bits == 0


def test_the_random_orders_entropy_in_closed_form():
    share = np.array(COUNTS) / 256
    assert lint(spatial.random, SQUARE, COUNTS).entropy_bits == pytest.approx(-np.log2((share**2).sum()), abs=0.05)
    assert lint(spatial.random, SQUARE, one_by_one(0, 256)).entropy_bits == pytest.approx(8, abs=0.1)


def test_entropy_has_little_bias_for_few_images():
    few = [step_entropy_bits(orders_NL(spatial.random, SQUARE, COUNTS, s, range(8)) // 4) for s in range(40)]
    assert np.mean(few) == pytest.approx(6, abs=0.05)  # 64 equal steps


def test_entropy_of_two_orders_by_hand():
    steps = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # the two agree on the first and the last of four cells
    assert step_entropy_bits(steps) == 1
    assert step_entropy_bits(np.array([[0, 1], [1, 0]])) == 1  # never: as if on one of two


def test_the_report_of_drawn_orders_is_the_report_of_their_order():
    drawn = orders_NL(spatial.halton, SQUARE, COUNTS, 5, range(16))
    a, b = lint_orders(drawn, SQUARE, COUNTS), lint(spatial.halton, SQUARE, COUNTS, seeds=16, seed=5)
    assert (a.same_step_pairs, a.entropy_bits) == (b.same_step_pairs, b.entropy_bits)
    assert np.array_equal(a.rank_hw, b.rank_hw)


def test_bad_input_is_named():
    drawn = orders_NL(spatial.random, SQUARE, COUNTS, 0, range(3))
    with pytest.raises(ValueError, match="two or more"):
        lint_orders(drawn[:1], SQUARE, COUNTS)
    with pytest.raises(ValueError, match="256 cells"):
        lint_orders(drawn[:, :9], SQUARE, COUNTS)
    with pytest.raises(ValueError, match="every cell"):
        lint_orders(drawn // 2, SQUARE, COUNTS)
    with pytest.raises(ValueError, match="sum to 3"):
        lint_orders(drawn, SQUARE, (1, 2))

"""Spatial orders and their combinators: every order a permutation, and the rules recomputed in another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderhead.core.grid import Grid
from orderhead.core.rng import generator
from orderhead.orders import spatial
from orderhead.orders.combine import apart, blend, flip, neighbours, perturb, reverse, shift, then
from orderhead.orders.lint import orders_NL
from orderhead.orders.spatial import SCHEDULE_OF, SPATIAL
from orderhead.orders.written import COMBINATORS, spatial_order
from orderhead.sampling.schedule import cosine

SQUARE = Grid(16, 16)
COUNTS = cosine(64, 256)
FIXED = {
    "raster", "ar_raster", "center_spiral", "edge_spiral", "blockwise_raster", "halton_fixed", "quadtree",
}  # fmt: skip
grids = st.builds(Grid, st.integers(1, 20), st.integers(1, 20))
seeds = st.integers(0, 2**32 - 1)


def draw(order, grid=SQUARE, counts=COUNTS, seed=0, index=0):
    return order(grid, generator(seed, index), counts)


@st.composite
def grids_and_counts(draw):
    grid = draw(grids)
    return grid, cosine(draw(st.integers(1, grid.L)), grid.L)


WRITTEN = {
    "shift(center_spiral)": shift(spatial.center_spiral),
    "blend( flip(raster),halton, 0.3 )": blend(flip(spatial.raster), spatial.halton, 0.3),
    "then(random, reverse(raster), 1)": then(spatial.random, reverse(spatial.raster), 1),
    "apart(perturb(multiscale, 0.25))": apart(perturb(spatial.multiscale, 0.25)),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_what_is_written_is_what_the_combinators_make(text):
    assert np.array_equal(draw(spatial_order(text)), draw(WRITTEN[text]))
    assert len({written for call in WRITTEN for written in COMBINATORS if written in call}) == len(COMBINATORS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rastr", "unknown order 'rastr'; did you mean 'raster'"),
        ("shift(rastr)", "unknown order 'rastr'; did you mean 'raster'"),
        ("shft(raster)", "unknown combinator 'shft'; did you mean 'shift'"),
        ("shift(raster", "combined as in shift"),
        ("shift(raster)(raster)", "this is no order: 'shift\\(raster\\)\\(raster\\)'"),
        ("shift(raster, 0.5)", r"shift\(order\) is how this one is written"),
        ("perturb(raster)", r"perturb\(order, fraction\) is how"),
        ("perturb(raster, halton)", "a number in .0, 1.; got 'halton'"),
        ("perturb(raster, True)", "a number in .0, 1.; got 'True'"),
        ("perturb(raster, 1.5)", r"lies in \[0, 1\], got 1.5"),
        ("shift(0.5)", "this is no order: '0.5'"),
        ("shift(order=raster)", r"shift\(order\) is how"),
        ("().__class__", "this is no order"),
        ("shift(ar_raster)", "ar_raster is no part of a combination"),
    ],
)
def test_what_is_no_order_is_told(text, says):
    with pytest.raises(ValueError, match=says):
        spatial_order(text)


@pytest.mark.parametrize("name", SPATIAL)
@given(case=grids_and_counts(), seed=seeds)
@settings(max_examples=12, deadline=None)
def test_an_order_is_a_permutation(name, case, seed):
    order = draw(SPATIAL[name], *case, seed=seed)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(case[0].L))


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (13, 1), (19, 7)])
def test_odd_shapes(name, shape):
    grid = Grid(*shape)
    assert set(draw(SPATIAL[name], grid, cosine(min(5, grid.L), grid.L))) == set(range(grid.L))


@pytest.mark.parametrize("name", SPATIAL)
def test_an_order_is_a_function_of_seed_and_index(name):
    together, alone = (orders_NL(SPATIAL[name], SQUARE, COUNTS, 3, i) for i in (range(5), [4]))
    assert np.array_equal(together[4], alone[0])
    assert (len(np.unique(together, axis=0)) == 1) == (name in FIXED)


@pytest.mark.parametrize("name", SPATIAL)
def test_callers_may_write_into_an_order(name):
    first = draw(SPATIAL[name])
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(draw(SPATIAL[name]), kept)


@pytest.mark.parametrize("name", SPATIAL)
def test_numpys_legacy_generator_will_do(name):
    order = SPATIAL[name](SQUARE, np.random.RandomState(0), COUNTS)
    assert set(order) == set(range(256))


def test_random_is_the_published_shuffle_read_from_its_tail():
    published = np.arange(256)
    np.random.RandomState(7).shuffle(published)
    order = spatial.random(SQUARE, np.random.RandomState(7), COUNTS)
    assert np.array_equal(order, published[::-1])


def test_one_token_a_step_is_the_schedule_of_the_ar_orders():
    assert SCHEDULE_OF == {"ar_random": "one_by_one", "ar_raster": "one_by_one"}
    for name in ("random", "raster"):
        assert np.array_equal(draw(SPATIAL[f"ar_{name}"]), draw(SPATIAL[name]))


def test_center_spiral_begins_with_the_four_central_cells_clockwise():
    rows_cols = [(7, 7), (7, 8), (8, 8), (8, 7)]
    assert draw(spatial.center_spiral)[:4].tolist() == [r * 16 + c for r, c in rows_cols]
    assert draw(spatial.center_spiral, Grid(3, 3), (9,)).tolist() == [4, 1, 5, 7, 3, 0, 2, 8, 6]


def test_edge_spiral_descends_in_the_same_key():
    def key(cell):
        r, c = divmod(int(cell), 16)
        angle = np.arctan2(r - 7.5, c - 7.5)
        return (r - 7.5) ** 2 + (c - 7.5) ** 2 + 0.1 * (angle + np.pi) / (2 * np.pi)

    assert draw(spatial.edge_spiral).tolist() == sorted(range(256), key=key, reverse=True)


def test_center_perturbed_moves_few_cells():
    moved = (orders_NL(spatial.center_perturbed, SQUARE, COUNTS, 0, range(50)) != draw(spatial.center_spiral)).sum(1)
    assert moved.max() <= 2 * 25
    assert moved.min() > 25


def test_multiscale_levels_hold_16_48_and_192_cells():
    order = draw(spatial.multiscale)
    rows, cols = order // 16, order % 16
    assert ((rows[:16] % 4 == 0) & (cols[:16] % 4 == 0)).all()
    assert ((rows[:64] % 2 == 0) & (cols[:64] % 2 == 0)).all()
    assert np.bincount(spatial._multiscale_level(SQUARE)).tolist() == [16, 48, 192]


@pytest.mark.parametrize("name", ["blockwise", "blockwise_raster", "blockwise_shuffled", "blockwise_random"])
def test_blockwise_finishes_a_block_before_the_next(name):
    order = draw(SPATIAL[name])
    block = (order // 64 * 4 + order % 16 // 4).reshape(16, 16)
    assert (block == block[:, :1]).all()
    assert (block[:, 0].tolist() == list(range(16))) == (name in {"blockwise_raster", "blockwise_shuffled"})
    inner_raster = (np.diff(order.reshape(16, 16)) > 0).all()
    assert inner_raster == (name in {"blockwise", "blockwise_raster"})


def test_halton_needs_685_points():
    def mirrored(index, base):  # in floats, digit by digit: another way than the package's integers
        value, unit = 0.0, 1 / base
        while index:
            value, index, unit = value + index % base * unit, index // base, unit / base
        return value

    cells = [int(16 * mirrored(i, 2)) * 16 + int(16 * mirrored(i, 3)) for i in range(1, 686)]
    assert list(dict.fromkeys(cells)) == draw(spatial.halton_fixed).tolist()
    assert spatial._halton(SQUARE)[1] == 685


def test_halton_is_the_fixed_one_shifted_and_mirrored():
    fixed, moved = draw(spatial.halton_fixed).reshape(1, -1), orders_NL(spatial.halton, SQUARE, COUNTS, 0, range(20))
    for order in moved:
        dr, dc = np.diff(order // 16) % 16, np.diff(order % 16) % 16
        ref_r, ref_c = np.diff(fixed[0] // 16) % 16, np.diff(fixed[0] % 16) % 16
        assert np.array_equal(dr, ref_r) or np.array_equal(dr, -ref_r % 16)
        assert np.array_equal(dc, ref_c) or np.array_equal(dc, -ref_c % 16)


def test_checkerboard_takes_even_squares_first_in_two_halves():
    order = draw(spatial.checkerboard)
    assert ((order // 16 + order % 16) % 4).reshape(4, 64).tolist() == [[k] * 64 for k in (0, 2, 1, 3)]


def test_quincunx_takes_three_lattices():
    order = draw(spatial.quincunx)
    rows, cols = order // 16 % 2, order % 2
    assert not rows[:64].any()
    assert not cols[:64].any()
    assert rows[64:128].all()
    assert cols[64:128].all()
    assert (rows[128:] != cols[128:]).all()


def test_quadtree_is_the_recursive_round_robin():
    def cells(row, col, size):
        if size == 1:
            return [(row, col)]
        d = size // 2
        quarters = [cells(r, c, d) for r, c in [(row, col), (row + d, col + d), (row, col + d), (row + d, col)]]
        return [cell for turn in zip(*quarters, strict=True) for cell in turn]

    for grid in (SQUARE, Grid(5, 7)):
        size = {16: 16, 5: 8}[grid.h]
        expected = [r * grid.w + c for r, c in cells(0, 0, size) if r < grid.h and c < grid.w]
        assert draw(spatial.quadtree, grid).tolist() == expected


@pytest.mark.parametrize("name", ["quadtree", "quadtree_shuffled"])
def test_quadtree_is_balanced_at_every_level(name):
    order = draw(SPATIAL[name], index=5)
    for side in (2, 4, 8):
        quadrant = order // 16 // (16 // side) * side + order % 16 // (16 // side)
        assert (np.sort(quadrant.reshape(-1, side * side), axis=1) == np.arange(side * side)).all()
    first_two = order[:2]
    assert (np.diff(first_two // 16 // 8) != 0).all()
    assert (np.diff(first_two % 16 // 8) != 0).all()


def test_every_cell_of_quadtree_shuffled_comes_first_equally_often():
    grid = Grid(4, 4)
    firsts = orders_NL(spatial.quadtree_shuffled, grid, (16,), 0, range(3200))[:, 0]
    counts = np.bincount(firsts, minlength=16)
    assert ((counts - 200) ** 2 / 200).sum() < 37.7  # chi-square, 15 degrees of freedom, p = 0.001


def test_spread_keeps_to_its_rule():
    """While cells clear of the step have enough visible neighbours, the one with the most comes next (by loops)."""
    near = neighbours(SQUARE)
    for index in range(4):
        order, start, visible = draw(spatial.spread, index=index), 0, set()
        for count in COUNTS:
            step = order[start : start + count].tolist()
            for k, cell in enumerate(step):
                wanted = [
                    c
                    for c in set(range(256)) - visible - set(step[:k])
                    if _closeness(c, visible & set(near[c])) > 1 - 1e-9 and not set(near[c]) & set(step[:k])
                ]
                if wanted:
                    best = max(_closeness(c, visible & set(near[c])) for c in wanted)
                    assert cell in wanted
                    assert _closeness(cell, visible & set(near[cell])) == pytest.approx(best)
            visible |= set(step)
            start += count


def _closeness(cell, visible):
    return sum(1 / np.hypot(cell // 16 - v // 16, cell % 16 - v % 16) for v in visible)


def test_spread_after_keeps_the_head():
    order = draw(spatial.spread_after(spatial.halton, 0.3))
    assert np.array_equal(order[:76], draw(spatial.halton)[:76])


def test_reverse_twice_is_the_identity():
    assert np.array_equal(draw(reverse(reverse(spatial.halton))), draw(spatial.halton))
    assert np.array_equal(draw(reverse(spatial.raster)), np.arange(256)[::-1])


@given(fraction=st.floats(0, 1), grid=grids)
@settings(deadline=None, max_examples=40)
def test_perturb_moves_at_most_two_cells_a_swap(fraction, grid):
    moved = (draw(perturb(spatial.raster, fraction), grid) != np.arange(grid.L)).sum()
    assert moved <= 2 * int(fraction * grid.L)
    assert np.array_equal(draw(perturb(spatial.raster, 0), grid), np.arange(grid.L))


@given(grid=grids, weight=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_blend_lies_between(grid, weight):
    a, b = spatial.halton_fixed, spatial.center_spiral
    assert np.array_equal(draw(blend(a, a, weight), grid), draw(a, grid))
    assert np.array_equal(draw(blend(a, b, 0), grid), draw(a, grid))
    assert np.array_equal(draw(blend(a, b, 1), grid), draw(b, grid))


def test_blend_with_the_reverse_at_one_half_is_all_ties():
    assert np.array_equal(draw(blend(spatial.quadtree, reverse(spatial.quadtree), 0.5)), np.arange(256))


@given(grid=grids, index=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_shift_and_flip_move_all_cells_alike(grid, index):
    moved = draw(shift(spatial.raster), grid, index=index)
    assert len(set((moved // grid.w - grid.rows_L) % grid.h)) == len(set((moved % grid.w - grid.cols_L) % grid.w)) == 1
    image = draw(flip(spatial.raster), grid, index=index).reshape(grid.h, grid.w)
    plain = np.arange(grid.L).reshape(grid.h, grid.w)
    assert any(np.array_equal(image[::up, ::left], plain) for up in (1, -1) for left in (1, -1))


@given(fraction=st.floats(0, 1), grid=grids)
@settings(deadline=None, max_examples=40)
def test_then_keeps_both_orders(fraction, grid):
    order, head = draw(then(spatial.raster, spatial.edge_spiral, fraction), grid), int(fraction * grid.L)
    assert np.array_equal(order[:head], np.arange(head))
    rank = np.argsort(draw(spatial.edge_spiral, grid))
    assert (np.diff(rank[order[head:]]) > 0).all()


def test_then_of_an_order_with_itself_is_itself():
    assert np.array_equal(draw(then(spatial.quadtree, spatial.quadtree, 0.4)), draw(spatial.quadtree))


def test_apart_leaves_orders_alone_that_are_apart():
    one_each = (1,) * 256
    assert np.array_equal(draw(apart(spatial.random), counts=one_each), draw(spatial.random, counts=one_each))
    columns = draw(apart(spatial.raster), Grid(1, 9), (3, 3, 3))
    assert columns.tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 7]


def test_neighbours_by_distance():
    for grid in (Grid(1, 1), Grid(1, 4), Grid(3, 5)):
        r, c = grid.rows_L, grid.cols_L
        for cell, near in enumerate(neighbours(grid)):
            distance = np.maximum(abs(r - r[cell]), abs(c - c[cell]))
            assert list(near) == np.flatnonzero(distance == 1).tolist()


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_fractions_are_checked(fraction):
    for make in (
        lambda f: perturb(spatial.raster, f),
        lambda f: blend(spatial.raster, spatial.raster, f),
        lambda f: then(spatial.raster, spatial.raster, f),
        lambda f: spatial.spread_after(spatial.raster, f),
    ):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            make(fraction)

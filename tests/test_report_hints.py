"""What goes with a Frechet distance: correlations that are right, small, and said with care."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import report_fixture
from hypothesis import given
from hypothesis import strategies as st

from orderhead.report import build, hints, scatter


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=12))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    found = hints.spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(found)
    else:
        stats = pytest.importorskip("scipy.stats")
        assert found == pytest.approx(stats.spearmanr(x, y).statistic)


def test_the_bound_of_chance_is_that_of_the_t_approximation() -> None:
    """The second way: 4,000 permutations of ten ranks."""
    rng = np.random.default_rng(0)
    ranks = np.arange(10.0)
    rho = [hints.spearman(ranks, rng.permutation(ranks)) for _ in range(4000)]
    assert hints.by_chance(10) == pytest.approx(np.quantile(np.abs(rho), 0.95), abs=0.02)


def test_each_figure_is_drawn_with_its_correlation(page: str) -> None:
    section = page[page.index('id="hints"') : page.index('id="orders"')]
    values = {name: {r.metric: r.value for r in report_fixture.lines(name)} for name in report_fixture.ORDERS}
    for key in hints.FIGURES:
        figure = re.search(rf'data-figure="{key}".*?</figure>', section, re.DOTALL)
        assert figure
        x, y = (np.array([values[name][k] for name in values]) for k in (key, "fd"))
        rho = f"{hints.spearman(x, y):+.2f}".replace("-", "\N{MINUS SIGN}")
        assert f"{hints.RHO} = {rho}, n = 10 orders" in figure[0]
        assert figure[0].count("<circle") == 10
    assert "A correlation over 10 orders is a hint, not a cause" in section
    assert "orderhead compare --body fashion" in section
    assert "--cfg-schedule equalized" in section.split("<pre")[1]


def test_orders_with_steps_of_their_own_are_left_out(tmp_path: Path) -> None:
    report_fixture.make(tmp_path, measured=5)
    ones = {"order": report_fixture.order_NL("raster"), "counts": np.ones(report_fixture.L, int)}
    np.savez_compressed(tmp_path / "traces" / "raster.npz", **ones)
    page = build(tmp_path).read_text()
    assert page.count("n = 4 orders</figcaption>") == 3  # all four have the same entropy in the fixture
    assert "Without raster, with another number of steps." in page


def test_the_distance_is_called_by_its_name(tmp_path: Path) -> None:
    report_fixture.make(tmp_path, files=False)
    lines = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(lines.replace('"fd"', '"fid5k"').replace('"fd_minus', '"fid5k_minus'))
    section = build(tmp_path).read_text().split('id="hints"')[1].split("</section>")[0]
    assert section.count(">FID</text>") == 4
    assert "<title>random: FID 6.62 at " in section
    assert "Frechet Inception distance over what the linter finds" in section


def test_orders_that_share_a_colour_are_told_apart(page: str) -> None:
    """The eleventh order beside the baseline takes the first colour again, and a hollow dot."""
    point = scatter.Point("eleventh", "s0 dashed", 2.0, 1.0, None)
    drawn = scatter.plot([scatter.Point("first", "s0", 1.0, 1.0, None), point], "x", "FD", "label")
    assert '<g class="s0">' in drawn
    assert '<g class="s0 dashed">' in drawn
    assert ".scatter g.dashed circle { fill: var(--paper)" in page


def test_few_orders_make_no_correlation(tmp_path: Path) -> None:
    page = build(report_fixture.make(tmp_path, measured=3, files=False)).read_text()
    assert 'id="hints"' not in page
    assert "#hints" not in page.split("</style>")[1]


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 9)), min_size=4, max_size=20))
def test_names_cover_neither_points_nor_each_other(places: list[tuple[float, float]]) -> None:
    points = [scatter.Point(f"order_{i}", "s0", x, y, None) for i, (x, y) in enumerate(places)]
    sx, sy = scatter.scales(points)
    boxes = [(x, y - 8.5, x + 5.6 * len(p.order), y + 1.5) for p, (x, y) in scatter.names_that_fit(points, sx, sy)]
    dots = [(sx(p.x) - 4, sy(p.y) - 4, sx(p.x) + 4, sy(p.y) + 4) for p in points]
    for i, box in enumerate(boxes):
        assert box[0] >= scatter.LEFT
        assert box[2] <= scatter.WIDTH
        for other in boxes[:i] + dots:
            shared = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
            assert min(shared) <= 1e-9

"""The modes side by side: which rows stand together, what their maps hold, that a page of many heads stays small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import report_fixture
from report_fixture import MODES, Words
from test_report_pictures import decoded

from orderhead.core.ranking import rank_change, ranking
from orderhead.report import modes, pixels
from orderhead.report.load import Trace, load
from orderhead.report.page import render


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_fixture.study(tmp_path_factory.mktemp("modes") / "study", reported={"b-slow": 3.41})


@pytest.fixture(scope="module")
def section(study: Path) -> str:
    page = render(load(study), study)
    return page[page.index('<section id="modes"') : page.index('<section id="hints"')]


def test_a_ranking_and_how_far_it_turns_by_hand() -> None:
    assert ranking(np.array([0.1, 0.5, 0.5, -1.0])).tolist() == [2, 0, 1, 3]
    there = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    assert rank_change(there[None]).tolist() == [[0.0, 1.0]]
    swapped = np.array([[3.0, 2.0, 1.0, 0.0], [2.0, 3.0, 1.0, 0.0]])
    assert rank_change(swapped[None]).tolist() == [[0.25]]  # 2 of the 8 ranks that a reversal moves


def test_rows_are_grouped_by_head_and_the_baseline_stands_in_each(study: Path) -> None:
    found = modes.heads(load(study))
    assert [head.name for head in found] == ["a", "b"]
    for head in found:
        assert [row.order for row in head.rows] == [*(f"{head.name}-{mode}" for mode in MODES), "random"]


def test_heads_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    arms = {"raster": {"head": "one/head"}, "multiscale": {"head": "two/head"}}
    report = load(report_fixture.make(tmp_path, measured=3, arms=arms))
    assert [head.name for head in modes.heads(report)] == ["one/head", "two/head"]


def test_each_mode_has_its_order_four_moments_and_what_the_head_said(section: str) -> None:
    groups = section.split('<div class="modes"')[1:]
    assert [" hidden>" in group.split("<div")[0] for group in groups] == [False, True]
    rows = dict(zip((*MODES, "random"), groups[0].split('<div class="mode">')[1:], strict=True))
    for mode, html in rows.items():
        assert re.findall(r"<figcaption>([^<]+)<", html)[:5] == ["order", "25 %", "50 %", "75 %", "100 %"]
        assert ("step 0<" in html) == (MODES.get(mode, 0) > 1)
        assert ("Standard deviation of the scores" in html) == (mode in MODES)
    steps = {mode: re.findall(r"<figcaption>step (\d+)<", html) for mode, html in rows.items()}
    assert steps["semifast-8"] == [str(2 * k) for k in range(8)]
    assert steps["slow"] == ["0", "2", "4", "6", "9", "11", "13", "15"]
    assert "asked once" in rows["fast"]
    assert "asked 16 times" in rows["slow"]
    assert "baseline" in rows["random"]


def test_every_window_looks_at_a_picture_that_stands_in_the_page_once(study: Path, section: str) -> None:
    page = render(load(study), study)
    wanted = set(re.findall(r'<use href="#([^"]+)"', section))
    assert len(wanted) == 2 * 7  # maps and pictures of six modes and random
    for key in wanted:
        assert page.count(f'id="{key}"') == 1
    sources = re.findall(r'"(data:image/png;base64,[^"]{400,})"', page)
    assert len(sources) == len(set(sources))
    assert "3.41" in page


def test_the_maps_hold_the_order_the_scores_and_the_quarters() -> None:
    """By hand, on 2 x 2 cells revealed 3, 0, 2, 1; the head's second opinion is the reverse of its first."""
    scores = np.array([[[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]]])
    trace = Trace(np.array([[3, 0, 2, 1]]), np.array([2, 2]), scores)
    found = 3 * modes.maps(trace, 0, True)
    np.testing.assert_allclose(found[:3], [[1, 3, 2, 0], [0, 1, 2, 3], [3, 2, 1, 0]])
    now, before, none = 3 * modes.NOW, 3 * modes.BEFORE, np.nan
    quarters = [[none, none, none, now], [now, none, none, before], [before, none, now, before]]
    np.testing.assert_allclose(found[3:], [*quarters, [before, now, before, before]])
    assert len(modes.maps(trace, 0, False)) == 1


def test_a_sheet_of_maps_holds_every_cell() -> None:
    fraction = np.random.default_rng(0).random((2, 3, 4, 5))
    fraction[0, 1, 2, 3] = np.nan
    sheet = decoded(pixels.maps(fraction))
    assert sheet.shape == (3 * 5, 2 * 6, 4)
    for i, k in np.ndindex(2, 3):
        part = sheet[5 * k : 5 * k + 4, 6 * i : 6 * i + 5]
        there = ~np.isnan(fraction[i, k])
        np.testing.assert_array_equal(part[..., 3] == 255, there)
        difference = part[there][:, :3].astype(int) - pixels.colours(fraction[i, k][there])
        assert np.abs(difference).max() <= 1  # 255 tones
    assert (sheet[4::5, :, 3] == 0).all()
    assert (sheet[:, 5::6, 3] == 0).all()


def test_thirteen_heads_make_a_page_that_can_be_opened(tmp_path: Path) -> None:
    """MAR-B's grid and pictures: 39 modes of 256 cells, colour frames that do not compress."""
    folder = report_fixture.study(tmp_path, heads=13)
    run = json.loads((folder / "run.json").read_text()) | {"grid": [16, 16]}
    (folder / "run.json").write_text(json.dumps(run))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 16, 64, 64, 3), dtype=np.uint8)
    for name in run["orders"]:
        R = MODES.get(name[2:], 1)
        order, scores = np.argsort(rng.random((8, 256)), axis=1), rng.standard_normal((8, R, 256))
        np.savez(folder / "traces" / f"{name}.npz", order=order, counts=np.full(16, 16), scores=scores)
        np.savez(folder / "panels" / f"{name}.npz", images=pictures, labels=np.arange(8))
    page = render(load(folder), folder)
    assert page.count('<div class="modes"') == 13
    assert len(page) < 3_000_000


def test_modes_without_pictures_show_their_maps(tmp_path: Path) -> None:
    folder = report_fixture.study(tmp_path, heads=1)
    for file in (folder / "panels").glob("*.npz"):
        file.unlink()
    page = render(load(folder), folder)
    section = page[page.index('id="modes"') : page.index('id="hints"')]
    assert section.count("No pictures.") == 4
    assert "image (3)" in Words(section).text


def test_without_a_head_there_is_no_section(page: str) -> None:
    assert 'id="modes"' not in page

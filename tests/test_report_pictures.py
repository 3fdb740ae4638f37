"""The report's pictures and charts: frames and colours exactly, scales and ticks for any numbers."""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import report_fixture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from orderhead.report import draw, pixels, training
from orderhead.report.load import load
from orderhead.report.page import render


def decoded(uri: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize("shape", [(3, 5, 6, 8), (3, 5, 6, 8, 3)])
def test_a_sprite_holds_the_frames_exactly(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sprite = decoded(pixels.sprite(images))
    for i in range(3):
        for t in range(5):
            cut = sprite[t * 6 : t * 6 + 6, i * 8 : i * 8 + 8, :3]
            wanted = images[i, t] if images.ndim == 5 else np.repeat(images[i, t][..., None], 3, axis=-1)
            np.testing.assert_array_equal(cut, wanted)


def test_a_sheet_holds_the_quarters() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 4, 4), dtype=np.uint8)
    sheet = decoded(pixels.sheet(images))
    assert sheet.shape == (4 * 5 - 1, 2 * 5 - 1, 4)
    for row, t in enumerate((3, 7, 11, 15)):
        np.testing.assert_array_equal(sheet[row * 5 : row * 5 + 4, 5:9, 0], images[1, t])
    assert (sheet[4, :, 3] == 0).all()


def test_dark_is_early() -> None:
    light = decoded(pixels.heatmap(np.arange(64.0).reshape(8, 8)))[..., :3].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light.ravel()) > 0).all()


@pytest.mark.parametrize("T", [1, 2, 3, 4, 16, 64, 256])
def test_the_last_quarter_is_the_last_step(T: int) -> None:
    steps = pixels.quarters(T)
    assert steps[-1] == T - 1
    assert steps == sorted(steps)
    assert min(steps) >= 0


@pytest.mark.parametrize("shape", [(8, 64, 64, 64, 3), (8, 16, 32, 32), (1, 300, 20, 20), (2, 1, 500, 400, 3)])
def test_thinning_keeps_the_last_frame_and_the_limit(shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    images[:, -1] = 200
    for limit in (10**7, 10**5, 2 * 10**4):
        thin = pixels.thin(images, limit)
        assert thin.nbytes <= max(limit, 17 * 31 * 31 * 3 * 2)
        assert (thin[:, -1] == 200).all()


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 10)), max_size=12))
def test_the_forest_scale_holds_zero_and_keeps_order(pairs: list[tuple[float, float]]) -> None:
    scale = draw.forest_scale((m - h, m + h) for m, h in pairs)
    assert scale.lo < 0 < scale.hi
    places = [scale(m) for m in sorted(m for m, _ in pairs)]
    assert places == sorted(places)
    assert all(0 <= p <= draw.FOREST[0] for p in places)


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e4), st.integers(2, 6))
def test_ticks_are_inside_and_evenly_spaced(lo: float, width: float, wanted: int) -> None:
    marks = draw.ticks(lo, lo + width, wanted)
    assert len(marks) <= 2 * wanted + 1
    assert all(lo - 1e-6 * width - 1e-9 <= m <= lo + width * (1 + 1e-6) + 1e-9 for m in marks)


@given(st.lists(st.floats(0, 300), min_size=1, max_size=15), st.floats(1, 15))
def test_labels_keep_their_distance_and_their_order(wanted: list[float], gap: float) -> None:
    wanted = sorted(wanted)
    found = draw.spaced(wanted, gap, 8, 282)
    assert all(b - a >= gap - 0.11 for a, b in itertools.pairwise(found))  # places are rounded to 0.1
    assert found[-1] <= 282
    if (len(wanted) - 1) * gap <= 274:
        assert found[0] >= 7.9
    if all(b - a >= gap for a, b in itertools.pairwise(wanted)) and wanted[0] >= 8 and wanted[-1] <= 282:
        assert found == pytest.approx(wanted, abs=0.051)


def test_each_line_is_named_at_its_end_in_a_colour_of_its_own(tmp_path: Path) -> None:
    page = render(load(report_fixture.make(tmp_path)), tmp_path)
    wide = page[page.index('id="curves"') : page.index('id="protocol"')]
    assert [wide.count(f'class="{part} ') for part in ("line", "lead", "tag")] == [30, 30, 30]
    assert sorted(re.findall(r'class="tag .*?>(\w+)<', wide)) == sorted(report_fixture.ORDERS * 3)
    for palette in re.findall(r"--s0:.*?--s9: #\w+", page, re.DOTALL):
        colours = [
            np.array([int(c[i : i + 2], 16) for i in (0, 2, 4)]) for c in re.findall(r"--s\d: #(\w{6})", palette)
        ]
        assert len(colours) == 10
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)) > 60
    many = [draw.Line(str(k), "s0", np.array([0.0, 1]), np.array([0.0, 1])) for k in range(40)]
    assert draw.tags(draw.Frame(400, 290, 1, "", right=100), many) == ""


def test_training_is_drawn_where_heads_were_trained(tmp_path: Path) -> None:
    folder = report_fixture.make(tmp_path, measured=2)
    assert 'id="training"' not in render(load(folder), folder)
    log = folder / "heads" / "a" / "log.jsonl"
    log.parent.mkdir(parents=True)
    whole = '{"images": %d, "diffusion": 0.2, "order": 0.1, "score_std": %g}'
    log.write_text("\n".join([whole % (10, 0.5), whole % (20, 1.5), '{"images": 30, "diff', "{}"]))
    page = render(load(folder), folder)
    assert 'id="training"' in page
    assert "one line for each of 1 rows" in page
    assert training.logs(folder)["a"]["score_std"].tolist() == [0.5, 1.5]


def test_a_single_logged_point_can_be_seen(tmp_path: Path) -> None:
    """A line of one point would not be drawn; the stroke ends where the point is."""
    folder = report_fixture.make(tmp_path, measured=1)
    report_fixture.training_log(folder, "a", 1)
    page = render(load(folder), folder)
    lines = re.findall(r'points="([^"]+)"', page[page.index('id="training"') : page.index('id="protocol"')])
    assert len(lines) == 3
    for points in lines:
        start, end = (tuple(map(float, point.split(","))) for point in points.split())
        assert start == (end[0] - draw.STROKE, end[1])

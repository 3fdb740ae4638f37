"""The information curve and the schedule that costs least, against brute force and `image_bits`; the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import NAMES, bare_body, pictures, tiny_body

from orderhead.cli import main
from orderhead.core.rng import Paired
from orderhead.orders.spatial import random
from orderhead.report.information import _curve, _stairs
from orderhead.sampling import bits as bounds
from orderhead.sampling.bits import context_bits, image_bits
from orderhead.sampling.information import cost, curve, informed, sizes
from orderhead.sampling.schedule import counts_of
from orderhead.sampling.settings import Settings
from orderhead.studies import information


def every(L: int, steps: int) -> list[tuple[int, ...]]:
    """All ways to reveal L cells in so many steps."""
    edges = ((0, *cut, L) for cut in combinations(range(1, L), steps - 1))
    return [tuple(b - a for a, b in pairwise(e)) for e in edges]


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@pytest.mark.parametrize("seed", range(4))
def test_informed_costs_least_of_all_counts(steps: int, seed: int) -> None:
    """Of a falling curve, of one that rises again, of noise."""
    rng = np.random.default_rng(seed)
    bits_L = [np.exp(-np.arange(9) / 3), (np.arange(9) - 5.0) ** 2, rng.random(9), -np.log1p(np.arange(9))][seed]
    found = informed(bits_L, steps)
    costs = {counts: cost(bits_L[None], counts)[0] for counts in every(9, steps)}
    assert len(found) == steps
    assert costs[found] == pytest.approx(min(costs.values()))


def test_a_straight_curve_wants_equal_steps() -> None:
    assert informed(-np.arange(64.0), 8) == (8,) * 8


def test_cost_is_the_bits_of_each_step_times_its_cells() -> None:
    curves = np.array([[8.0, 4, 2, 1], [1, 1, 1, 1]])
    assert cost(curves, (1, 3)).tolist() == [8 + 3 * 4, 4]
    assert cost(curves, (1, 1, 1, 1)).tolist() == [15, 4]
    with pytest.raises(ValueError, match="sum to 3, the curve has 4"):
        cost(curves, (1, 2))


@pytest.mark.parametrize("steps", [0, 5])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps lies in \[1, 4\] \(the cells to reveal\), got {steps}"):
        informed(np.zeros(4), steps)


@pytest.mark.parametrize("L", [1, 4, 64, 256])
def test_sizes_go_from_nothing_to_all_but_one(L: int) -> None:
    at = sizes(L)
    assert (at[0], at[-1]) == (0, L - 1)
    assert at == sorted(set(at))
    assert len(at) <= 33
    assert curve(np.array([[float(k) for k in at]]), L)[0] == pytest.approx(np.arange(L))


def test_context_bits_are_those_of_the_cell_that_is_revealed_last() -> None:
    """One probe is the last cell of a random order: at L - 1 known, what `image_bits` says of that cell."""
    body, L = bare_body(), 16
    real, labels, index = torch.randn(3, L, 4).clamp(-4, 4), torch.tensor([0, 1, 2]), torch.tensor([5, 0, 9])
    found = context_bits(body, labels, index, real, [0, 7, L - 1], probes=1, seed=3)
    settings = Settings("random", steps=L, seed=3, schedule="one_by_one")
    each_BL, step_BL = image_bits(settings, body, labels, index, real)
    last_B1 = step_BL.argmax(1, keepdim=True)
    assert torch.allclose(found[:, 2], each_BL.gather(1, last_B1)[:, 0], rtol=1e-4)
    assert not torch.allclose(found[:, 0], found[:, 2], rtol=1e-4)


def test_the_mean_is_over_probes_and_the_context_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits that are told by the number of known cells and by the cell: sizes and probes are where they should be."""
    body, L, asked = bare_body(), 16, []

    def told(body, z_ND, x0_NC, where_BL, index_B, rng, levels):
        asked.append(where_BL)
        return x0_NC[:, 0]

    monkeypatch.setattr(bounds, "_cell_bits", told)
    real = torch.arange(L, dtype=torch.float32)[None, :, None].expand(2, L, 4).contiguous()
    found = context_bits(body, torch.tensor([0, 1]), torch.tensor([0, 1]), real, [0, 12, 14], probes=4)
    orders = [random(body.grid, Paired(0).generator(i), ()) for i in (0, 1)]
    want = [[np.mean(o[12:]), np.mean(o[12:]), np.mean(o[14:])] for o in orders]
    assert found.numpy() == pytest.approx(np.array(want))
    assert [int(w.sum()) for w in asked] == [8, 8, 4]


# The command.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    tiny_body(home, image_channels=3)
    pictures(home / "real", 24, NAMES)
    pictures(home / "flat", 24)
    return home


def words(home: Path, out: Path, *more: object) -> list[str]:
    given = ("schedule", "--body", home / "body", "--real", home / "real", "--images", 8, "--steps", 4, *more)
    return [str(word) for word in (*given, "--out", out)]


def test_the_command_prints_counts_that_sample_takes(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(home, tmp_path / "out", "--json")) == 0
    rows = {row["schedule"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["informed", "cosine", "linear", "one_by_one"]
    assert rows["cosine"]["counts"] == ",".join(map(str, counts_of("cosine", 4, 16)))
    assert rows["cosine"]["minus_cosine"] == 0
    record = json.loads((tmp_path / "out/schedules.json").read_text())
    assert len(record["curve"]) == 16
    gap = rows["informed"]
    assert gap["minus_cosine"] == pytest.approx(gap["bits"] - rows["cosine"]["bits"], abs=0.02)
    assert gap["lo"] <= gap["minus_cosine"] <= gap["hi"]
    sampled = [
        "sample",
        "--body",
        str(home / "body"),
        "--denoise-steps",
        "2",
        "-n",
        "1",
        "--out",
        str(tmp_path / "s.npz"),
    ]
    assert main([*sampled, "--schedule", gap["counts"]]) == 0


def test_run_again_it_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is there is not computed again; the one that was lost is, to the same bits."""
    monkeypatch.setattr(information, "PART", 4)
    assert main(words(home, tmp_path / "out")) == 0
    lost, kept = sorted((tmp_path / "out/bits").iterdir())
    before, text = np.load(lost)["bits"], (tmp_path / "out/schedules.json").read_text()
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    assert main(words(home, tmp_path / "out")) == 0
    assert np.array_equal(np.load(lost)["bits"], before)
    assert kept.stat().st_mtime_ns == stamp
    assert (tmp_path / "out/schedules.json").read_text() == text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--steps", 17), "steps lies in"),
        (("--images", 3), "at least 4 images, got 3"),
        (("--images", 30), "there are 24 real images, fewer than 30"),
        (("--real", "nowhere/x"), "no folder nowhere/x"),
    ],
)
def test_what_cannot_be_measured_is_told(
    more: tuple, said: str, home: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert said in refused(*words(home, tmp_path / "out", *more))


def test_flat_images_have_no_classes(home: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused(*words(home, tmp_path / "out", "--real", home / "flat"))
    assert "these images need their classes: one subfolder for each of the body's 3" in said


# The page.


def test_the_page_draws_what_each_schedule_pays(home: Path, tmp_path: Path) -> None:
    """Staircases over the curve: as wide as the image has cells, as high as a cell costs before the step."""
    out = tmp_path / "out"
    assert main(words(home, out)) == 0
    page, record = (out / "report.html").read_text(), json.loads((out / "schedules.json").read_text())
    assert page.count("<polyline") == len(record["schedules"])  # one by one is the curve itself
    assert all(f"<code>{row['counts']}</code>" in page for row in record["schedules"])
    row = {"schedule": "a", "counts": "1,3"}
    stairs = _stairs(row, np.array([4.0, 2, 1, 0]), "s0")
    assert stairs.x.tolist() == [0, 0.25, 0.25, 1]
    assert stairs.y.tolist() == [4, 4, 2, 2]
    area = sum((b - a) * y for a, b, y in zip(stairs.x, stairs.x[1:], stairs.y, strict=False))
    assert 4 * area == cost(np.array([[4.0, 2, 1, 0]]), (1, 3))[0]


@pytest.mark.parametrize(
    "record", ["{}", '{"curve": [1], "above_least": [0], "half": [0], "schedules": [], "images": 2}']
)
def test_a_damaged_record_is_told(record: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "schedules.json").write_text(record)
    (tmp_path / "run.json").write_text("{}")
    assert "schedules.json is damaged; run the command that wrote it again" in refused("report", tmp_path)


def test_a_flat_curve_is_drawn() -> None:
    rows = [{"schedule": "informed", "counts": "1"}]
    assert "<polyline" in _curve(np.ones(1), np.zeros(1), np.zeros(1), rows)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_claims_no_folder(
    seed: int, home: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "--seed lies in [0, 2**32)" in refused(*words(home, tmp_path / "out", "--seed", seed))
    assert not (tmp_path / "out").exists()

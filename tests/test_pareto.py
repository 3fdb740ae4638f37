"""Quality against cost: every point under every seed beside the reference, costs that are kept, and what is said."""

import json

import numpy as np
import pytest
from worlds import NAMES, pictures, tiny_body, tiny_judge

from orderhead.body.load import load_body
from orderhead.cli import main
from orderhead.report import build, cost
from orderhead.report.load import load
from orderhead.sampling import flops
from orderhead.sampling.settings import Settings
from orderhead.studies import pareto as quality
from orderhead.studies.pareto import POINTS, REFERENCE, Point, _twins, pareto, table

FEW = (
    Point("random", 4, "3:1"),
    Point("halton", 8, 2, "dpm"),
    Point("random", 4, 2, informed=True, null_every=2, full_every=2),
)
IMAGES = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two points and a cheap reference, on an untrained body of 16 cells."""
    home = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "POINTS", FEW)
        patch.setattr(quality, "REFERENCE", Point("random", 1, 4))
        patch.setattr(quality, "TIMED_IMAGES", 2)
        judging = {"real": str(pictures(home / "real", 30, NAMES)), "features": str(tiny_judge(home / "judge"))}
        body = str(tiny_body(home, 3))
        yield {"out": home / "out", "body": body, "images": IMAGES, "seeds": (0, 7), "judging": judging}


@pytest.fixture(scope="module")
def done(world):
    return pareto(**world)


def test_every_point_stands_beside_the_reference(done, world):
    record = json.loads((done / "pareto.json").read_text())
    lines = {line["point"]: line for line in record["points"]}
    assert list(lines) == ["random-4x3to1", "halton-2x2-dpm", "random-4x2-informed-null2-full2", "preset-fast"]
    assert (record["seeds"], record["images"]) == ([0, 7], IMAGES)
    body = load_body(world["body"])
    whole = flops.sampled(body.config, Settings(steps=16, denoise_steps=4, cfg_scale=4.0))
    few = flops.sampled(body.config, Settings(steps=4, denoise_steps="3:1", cfg_scale=4.0))
    assert lines["random-4x3to1"]["flops"] == pytest.approx(few / whole)
    assert all(0 < line["seconds"] < 1 for name, line in lines.items() if name != "preset-fast")
    gaps = [load(done / f"seed-{s}") for s in (0, 7)]
    mean = sum(r.figures["halton-2x2-dpm", "fd_minus_random"].value for r in gaps) / 2
    assert lines["halton-2x2-dpm"]["fd_minus_reference"] == pytest.approx(mean)
    for line in lines.values():
        assert line["ci"][0] < line["fd_minus_reference"] < line["ci"][1]
        assert line["matched"] == (line["ci"][0] <= 0)


def test_seeds_are_other_images(done):
    first, second = (load(done / f"seed-{s}").figures["random", "fd"].value for s in (0, 7))
    assert first != second


def test_run_again_it_samples_and_times_nothing(done, world, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("done already")

    before = (done / "pareto.json").read_text()
    monkeypatch.setattr(quality, "_timed", never)
    monkeypatch.setattr("orderhead.sampling.stream.in_threads", never)
    assert pareto(**world) == done
    assert (done / "pareto.json").read_text() == before


def test_seconds_of_another_body_are_measured_anew(done, world, monkeypatch):
    path = done / "seconds.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"what": kept["what"] | {"weights": "others"}}))
    names = ["random", "preset-fast", *(point.name(16) for point in FEW)]
    monkeypatch.setattr(quality, "_timed", lambda *args: {name: 2.0 if name == "random" else 1.0 for name in names})
    pareto(**world)
    assert {p["seconds"] for p in json.loads((done / "pareto.json").read_text())["points"]} == {0.5}
    assert json.loads(path.read_text())["what"] == kept["what"]


def test_the_table_says_how_much_cheaper_and_whether_matched():
    line = {"point": "a", "fd_minus_reference": 0.5, "ci": [0.1, 0.9], "matched": False, "flops": 0.25, "seconds": 0.2}
    better = line | {"point": "b", "ci": [-0.1, 0.9], "matched": True, "flops": 0.1}
    rows = [row for row in table([better, line], 5, 100).splitlines() if row.startswith(("| a", "| b"))]
    assert rows == [
        "| a | +0.50 | [0.10, 0.90] | no | 1/4.0 | 1/5.0 |",
        "| b | +0.50 | [-0.10, 0.90] | yes | 1/10.0 | 1/5.0 |",
    ]  # fmt: skip


def test_points_are_named_apart_and_cheaper_than_the_reference():
    names = [point.name(64) for point in POINTS]
    assert len(set(names)) == len(names)
    assert REFERENCE.name(64) not in names
    config = load_body("fashion").config
    settings = [point.settings(Settings(cfg_scale=4.0), 64, np.linspace(2, 1, 64)) for point in (REFERENCE, *POINTS)]
    costs = [flops.sampled(config, each) for each in settings]
    assert max(costs[1:]) < costs[0]


def test_the_page_draws_every_point(done):
    page = build(done).read_text(encoding="utf-8")
    chart = page.split('<section id="cost"')[1].split("</section>")[0]
    assert chart.count("<circle") == 2 + len(FEW)
    for line in json.loads((done / "pareto.json").read_text())["points"]:
        assert f"{line['point']}: FD minus the reference" in chart
        assert f"1/{1 / line['flops']:.1f}" in chart


@pytest.mark.parametrize("record", ['{"points": [{"point": "a"}]}', '{"points": 3}', "{}"])
def test_a_damaged_record_is_no_chart(record, tmp_path):
    (tmp_path / "pareto.json").write_text(record)
    assert cost.section(tmp_path) == ""
    assert cost.section(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(
    "wrong",
    [["--seeds", "3"], ["--images", "1"], ["--body", "nobody"], ["--size", "tiny"], ["--brief"], ["--steps", "8"],
     ["--denoise-steps", "10"], ["--batch", "2"], ["--dtype", "bfloat16"], ["--rounds", "1"]],
)  # fmt: skip
def test_what_cannot_be_measured_is_told_in_one_line(wrong, tmp_path, capsys):
    assert main(["bench", "--pareto", *wrong, "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_classes_there_are_no_informed_points(world, tmp_path):
    """A flat folder of real images was enough before, and is."""
    flat = {"real": str(pictures(tmp_path / "flat", 30)), "features": world["judging"]["features"]}
    done = pareto(tmp_path / "out", world["body"], IMAGES, (0, 7), flat)
    names = [line["point"] for line in json.loads((done / "pareto.json").read_text())["points"]]
    assert names == ["random-4x3to1", "halton-2x2-dpm", "preset-fast"]


def test_informed_points_stand_beside_their_twins_under_the_cosine_schedule(monkeypatch):
    """Student's t over seeds of the paired differences, -1 and -3: mean -2, half 12.706 (two seeds)."""
    points = (Point("random", 8, 10, "dpm"), Point("random", 8, 10, "dpm", informed=True))
    monkeypatch.setattr(quality, "POINTS", points)
    cosine, informed = (point.name(64) for point in points)
    found = _twins({cosine: [2.0, 5.0], informed: [1.0, 2.0], "halton-8x10-dpm": [0.0, 0.0]}, 64)
    assert found == [f"- {informed} minus {cosine}: -2.00 [-14.71, 10.71]", ""]

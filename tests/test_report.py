"""The page without a browser: what stands on it, what it does with gaps, damage and hostile text."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import report_fixture
from report_fixture import Words, line, numbers, small

from orderhead import console
from orderhead.cli import VERBS
from orderhead.core import results
from orderhead.report import answer, build, notes, table, verdicts
from orderhead.report.load import load
from orderhead.report.page import _equalized, command, render
from orderhead.studies.plan import Plan


def test_one_small_file_that_asks_nobody_for_anything(page: str) -> None:
    assert len(page.encode()) < 3_000_000
    for tag, attributes in Words(page).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:", "#")), (tag, link)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    first = build(folder).read_bytes()
    assert build(folder).read_bytes() == first
    assert not list(folder.glob(".report*"))


def test_the_table_is_sorted_and_each_row_has_a_verdict(folder: Path, page: str) -> None:
    rows = re.findall(r'<tr data-order="(\w+)".*?class="chip[^"]*">([^<]+)</span>', page, re.DOTALL)
    by_fd = sorted(zip(report_fixture.FD, report_fixture.ORDERS, strict=True))
    assert [order for order, _ in rows] == [order for _, order in by_fd]
    assert dict(rows) == {**verdicts.verdicts(load(folder)), "random": "baseline"}


def test_the_csv_holds_every_number(folder: Path, page: str) -> None:
    link = re.search(r'href="data:text/csv;charset=utf-8,([^"]+)"', page)
    assert link
    rows = list(csv.DictReader(io.StringIO(unquote(link[1]))))
    lines = results.read(folder / "results.jsonl")
    assert {(r["order"], r["metric"]): float(r["value"]) for r in rows if r["order"] in report_fixture.ORDERS} == {
        (r.row, r.metric): r.value for r in lines
    }
    assert len(rows) == len(lines) + 6  # and the real images


def test_lines_of_a_later_version_that_say_more_are_read(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "results.jsonl").read_text().splitlines()
    more = [json.dumps(json.loads(line) | {"device": "a new one"}) for line in lines]
    (tmp_path / "results.jsonl").write_text("\n".join(more))
    assert results.read(tmp_path / "results.jsonl") == results.read(folder / "results.jsonl")


def test_numbers_of_fewer_images_say_so(folder: Path, page: str, tmp_path: Path) -> None:
    assert notes.fewer_images(load(folder)) == "AUC and AUAC on the first 64"
    text = Words(page).text
    assert text.count("512 (AUC and AUAC on the first 64)") == 2  # under the table and in the protocol
    assert "Means over the first 64 images" in text
    assert re.search(r'data-key="auac"[^>]+n = 64 images', page)
    assert re.search(r'data-key="fd"[^>]+n = 512 images', page)
    assert notes.fewer_images(load(small(tmp_path, numbers((1, 2)), images=100))) == ""


def test_a_kernel_distance_below_zero_is_explained(tmp_path: Path, page: str) -> None:
    assert "KID lies below 0" not in page
    assert "no difference seen" not in page
    lines = [*numbers((1, 2)), line("a", "kid", -0.062, (-0.08, -0.04))]
    real = {"name": "real", "n": 9900, "real": {"kid": -0.0737}}
    below = render(load(small(tmp_path, lines, reference=real)), tmp_path)
    assert "KID lies below 0 because its estimator assumes independent draws" in below
    assert "as many real images score \N{MINUS SIGN}0.074" in below


def test_agreement_above_that_of_real_images_is_explained(tmp_path: Path) -> None:
    lines = [*numbers((1, 2)), line("a", "agreement", 0.94, (0.9, 0.98))]
    for real, explained in ((0.89, True), (0.94, False)):
        changes = {"reference": {"name": "real", "n": 9900, "real": {"agreement": real}}}
        found = notes.under_the_table(load(small(tmp_path / str(real), lines, **changes)))
        assert any("guidance makes images typical of their class" in note for note in found) == explained


def test_cards_say_nothing_twice(folder: Path, page: str, tmp_path: Path) -> None:
    """One map for an order without chance; the mean guidance once, unless orders with their own schedule differ."""
    fixed = [r.order for r in load(folder).rows if r.trace and (r.trace.order_NL == r.trace.order_NL[0]).all()]
    assert {"raster", "blockwise"} <= set(fixed) < set(report_fixture.ORDERS)
    assert page.count("the same in every image") == len(fixed)
    assert page.count("<figcaption>one image</figcaption>") == 10 - len(fixed)
    assert page.count("<dt>mean guidance</dt>") == 1  # in the legend
    assert page.count("Mean guidance is 1.83 under every order") == 1
    guidance = [line("random", "mean_guidance", 1.83), line("a", "mean_guidance", 2.4)]
    other = render(load(small(tmp_path, [*numbers((1, 2)), *guidance])), tmp_path)
    assert "Mean guidance is" not in other
    assert other.count("<dt>mean guidance</dt>") == 3


def test_wall_time_is_on_the_cards_and_not_compared(page: str) -> None:
    shown = page[page.index('id="table"') : page.index('id="gallery"')]
    assert "Cost" not in shown
    assert "seconds_per_image" in unquote(shown)  # in the CSV
    assert page.count("<dt>wall time per image</dt>") == 10
    assert "it varies with what else the machine did" in page


@pytest.mark.parametrize(("n", "warned"), [(5, True), (49, True), (50, False), (100, False)])
def test_few_images_are_warned_of_at_the_top(tmp_path: Path, n: int, warned: bool) -> None:
    lines = [dataclasses.replace(r, n=n) for r in numbers((1, 2))]
    page = render(load(small(tmp_path, lines, images=n)), tmp_path)
    assert (f"only {n} images an order" in page[: page.index("</header>")]) == warned


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&</style>"
    lines = [r for name in ("random", "raster") for r in report_fixture.lines(name)]
    report_fixture.make(
        tmp_path, measured=2, title=evil, body=evil, class_names=[evil] * 10, command=evil,
        protocol={"steps": 16, evil: evil}, reference={"name": evil, "n": 1, "real": {"fd": 1.0}},
    )  # fmt: skip
    run = json.loads((tmp_path / "run.json").read_text())
    run["orders"] += [evil]
    (tmp_path / "run.json").write_text(json.dumps(run))
    measured = results.Result("demo", evil, "fd", 5.0, (4.0, 6.0), 9, {}, commit=evil)
    results.append(tmp_path / "results.jsonl", [measured, line(evil, "seconds_per_image", 0.1)])
    page = build(tmp_path).read_text()
    words = Words(page)
    assert len(lines) > 20
    assert [t for t, _ in words.tags].count("script") == 2
    assert [t for t, _ in words.tags].count("style") == 1
    assert page.count("alert(1)") > 10
    assert "<script>alert" not in page


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    page = build(report_fixture.make(tmp_path, measured=3)).read_text()
    assert "3 of 10 orders measured so far; run the same command again to continue" in page
    assert "not measured yet: center_spiral, " in page
    assert page.count('<article class="card"') == 3


def test_an_order_counts_as_measured_when_its_last_line_is_there(tmp_path: Path) -> None:
    """A run that is killed while it appends leaves whole lines of an order without the last."""
    report_fixture.make(tmp_path, measured=2, files=False)
    half = report_fixture.lines("multiscale")[:7]
    assert "seconds_per_image" not in {r.metric for r in half}
    results.append(tmp_path / "results.jsonl", half)
    report = load(tmp_path)
    assert [r.order for r in report.measured] == ["random", "raster"]
    assert "2 of 10 orders measured so far" in report.notes[0]
    results.append(tmp_path / "results.jsonl", report_fixture.lines("multiscale"))
    assert len(load(tmp_path).measured) == 3


def test_numbers_alone_make_a_page(tmp_path: Path) -> None:
    page = build(report_fixture.make(tmp_path, files=False)).read_text()
    assert 'id="gallery"' not in page
    assert 'id="curves"' not in page
    assert page.count("No trace of this order.") == 10


@pytest.mark.parametrize("kind", ["traces", "panels", "curves"])
def test_a_damaged_file_is_left_out_with_a_note(tmp_path: Path, kind: str) -> None:
    path = report_fixture.make(tmp_path, measured=3) / kind / "raster.npz"
    for content in (path.read_bytes()[:200], b"", b"not a zip at all", _npz(wrong=np.zeros(3)), _pickled()):
        path.write_bytes(content)
        page = build(tmp_path).read_text()
        assert f"{kind}/raster.npz is damaged and was left out" in page
        assert page.count('<article class="card"') == 3
    assert not Path("owned").exists()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _pickled() -> bytes:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path("owned").touch, ()

    objects = np.array([Evil()], dtype=object)
    return _npz(**dict.fromkeys(("order", "counts", "images", "labels", "confidence", "correct", "mse"), objects))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", None, "no run.json"),
        ("run.json", "{", "is not JSON"),
        ("run.json", "[]", "should hold a JSON object"),
        ("run.json", "{}", "names no orders"),
        ("run.json", '{"orders": ["random"], "grid": [8]}', "grid should be"),
        ("run.json", '{"orders": ["random"], "grid": [8, 8], "protocol": 3}', "protocol should be a dict"),
        ("run.json", '{"orders": ["random"], "grid": [8, 8], "shown": [-1]}', "shown should hold"),
        ("results.jsonl", None, "no results.jsonl"),
        ("results.jsonl", "half a li", "holds no result"),
    ],
)
def test_bad_folders_get_one_line(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    report_fixture.make(tmp_path, measured=1, files=False)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_lines_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    report_fixture.make(tmp_path, measured=2, files=False)
    stray = results.Result("demo", "random", "fd", 1.0, (0.9, 1.1), 512, {"steps": 64, "seed": 0})
    other = results.Result("bench", "random", "fd", 2.0, None, 512, {})
    results.append(tmp_path / "results.jsonl", [stray, other])
    assert load(tmp_path).rows[0].numbers["fd"].value == report_fixture.FD[0]


def test_a_metric_named_with_its_size_is_the_same_metric(tmp_path: Path) -> None:
    lines = [
        line("random", "fd5k", 6.0, (5.0, 7.0), 5000),
        line("a", "fd5k", 5.0, (4.0, 6.0), 5000),
        line("a", "fd5k_minus_random", -1.0, (-1.5, -0.5), 5000),
        *(line(order, "seconds_per_image", 0.1) for order in ("random", "a")),
    ]
    report = load(small(tmp_path, lines))
    assert verdicts.verdicts(report) == {"a": "better"}
    assert "(n = 5000 images" in answer.text(answer.answer(report))


def test_a_fid_is_called_so(tmp_path: Path) -> None:
    lines = [
        results.Result("demo", "random", "fid5k", 6.0, (5.0, 7.0), 5000),
        results.Result("demo", "a", "fid5k", 5.0, (4.0, 6.0), 5000),
        results.Result("demo", "a", "fid5k_minus_random", -1.0, (-2.0, -0.5), 5000),
        *[results.Result("demo", order, "seconds_per_image", 1.0, None, 5000) for order in ("random", "a")],
    ]
    folder = small(tmp_path, lines)
    assert verdicts.verdicts(load(folder)) == {"a": "better"}
    words = Words(build(folder).read_text()).text
    assert "on Frechet Inception distance" in words
    assert "FID 5.00, \N{MINUS SIGN}1.00" in words
    assert "FID \N{MINUS SIGN} random" in words
    assert "Lowest FID: a, 5.00" in words
    assert "Orders by Frechet Inception distance, lowest first" in words


def test_without_a_classifier_the_page_has_the_other_curve(tmp_path: Path) -> None:
    """And says what was not measured; a line under the table, no note of damage."""
    folder = report_fixture.make(tmp_path, measured=2, orders=["random", "raster"], left_out=["AUC (nobody <looked>)"])
    for file in (folder / "curves").glob("*.npz"):
        np.savez(file, mse=np.load(file)["mse"])
    report, words = load(folder), Words(build(folder).read_text()).text
    assert report.notes == ()
    assert report.rows[0].curves
    assert report.rows[0].curves.confidence_NT is None
    assert "Not measured here: AUC (nobody <looked>)." in words
    assert "MSE to the final image" in words
    assert "Confidence in the true class" not in words
    assert "Top-1 accuracy" not in words
    assert "Under each name: cells revealed." in words


@pytest.mark.parametrize(("stand_ins", "said"), [(512, "as many real"), (100, "only 100 real"), (None, "as many real")])
def test_the_anchor_tells_how_many_images_it_is_of(stand_ins: int | None, said: str, tmp_path: Path) -> None:
    reference = report_fixture.run_json()["reference"]
    assert isinstance(reference, dict)
    folder = report_fixture.make(tmp_path, measured=2, files=False, reference=reference | {"stand_ins": stand_ins})
    assert f"{said} images, against the others" in Words(build(folder).read_text()).text


def test_settings_are_said_once_and_in_words(tmp_path: Path) -> None:
    protocol = {"body": "fashion", "images": 100, "steps": 16, "schedule": None, "x0_bound": None, "temperature": 1.0}
    report = load(small(tmp_path, numbers((1, 2)), images=100, protocol=protocol))
    assert table.settings(report) == [
        ("steps", "16"),
        ("schedule", "each order's own (cosine)"),
        ("x0 bound", "the body's own"),
        ("temperature", "1"),
    ]
    text = Words(render(report, tmp_path)).text
    assert text.count("each order's own (cosine)") == 2
    assert "schedule none" not in text
    given = dataclasses.replace(report, protocol={"schedule": "linear", "x0_bound": 3.5, "images": 7})
    assert table.settings(given) == [("schedule", "linear"), ("x0 bound", "3.5"), ("images", "7")]


def test_the_command_repeats_the_run(folder: Path, tmp_path: Path) -> None:
    report = load(folder)
    assert command(report, Path("out/demo")) == (
        f"orderhead demo --orders {','.join(report_fixture.ORDERS)} --images 512 --steps 16 --seed 0 --out out/demo"
    )
    compared = load(small(tmp_path, numbers((1, 2)), study="compare", body="my body"))
    words = command(compared, tmp_path)
    assert "--body 'my body'" in words
    assert "--cfg 3 --cfg-schedule linear" in words
    assert "--schedule cosine --solver dpm++2m" in words
    listed = dataclasses.replace(compared, protocol={"schedule": [1, 3, 60], "solver": None})
    assert "--schedule 1,3,60 --out" in command(listed, tmp_path)
    assert str(tmp_path.parent) not in words
    (tmp_path / "sources").mkdir()
    sources = {"real": "my images", "features": "inception", "weights": "w.pth"}
    judged = load(small(tmp_path / "sources", numbers((1, 2)), study="compare", given=sources))
    assert "--real 'my images' --features inception --weights w.pth --out" in command(judged, Path("out"))


def test_the_command_without_the_confound_runs_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    """A study's rows are no orders; heads that are trained already are lent."""
    (out := tmp_path / "variants").mkdir()
    study = Plan(out, only=("oracle_k8",), settings={"cfg_schedule": "linear", "seed": 3}).command("variants")
    for lent in (False, True):
        words = shlex.split(_equalized(dataclasses.replace(load(folder), command=study), out))
        given = console.parse(VERBS, "", words[1:]).keywords
        assert (given["name"], given["only"], given["seeds"]) == ("variants", "oracle_k8", "3")
        assert (given["cfg_schedule"], given["models"]) == ("equalized", "variants" if lent else "OUT")
        (out / "heads").mkdir(exist_ok=True)
    assert not _equalized(dataclasses.replace(load(folder), command="orderhead bench --pareto"), out)


def test_one_token_a_step_beside_sixteen_steps(tmp_path: Path) -> None:
    """Orders of one run may have different numbers of steps."""
    report_fixture.make(tmp_path, measured=2)
    for kind in ("traces", "panels", "curves"):
        path = tmp_path / kind / "raster.npz"
        with np.load(path) as file:
            arrays = {k: file[k] for k in file.files}
        for name, values in arrays.items():
            if name in ("images", "confidence", "correct", "mse"):
                arrays[name] = np.repeat(values, 4, axis=1)
        if kind == "traces":
            arrays["counts"] = np.ones(report_fixture.L, int)
        path.write_bytes(_npz(**arrays))
    page = build(tmp_path).read_text()
    data = re.search(r'id="data">(.*?)</script>', page)
    assert data
    steps = {o["name"]: (o["T"], len(o["counts"]), o["counts"][-1]) for o in json.loads(data[1])["orders"]}
    assert steps == {"random": (16, 16, 64), "raster": (64, 64, 64)}
    assert "At 16 steps (raster: 64) on the fashion body" in answer.text(answer.answer(load(tmp_path)))
    assert page.count(">64 steps<") == 2  # in the table and on the card
    assert ">16 steps<" not in page


def test_steps_are_those_of_the_files_and_else_those_asked_for(tmp_path: Path) -> None:
    """A schedule of explicit counts may have another number of steps than the setting says."""
    small(tmp_path, numbers((1, 2)), protocol={"steps": 4})
    assert answer.text(answer.answer(load(tmp_path))).startswith("At 4 steps on the fashion body")
    (tmp_path / "traces").mkdir()
    trace = _npz(order=report_fixture.order_NL("random"), counts=report_fixture.counts())
    (tmp_path / "traces" / "random.npz").write_bytes(trace)
    assert answer.text(answer.answer(load(tmp_path))).startswith("At 16 steps on the fashion body")
    small(tmp_path, [], orders=["random", "a"], protocol={})
    (tmp_path / "traces" / "random.npz").unlink()
    assert answer.text(answer.answer(load(tmp_path))).startswith("On the fashion body")


def test_big_colour_pictures_are_thinned_until_the_page_is_small(tmp_path: Path) -> None:
    report_fixture.make(tmp_path, measured=2)
    rng = np.random.default_rng(0)
    for name in report_fixture.ORDERS[:2]:
        images = rng.integers(0, 256, (8, 24, 160, 160, 3), dtype=np.uint8)
        (tmp_path / "panels" / f"{name}.npz").write_bytes(_npz(images=images, labels=np.arange(8)))
    page = build(tmp_path).read_text()
    assert len(page) < 3_000_000
    assert 'id="gallery"' in page


def test_the_report_reaches_no_torch(folder: Path) -> None:
    code = (
        "import sys; from orderhead.report import build; build(sys.argv[1]); "
        "heavy = {'torch', 'scipy', 'plotly', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_curves_are_means_over_images(folder: Path, page: str) -> None:
    """The polyline's last point turned back into a number equals the mean confidence at the end."""
    wide = page[page.index('id="curves"') :]
    frame = re.search(r'data-frame="([^"]+)"', wide)
    line = re.search(r'data-order="halton"\s+points="([^"]+)"', wide)
    assert frame
    assert line
    _, x1, y0, y1, top = map(float, frame[1].split())
    x, y = map(float, line[1].split()[-1].split(","))
    with np.load(folder / "curves" / "halton.npz") as file:
        assert (y - y0) / (y1 - y0) * top == pytest.approx(file["confidence"][:, -1].mean(), abs=5e-4)
    assert x == x1


def test_rendering_needs_no_folder(folder: Path) -> None:
    assert render(load(folder), Path("out")) == build(folder).read_text().replace("--out demo", "--out out")

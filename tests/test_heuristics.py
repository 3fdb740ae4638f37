"""Section 2 as a study: every order meets random under each setting, on other noise than its guidance is tuned on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from worlds import NAMES, pictures, tiny_body, tiny_classifier, tiny_judge

from orderhead import cli
from orderhead.body.load import load_body
from orderhead.core.results import Result, append
from orderhead.orders.spatial import SPATIAL
from orderhead.report.whole import contents, runs_in
from orderhead.sampling import stream
from orderhead.sampling.sample import run as sample
from orderhead.sampling.settings import Settings
from orderhead.studies import gaps
from orderhead.studies import heuristics as section2
from orderhead.studies.compare import BASELINE
from orderhead.studies.heuristics import ROWS, SETTINGS
from orderhead.studies.plan import SCALES, Plan, Scale
from orderhead.studies.rounds import baseline
from orderhead.training.ground import Ground

STEPS, CELLS, IMAGES = 4, 16, 12
ROWS_RUN = ("multiscale", "ar_random")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Two rows on a small untrained body, and few real images to be measured against."""
    home = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERHEAD_CACHE", str(home / "cache"))
        settings = {"steps": STEPS, "denoise_steps": 2, "cfg_scale": 2.0}
        patch.setitem(SCALES, "smoke", Scale("smoke", IMAGES, settings))
        patch.setattr("orderhead.studies.rows.CURVE_IMAGES", 2)
        judging = {"real": pictures(home / "real", 30, NAMES), "features": tiny_judge(home / "judge")}
        ground = Ground(body=str(tiny_body(home, 3)), classifier=str(tiny_classifier(home / "classifier")))
        yield Plan(home / "out", "smoke", ROWS_RUN, ground, judging={k: str(v) for k, v in judging.items()})


@pytest.fixture(scope="module")
def sampled() -> list[Settings]:
    """What was drawn and not lent, but for tuning, as the study ran."""
    return []


@pytest.fixture(scope="module")
def done(plan, sampled) -> Plan:
    """The study, run with two of its rows."""
    write = stream.write

    def counting(settings, body, n, folder, **told):
        if not list(folder.glob("*.npz")) and settings.seed == 0:
            sampled.append(section2.drawn(settings, CELLS))
        write(settings, body, n, folder, **told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "write", counting)
        assert section2.heuristics(plan) == plan.out
    return plan


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def _protocols(out: Path) -> dict[tuple[str, str], dict]:
    return {(r["protocol"]["setting"], r["row"]): r["protocol"] for r in _lines(out)}


def _steps(folder: Path, row: str) -> int:
    with np.load(folder / "traces" / f"{row}.npz") as trace:
        return len(trace["counts"])


def test_every_row_is_an_order_and_random_leads():
    assert set(ROWS) <= set(SPATIAL)
    assert ROWS[0] == BASELINE
    assert len(ROWS) == len(set(ROWS)) == 12


def test_every_setting_has_each_row_beside_random(done):
    found = gaps.differences(done.out)
    assert set(found) == {(setting, row) for setting in SETTINGS for row in ROWS_RUN}
    assert {r["study"] for r in _lines(done.out)} == {"heuristics"}
    for setting in SETTINGS:
        distance = {r["row"]: r["value"] for r in _lines(done.out / setting) if r["metric"] == "fd"}
        for row in ROWS_RUN:  # the second way: two distances, subtracted
            assert found[setting, row][0] == pytest.approx(distance[row] - distance[BASELINE], abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        ("document", {"random": STEPS, "multiscale": CELLS, "ar_random": CELLS}),
        ("linear", {"random": STEPS, "multiscale": STEPS, "ar_random": CELLS}),
        ("constant", {"random": STEPS, "multiscale": STEPS, "ar_random": CELLS}),
        ("equalized", {"random": STEPS, "multiscale": STEPS, "ar_random": CELLS}),
        ("tuned", {"random": STEPS, "multiscale": STEPS, "ar_random": CELLS}),
        ("one_by_one", {"random": CELLS, "multiscale": CELLS, "ar_random": CELLS}),
    ],
)
def test_each_setting_gives_each_order_its_steps(done, setting, steps):
    protocols = _protocols(done.out)
    for row, number in steps.items():
        assert _steps(done.out / setting, row) == protocols[setting, row]["steps"] == number
    guidance = setting if setting in ("constant", "equalized") else "linear"
    assert {protocols[setting, row]["cfg_schedule"] for row in steps} == {guidance}


def test_the_documents_scores_stand_beside_settings_that_are_its_own(done):
    told = {name: json.loads((done.out / name / "run.json").read_text())["told"] for name in (*SETTINGS, "tuning")}
    assert {name for name, tables in told.items() if tables} == {"document", "linear"}
    assert told["document"][0]["rows"]["edge_spiral"] == {"fd": 3.95, "is": 336.5}


def test_one_token_a_step_leaves_nothing_between_random_and_ar_random(done):
    assert gaps.differences(done.out)["one_by_one", "ar_random"] == (0.0, (0.0, 0.0))
    assert gaps.differences(done.out)["linear", "ar_random"][0] != 0


def test_guidance_is_tuned_on_noise_that_is_not_reported(done):
    reported, tried = _lines(done.out), _lines(done.out / "tuning")
    assert not {r["protocol"]["seed"] for r in reported} & {r["protocol"]["seed"] for r in tried}
    assert {r["protocol"]["images"] for r in tried} == {5}  # a quarter of 12 is too few to be measured
    assert {r["protocol"]["images"] for r in reported} == {IMAGES}
    shown = {_tokens(done.out / setting, row) for setting in SETTINGS for row in (BASELINE, *ROWS_RUN)}
    trials = [path.parent for path in (done.out / "tuning" / "samples").glob("*/*.npz")]
    assert len(trials) == 1 + len(section2.TUNING_SHARES) * 3
    assert not shown & {_tokens(done.out / "tuning", trial.name) for trial in trials}


def _tokens(folder: Path, row: str) -> bytes:
    """The first image, as bytes."""
    with np.load(folder / "samples" / row / "0000000.npz") as chunk:
        return chunk["tokens"][0].tobytes()


def test_the_scale_that_is_reported_had_the_least_distance(done):
    protocols, tried = _protocols(done.out), _lines(done.out / "tuning")
    for row in (BASELINE, *ROWS_RUN):
        arms = [r for r in tried if r["metric"] == "fd" and r["row"].startswith(f"{row}-cfg")]
        assert sorted(r["protocol"]["cfg_scale"] for r in arms) == [1.25, 1.5, 2.0, 2.5, 3.0]
        best = min(arms, key=lambda r: r["value"])
        assert protocols["tuned", row]["cfg_scale"] == best["protocol"]["cfg_scale"]
    assert {protocols["linear", row]["cfg_scale"] for row in (BASELINE, *ROWS_RUN)} == {2.0}


def test_images_that_are_lent_are_those_that_would_be_drawn(done):
    """Second way: the sampler, asked directly for what was copied from another setting."""
    body = load_body(done.ground.body)
    base = baseline(done, "heuristics", {}).settings
    index = torch.arange(IMAGES)
    for setting, row, own in [
        ("linear", "random", {}),
        ("one_by_one", "multiscale", {"steps": CELLS}),
        ("one_by_one", "random", {"steps": CELLS}),
    ]:
        settings = replace(base, order=row, **own)
        fresh = sample(settings, body, stream.labels_of(index, body.config.classes), index)
        lent, _ = stream.read(done.out / setting / "samples" / row, IMAGES, body.config.tokenizer)
        assert torch.equal(lent.tokens_BLC, fresh.tokens_BLC)


def test_the_very_same_settings_are_sampled_once(done, sampled):
    assert all(sampled.count(settings) == 1 for settings in sampled)
    assert len(sampled) < len(SETTINGS) * 3
    assert {settings.cfg_schedule for settings in sampled} == {"linear", "constant", "equalized"}


def test_a_study_that_is_done_is_passed_over(done, monkeypatch):
    kept = [path for path in done.out.rglob("*") if path.suffix in (".jsonl", ".npz", ".md")]
    before = {path: path.read_bytes() for path in kept}
    drawn = {path: path.stat().st_mtime_ns for path in kept if path.suffix == ".npz"}
    monkeypatch.setattr("orderhead.studies.compare.Jury", None)
    section2.heuristics(done)
    assert {path: path.read_bytes() for path in kept} == before
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn


def test_a_study_that_was_stopped_goes_on_with_more_rows(done, tmp_path, monkeypatch):
    out, execute = tmp_path / "out", section2.execute

    def stopping(run):
        if run.out.name == "tuned":
            raise KeyboardInterrupt
        return execute(run)

    monkeypatch.setattr(section2, "execute", stopping)
    with pytest.raises(KeyboardInterrupt):
        section2.heuristics(replace(done, out=out, only=ROWS_RUN[:1]))
    assert {setting for setting, _ in gaps.differences(out)} == {"document", "linear", "constant", "equalized"}
    monkeypatch.setattr(section2, "execute", execute)
    tuned = (out / "tuning" / "results.jsonl").read_bytes()
    section2.heuristics(replace(done, out=out))
    assert (out / "tuning" / "results.jsonl").read_bytes().startswith(tuned)
    assert gaps.differences(out) == gaps.differences(done.out)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"only": ("multiscal",)}, "unknown row 'multiscal'; did you mean 'multiscale'"),
        ({"only": ("quadtree",)}, "unknown row 'quadtree'"),
        ({"scale": "middle"}, "unknown scale"),
        ({"scale": "full", "ground": None}, "give --body, --classifier and --train-images"),
        ({"images": 3}, "at least 5 images a row, got 3"),
        ({"settings": {"cfg_schedule": "constant"}}, "leave out --cfg-schedule"),
        ({"models": Path("elsewhere")}, "leave out --models"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(changes, says, plan, tmp_path):
    with pytest.raises(ValueError, match=says):
        section2.heuristics(replace(plan, out=tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_same_folder_is_refused_and_left_alone(done, tmp_path):
    before = (done.out / "document" / "results.jsonl").read_bytes()
    with pytest.raises(ValueError, match="other settings"):
        section2.heuristics(replace(done, images=20))
    assert (done.out / "document" / "results.jsonl").read_bytes() == before


def test_the_command_writes_a_page_a_setting(done, monkeypatch, capsys):
    words = f"study heuristics --scale smoke --only {','.join(ROWS_RUN)} --out {done.out} --body {done.ground.body}"
    words += f" --classifier {done.ground.classifier} --real {done.judging['real']}"
    monkeypatch.setattr("orderhead.studies.compare.Jury", None)  # it goes on from what is there
    assert cli.main([*words.split(), "--features", done.judging["features"]]) == 0
    assert [path.name for path in runs_in(done.out)] == [*SETTINGS, "tuning"]
    assert contents(done.out).items() > {name: setting.says for name, setting in SETTINGS.items()}.items()
    page = (done.out / "report.html").read_text(encoding="utf-8")
    assert 'href="tuning/report.html"' in page
    assert "no result: every order at each scale that `tuned` chose from" in page
    assert all((part / "report.html").exists() for part in runs_in(done.out))
    assert str(done.out / "report.html") in capsys.readouterr().out
    assert runs_in(done.out / "linear") == [done.out / "linear"]


# The tables.


def _made(out: Path, values: dict[tuple[str, str], float], half: float = 0.5) -> Path:
    for (setting, row), value in values.items():
        protocol = {"setting": setting, "cfg_scale": 2.5}
        line = Result("heuristics", row, "fd1k_minus_random", value, (value - half, value + half), 1000, protocol)
        append(out / "results.jsonl", [line])
    return out


GAPS = {
    ("linear", "raster"): 3.0, ("linear", "edge_spiral"): 2.0, ("linear", "multiscale"): -1.0,
    ("constant", "raster"): 0.25, ("constant", "edge_spiral"): 1.0, ("constant", "multiscale"): -0.25,
}  # fmt: skip


def test_the_table_stands_gaps_beside_the_documents(tmp_path):
    found = gaps.read(_made(tmp_path, GAPS))
    says = {"linear": "equal steps", "constant": "flat", "tuned": "own scales"}
    lines = gaps.table(found, says, ROWS).splitlines()
    assert lines[2:7] == [
        "| order | linear | constant | document: FID-50K minus random's |",
        "| --- | --- | --- | --- |",
        "| multiscale | **-1.00** [-1.50, -0.50] | -0.25 [-0.75, 0.25] | -0.03 |",
        "| edge_spiral | **+2.00** [1.50, 2.50] | **+1.00** [0.50, 1.50] | +1.62 |",
        "| raster | **+3.00** [2.50, 3.50] | +0.25 [-0.25, 0.75] | none reported |",
    ]
    assert "| linear | 1.00 (4 orders) | 0.00 | 1.00 (3 orders) |" in lines
    assert "| constant | 0.80 (4 orders) | 1.50 | 1.00 (3 orders) |" in lines


def test_rank_correlation_is_that_of_ranks():
    """Second way: Pearson's of the ranks."""
    rng = np.random.default_rng(0)
    a, b = ({str(k): float(x) for k, x in enumerate(rng.standard_normal(9))} for _ in range(2))
    rho = np.corrcoef(rankdata(list(a.values())), rankdata(list(b.values())))[0, 1]
    assert gaps.correlation(a, b) == f"{rho:.2f} (9 orders)"
    assert gaps.correlation(a, dict(list(b.items())[:2])) == ""
    assert gaps.correlation(a, dict.fromkeys(a, 1.0)) == ""


def test_the_documents_gaps_are_its_own():
    document = {row: round(each.fid - gaps.DOCUMENT_RANDOM, 2) for row, each in gaps.DOCUMENT.items()}
    assert document == {
        "random": 0.0, "multiscale": -0.03, "ar_random": 0.08, "center_perturbed": 0.11, "center_spiral": 0.37,
        "edge_spiral": 1.62,
    }  # fmt: skip


def test_results_that_are_missing_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"no results\.jsonl"):
        gaps.differences(tmp_path)


def test_seeds_are_pooled_setting_by_setting(tmp_path):
    shift = {0: -0.5, 1: 0.0, 2: 0.5}
    runs = [
        _made(tmp_path / f"seed-{seed}", {cell: value + by for cell, value in GAPS.items()})
        for seed, by in shift.items()
    ]
    written = section2.pool(tmp_path, runs).read_text().splitlines()
    found = gaps.pool(runs).gaps
    assert {cell: value for cell, (value, _) in found.items()} == pytest.approx(GAPS)
    for value, (lo, hi) in found.values():  # nothing but the run moves them: its mean's t interval, at 2 degrees
        assert hi - value == pytest.approx(value - lo) == pytest.approx(4.302653 * 0.5 / 3**0.5, rel=1e-4)
    assert "| edge_spiral | **+2.00** [0.76, 3.24] | +1.00 [-0.24, 2.24] | +1.62 |" in written


def test_the_table_tells_randoms_own_distance_and_the_scales(done):
    own = {setting: next(r["value"] for r in _lines(done.out / setting) if r["metric"] == "fd") for setting in SETTINGS}
    scale = {row: _protocols(done.out)["tuned", row]["cfg_scale"] for row in (BASELINE, "multiscale", "ar_random")}
    written = (done.out / "table.md").read_text().splitlines()
    assert f"| random's own distance | {' | '.join(f'{own[s]:.2f}' for s in SETTINGS)} | 2.33 |" in written
    assert f"scales that `tuned` chose: {', '.join(f'{row} {x:g}' for row, x in scale.items())}." in "\n".join(written)

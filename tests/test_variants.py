"""Section 3 as a study: rows are trained, measured against random, and passed over when the study goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel
from worlds import fashion_body

from orderhead import cli
from orderhead.body.load import load_body
from orderhead.core.checkpoint import save_model
from orderhead.core.results import Result, append
from orderhead.studies import NAMES, POOLS, STUDIES, beside, seeds
from orderhead.studies import variants as section3
from orderhead.studies.plan import Plan
from orderhead.training import recipes
from orderhead.training.variants import VARIANTS


def _rows(out) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_a_study_goes_on_row_by_row(tmp_path, ground, monkeypatch):
    out = tmp_path / "out"
    section3.variants(Plan(out, "smoke", ("oracle_aligned",), ground))
    first = _rows(out)
    assert {r["row"] for r in first} == {"random", "oracle_aligned-fast", "oracle_aligned-semifast-8"}
    assert {"fd_minus_random", "auc_minus_random"} <= {r["metric"] for r in first if r["row"] != "random"}
    head = next(r["protocol"] for r in first if r["row"] == "oracle_aligned-fast")
    assert head["asked"] == "fast"
    assert len(head["head_weights"]) == 16
    trained, train = [], recipes.train
    monkeypatch.setattr(recipes, "train", lambda *a, **k: trained.append(a[4].name) or train(*a, **k))
    section3.variants(Plan(out, "smoke", ("oracle_aligned", "oracle_unfrozen", "v3_oracle_phase1b"), ground))
    later = _rows(out)
    assert later[: len(first)] == first
    assert trained == ["oracle_unfrozen", "v3_oracle_phase1b"], "a row that is done is passed over"
    assert {r["row"] for r in later[len(first) :]} == {
        "oracle_unfrozen-fast", "oracle_unfrozen-semifast-8", "v3_oracle_phase1b-slow"
    }  # fmt: skip
    unfrozen = next(r["protocol"] for r in later if r["row"] == "oracle_unfrozen-fast")
    assert unfrozen["own_weights"] != unfrozen["weights"]


def test_a_row_whose_head_has_changed_is_refused(tmp_path, ground):
    out = tmp_path / "out"
    section3.variants(Plan(out, "smoke", ("oracle_aligned",), ground))
    run = json.loads((out / "run.json").read_text())
    run["arms"]["oracle_aligned-fast"]["head_weights"] = "0" * 16
    (out / "run.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match="another head or body"):
        section3.variants(Plan(out, "smoke", ("oracle_aligned",), ground))


def test_a_run_may_be_moved(tmp_path, ground):
    section3.variants(Plan(tmp_path / "out", "smoke", ("oracle_aligned",), ground))
    (tmp_path / "out").rename(tmp_path / "moved")
    before = _rows(tmp_path / "moved")
    section3.variants(Plan(tmp_path / "moved", "smoke", ("oracle_aligned",), ground))
    assert _rows(tmp_path / "moved") == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"only": ("oracle_alignd",)}, "unknown row 'oracle_alignd'; did you mean 'oracle_aligned'"),
        ({"scale": "middle"}, "unknown scale"),
        ({"scale": "full"}, "give --body, --classifier and --train-images"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_trained(arguments, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        section3.variants(Plan(tmp_path, **{"scale": "smoke"} | arguments))
    assert not list(tmp_path.iterdir())


def test_every_study_that_is_listed_can_be_run():
    assert set(STUDIES) == set(NAMES)
    assert all(callable(run) for run in STUDIES.values())


@pytest.mark.parametrize("name", sorted(set(STUDIES) - set(POOLS)))
def test_several_seeds_of_what_is_not_pooled_are_refused_before_anything_runs(name, tmp_path, capsys):
    assert cli.main(["study", name, "--scale", "smoke", "--seeds", "0,1", "--out", str(tmp_path / "out")]) != 0
    assert "several --seeds are for heuristics and variants" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_told_beside_section_three_is_its_own():
    document = beside.reported()
    assert {arm for arm, value in document.items() if value is not None} == {
        f"{name}-{mode}" for name, row in VARIANTS.items() for mode in row.reported
    }
    assert document["scratch_cls_k-fast"] is document["finetune_oracle-fast"] is None  # FID-5K; another baseline
    assert "| scratch_cls_k | fast | +1.00 [0.00, 2.00] | no evidence | none reported |" in beside.table(
        {"scratch_cls_k-fast": (1.0, (0.0, 2.0))}
    )


def test_every_row_says_how_it_was_evaluated():
    assert all(set(row.reported) <= set(row.modes) for row in VARIANTS.values())


def _difference(arm: str, value: float, half: float) -> Result:
    return Result("variants", arm, "fd_minus_random", value, (value - half, value + half), 400)


def test_the_table_stands_our_figures_beside_the_documents(tmp_path):
    arms = {
        "oracle_aligned-fast": 1.0,
        "oracle_aligned-semifast-8": 0.5,
        "oracle_k32-fast": 3.0,
        "oracle_deep-fast": -2.0,
    }
    append(tmp_path / "results.jsonl", [_difference(arm, value, 0.9) for arm, value in arms.items()])
    found = beside.table(beside.differences(tmp_path)).splitlines()
    assert found[2:6] == [
        "| oracle_aligned | fast | +1.00 [0.10, 1.90] | worse | +1.10 |",
        "| oracle_aligned | semifast-8 | +0.50 [-0.40, 1.40] | no evidence | +0.86 |",
        "| oracle_k32 | fast | +3.00 [2.10, 3.90] | worse | +2.80 |",
        "| oracle_deep | fast | -2.00 [-2.90, -1.10] | better | none reported |",
    ]
    assert found[-1] == "Spearman's rank correlation of the two rankings over 3 arms: 1.00 (p = 0.00)."


def test_models_of_another_run_are_measured_under_other_guidance(tmp_path, ground):
    trained = Plan(tmp_path / "linear", "smoke", ("oracle_aligned",), ground)
    section3.variants(trained)
    again = replace(trained, out=tmp_path / "equal", models=trained.out, settings={"cfg_schedule": "equalized"})
    section3.variants(again)
    assert not (again.out / "heads").exists()
    linear, equal = ({(r["row"], r["metric"]): r for r in _rows(plan.out)} for plan in (trained, again))
    arm = ("oracle_aligned-fast", "fd")
    assert linear[arm]["protocol"]["head_weights"] == equal[arm]["protocol"]["head_weights"]
    assert linear[arm]["value"] != equal[arm]["value"]
    assert equal[arm]["protocol"]["cfg_schedule"] == "equalized"


def test_models_that_were_trained_otherwise_are_not_lent(tmp_path, ground):
    """On another body of the same sizes, from another seed, at another scale; what is lent is only read."""
    trained = Plan(tmp_path / "one", "smoke", ("oracle_aligned",), ground)
    section3.variants(trained)
    files = {path: path.stat().st_mtime_ns for path in (trained.out / "heads").rglob("*")}
    again = replace(trained, out=tmp_path / "two", models=trained.out)
    other = replace(ground, body=str(fashion_body(tmp_path / "other")))
    body = load_body(other.body)
    body.mask_token.data += 1
    save_model(body, Path(other.body))
    for says, plan in {
        "body_weights was": replace(again, ground=other),
        "seed was 0, not 1": again.seeded(1, alone=True),
        "images was": replace(again, scale="mini"),
    }.items():
        with pytest.raises(ValueError, match=f"oracle_aligned is of a run with other settings .*{says}.*no --models"):
            section3.variants(plan)
    assert not (tmp_path / "two/samples").exists()
    section3.variants(again)
    assert {path: path.stat().st_mtime_ns for path in (trained.out / "heads").rglob("*")} == files


def test_seeds_are_runs_of_their_own_from_training_on(tmp_path, ground):
    plan = Plan(tmp_path / "out", "smoke", ("oracle_aligned",), ground)
    one, two = (plan.seeded(seed, alone=False) for seed in (0, 1))
    for run in (one, two):
        section3.variants(run)
    weights = [next(r for r in _rows(run.out) if r["row"] == "oracle_aligned-fast")["protocol"] for run in (one, two)]
    assert weights[0]["head_weights"] != weights[1]["head_weights"]
    assert [w["seed"] for w in weights] == [0, 1]
    table = seeds.pool(plan.out, [one.out, two.out]).read_text()
    values = [beside.differences(run.out)["oracle_aligned-fast"][0] for run in (one, two)]
    assert f"| oracle_aligned | fast | {sum(values) / 2:+.2f} [" in table
    assert plan.seeded(3, alone=True).out == plan.out


@pytest.mark.parametrize("luck", [0.0, 0.3, 0.6])
def test_pooled_intervals_cover_what_they_should(luck):
    """Simulated rows of known means, with luck that moves all rows of a run: 95 % of the intervals hold them."""
    rng, hits, means = np.random.default_rng(0), 0, np.linspace(-1, 1, 12)
    for _ in range(600):
        runs = means[:, None] + 0.3 * rng.standard_normal((12, 3)) + luck * rng.standard_normal(3)
        found = seeds.pooled({str(k): row for k, row in enumerate(runs)})
        hits += sum(lo <= mean <= hi for mean, (_, (lo, hi)) in zip(means, found.values(), strict=True))
    assert 0.92 < hits / 7200 < 0.99


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 3}, "at least 5 images a row, got 3"),
        ({"models": Path("nowhere")}, "no trained oracle_aligned in now"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_written(changes, says, tmp_path, ground):
    with pytest.raises(ValueError, match=says):
        section3.variants(replace(Plan(tmp_path / "out", "smoke", ("oracle_aligned",), ground), **changes))
    assert not (tmp_path / "out").exists()


def test_rows_that_differ_by_chance_are_not_called_different():
    rng = np.random.default_rng(1)
    chance = {str(k): rng.standard_normal(3).tolist() for k in range(8)}
    apart = {name: [x + 5 * k for x in runs] for k, (name, runs) in enumerate(chance.items())}
    assert "no evidence that rows differ" in seeds.between(chance)
    assert ", they differ; " in seeds.between(apart)
    assert seeds.between(apart).endswith("ranking from run to run 1.00, 1.00, 1.00.")
    moved = {name: [x + 100 * k for k, x in enumerate(runs)] for name, runs in chance.items()}
    said = [seeds.between(values).partition("rows against")[2].partition("; ")[0] for values in (chance, moved)]
    assert said[0] == said[1]  # what moves all rows of a run is no difference between rows


def test_two_runs_are_judged_as_by_paired_differences():
    """Second source: with a third row half-way between two, F is the square of their paired t."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(6), rng.standard_normal(6) + 1
    third = (a + b) / 2
    found = seeds.between({"a": a.tolist(), "b": b.tolist(), "c": third.tolist()})
    table = np.array([a, b, third])
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    F = 6 * table.mean(1).var(ddof=1) / ((rest**2).sum() / 10)
    assert f"F = {F:.1f}" in found
    assert pytest.approx(ttest_rel(a, b).statistic ** 2) == F

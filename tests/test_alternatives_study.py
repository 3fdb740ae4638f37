"""Section 5 as a study. Second source: the document's table."""

import json
import sys

import pytest
from test_head import _head

import orderhead
from orderhead.core.checkpoint import save_model
from orderhead.core.results import Result
from orderhead.data.latents import fingerprint
from orderhead.studies import alternatives as section5
from orderhead.studies.plan import Plan
from orderhead.training.alternatives import ALTERNATIVES, REPORTED
from orderhead.training.recipes import run_recipe
from orderhead.training.variants import HEAD_RECIPES


def test_the_rows_are_the_documents():
    assert [(row, *document.values()) for row, document in REPORTED.items()] == [
        ("random", 8.02, 155.98, 0.3057, 1.223), ("entropy_based", 8.46, 150.01, 0.3050, 1.241),
        ("class_conditional", 8.47, 147.05, 0.3043, 1.242), ("reconstruction_based", 8.52, 149.26, 0.3042, 1.246),
        ("knowledge_distillation", 8.62, 149.72, 0.3048, 1.240),
        ("nonaligned_oracle_10ep", 9.13, 136.27, 0.3027, 1.255), ("lora_finetuning", 10.04, 134.35, 0.2995, 1.279),
    ]  # fmt: skip
    assert set(ALTERNATIVES) | {"random", "nonaligned_oracle_10ep"} == set(REPORTED)
    assert all(HEAD_RECIPES[name] is row for name, row in ALTERNATIVES.items())
    assert all(set(document) == set(section5.COLUMNS) for document in REPORTED.values())


def _lines(out) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_the_study_trains_a_teacher_before_its_student_and_goes_on(tmp_path, ground):
    out = tmp_path / "out"
    section5.alternatives(Plan(out, "smoke", ("knowledge_distillation",), ground))
    first = _lines(out)
    assert list(dict.fromkeys(r["row"] for r in first)) == ["random", "knowledge_distillation-fast"]
    assert {p.name for p in (out / "heads").iterdir()} == {"nonaligned_oracle_10ep", "knowledge_distillation"}
    assert {"fd_minus_random", "is_minus_random", "mmd_rbf_minus_random"} <= {r["metric"] for r in first}
    out = out.rename(tmp_path / "moved")  # nor does it matter where the teacher lies
    section5.alternatives(Plan(out, "smoke", ("knowledge_distillation", "lora_finetuning"), ground))
    later = _lines(out)
    assert later[: len(first)] == first
    assert {r["row"] for r in later[len(first) :]} == {"lora_finetuning-fast", "lora_finetuning-semifast-8"}
    lora = next(r["protocol"] for r in later if r["row"] == "lora_finetuning-fast")
    assert lora["own_weights"] != lora["weights"]
    run = json.loads((out / "run.json").read_text())
    assert run["reported"] == {}
    assert run["told"][0]["rows"]["lora_finetuning-semifast-8"] == {"fd": 10.04, "is": 134.35}
    table = (out / "table.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in table[2:5]] == [
        ["| knowledge_distillation", "fast"], ["| lora_finetuning", "fast"], ["| lora_finetuning", "semifast-8"]
    ]  # fmt: skip
    assert table[2].endswith("| +0.60 | -6.26 | -0.09 | +0.0170 |")
    assert table[-1] == "Too few rows (2) to compare rankings."


def test_a_teacher_that_changes_makes_another_student(tmp_path, ground):
    few, out = {"images": "16", "batch": "4", "oracle_images": "4"}, tmp_path / "student"
    for seed in ("0", "1"):
        run_recipe("nonaligned_oracle_10ep", "smoke", tmp_path / seed, {"images": "8", "seed": seed}, ground)
    run_recipe("knowledge_distillation", "smoke", out, few | {"teacher": str(tmp_path / "0")}, ground)
    before = fingerprint(orderhead.load_head(str(out)))
    run_recipe("knowledge_distillation", "smoke", out, few | {"teacher": str(tmp_path / "0")}, ground)
    assert fingerprint(orderhead.load_head(str(out))) == before
    with pytest.raises(ValueError, match="other settings"):
        run_recipe("knowledge_distillation", "smoke", out, few | {"teacher": str(tmp_path / "1")}, ground)


def test_models_of_which_nobody_says_how_they_were_trained_are_not_lent(tmp_path, ground):
    models = tmp_path / "models"
    save_model(_head(), models / "heads" / "knowledge_distillation")
    with pytest.raises(ValueError, match="no trained knowledge_distillation in"):
        section5.alternatives(Plan(tmp_path / "out", "smoke", ("knowledge_distillation",), ground, models=models))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"only": ("entropy",)}, "unknown row 'entropy'; did you mean 'entropy_based'"),
        ({"scale": "full"}, "give --body, --classifier and --train-images"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_trained(arguments, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        section5.alternatives(Plan(tmp_path, **{"scale": "smoke"} | arguments))
    assert not list(tmp_path.iterdir())


def _difference(arm: str, metric: str, value: float, half: float) -> Result:
    return Result("alternatives", arm, f"{metric}_minus_random", value, (value - half, value + half), 400)


def test_the_table_stands_our_figures_beside_the_documents():
    found = [
        _difference("lora_finetuning-fast", "fd5k", 2.0, 0.5),
        _difference("lora_finetuning-fast", "mmd_rbf", 0.02, 0.01),
        _difference("entropy_based-fast", "fd5k", 1.0, 0.5), _difference("entropy_based-semifast-8", "fd5k", 0.5, 0.5),
        _difference("future_gain-fast", "fd5k", -0.5, 0.25), _difference("entropy_based-fast", "recall", 0.1, 0.1),
        Result("alternatives", "entropy_based-fast", "fd5k", 9.0, (8.0, 10.0), 400),
    ]  # fmt: skip
    assert section5.table(found).splitlines() == [
        "| row | rescoring | fd5k (ours) | mmd_rbf (ours) | document: FID-5K | document: IS-5K "
        "| document: CLIP score | document: CMMD |",
        "|---|---|---|---|---|---|---|---|",
        "| entropy_based | fast | +1.00 [+0.50, +1.50] |  | +0.44 | -5.97 | -0.07 | +0.0180 |",
        "| entropy_based | semifast-8 | +0.50 [+0.00, +1.00] |  | +0.44 | -5.97 | -0.07 | +0.0180 |",
        "| lora_finetuning | fast | +2.00 [+1.50, +2.50] | +0.0200 [+0.0100, +0.0300] | +2.02 | -21.63 | -0.62 "
        "| +0.0560 |",
        "| future_gain | fast | -0.50 [-0.75, -0.25] |  |  |  |  |  |",
        "",
        "All figures are differences to random order; the document's are of MAR-B, and do not say which rescoring.",
        "",
        "Too few rows (2) to compare rankings.",
    ]  # fmt: skip


def test_a_value_of_the_document_counts_once_in_the_rankings():
    """Second source: Spearman's of the means over modes, by hand: ours rank 1, 3, 2 beside its 1, 2, 3."""
    values = {
        "entropy_based-fast": 3.0, "entropy_based-semifast-8": -1.0, "class_conditional-fast": 2.0,
        "class_conditional-semifast-8": 3.0, "lora_finetuning-fast": 2.0, "lora_finetuning-semifast-8": 2.0,
    }  # fmt: skip
    found = [_difference(arm, "fd5k", value, 0.5) for arm, value in values.items()]
    said = section5.agreement(section5.differences(found))
    assert said.startswith("Spearman's rank correlation of the two rankings over 3 rows: 0.50 (p = ")


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ((), r"pip install 'orderhead\[lora\]'"),
        (("entropy_based", "lora_finetuning"), r"pip install 'orderhead\[lora\]'"),
        (("entropy_based",), "went on"),
    ],
)
def test_a_missing_peft_is_told_before_anything_is_trained(only, says, tmp_path, monkeypatch):
    def went_on(*_):
        raise ValueError("went on")

    monkeypatch.setitem(sys.modules, "peft", None)  # importing it fails
    monkeypatch.setattr(section5, "baseline", went_on)
    with pytest.raises(ValueError, match=says):
        section5.alternatives(Plan(tmp_path / "out", "smoke", only))

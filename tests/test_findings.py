"""Claims as functions of results, the whole study, and its page."""

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from orderhead.core.results import Result, append, plain
from orderhead.report import build
from orderhead.report.whole import runs_in
from orderhead.studies import OWN, SECTIONS, STUDIES, everything, evidence, findings
from orderhead.studies.evidence import Book
from orderhead.studies.plan import Plan
from orderhead.studies.told import Told
from orderhead.training.variants import VARIANTS


def _line(section: str, row: str, metric: str, value: float, half: float = 0.1, **protocol) -> Result:
    return Result(section, row, metric, value, (value - half, value + half), 400, protocol)


def _book(tmp_path: Path, *lines: Result) -> Book:
    for line in lines:
        append(tmp_path / line.study / "results.jsonl", [line])
    return Book(tmp_path)


@pytest.mark.parametrize(("value", "verdict"), [(0.5, "holds"), (-0.5, "fails"), (0.05, "undecided")])
def test_a_sign_is_told_from_the_interval(value, verdict, tmp_path):
    book = _book(tmp_path, _line("s", "a", "fd400_minus_random", value), _line("s", "b", "fd400_minus_random", 1.0))
    assert evidence.positive("s", "fd_minus_random", "a", "b")(book).verdict == verdict
    with_a_gap = evidence.positive("s", "fd_minus_random", "a", "missing")(book).verdict
    assert with_a_gap == ("fails" if value < 0 else "undecided")


@pytest.mark.parametrize(
    ("a", "half", "verdict"),
    [(1.0, 0.1, "holds"), (0.1, 0.1, "undecided"), (-1.0, 0.1, "fails"), (1.0, 0.9, "undecided")],
)
def test_two_rows_are_compared_as_if_independent(a, half, verdict, tmp_path):
    book = _book(tmp_path, _line("s", "a", "auc", a, half), _line("s", "b", "auc", 0.0, 0.6))
    assert evidence.larger("s", "auc", "a", "b")(book).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(-0.5, "holds"), (0.0, "holds"), (0.1, "undecided"), (0.5, "fails")])
def test_no_worse_than_a_margin_is_one_sided(value, verdict, tmp_path):
    book = _book(tmp_path, _line("s", "a", "fd400_minus_random", value))
    assert evidence.not_above("s", "fd_minus_random", "a", evidence.fixed(0.15))(book).verdict == verdict
    opposite = {"holds": "fails", "fails": "holds"}.get(verdict, verdict)
    assert evidence.above("s", "fd_minus_random", "a", evidence.fixed(0.15))(book).verdict == opposite


@pytest.mark.parametrize(("value", "verdict"), [(0.0, "holds"), (0.1, "undecided"), (0.5, "fails"), (-0.5, "fails")])
def test_equal_within_a_margin_is_more_than_no_difference(value, verdict, tmp_path):
    book = _book(tmp_path, _line("s", "a", "fd400_minus_random", value))
    assert evidence.within("s", "fd_minus_random", "a", evidence.fixed(0.15))(book).verdict == verdict


def test_a_margin_may_be_a_part_of_another_figure(tmp_path):
    book = _book(tmp_path, _line("s", "a", "fd400_minus_random", 0.1, 0.05), _line("s", "random", "fd400", 1.0))
    judge = evidence.within("s", "fd_minus_random", "a", evidence.share(0.2, "s", "random", "fd"))
    assert judge(book).verdict == "holds"
    of_nobody = evidence.share(0.2, "s", "b", "fd")
    assert evidence.within("s", "fd_minus_random", "a", of_nobody)(book).verdict == "undecided"


def test_the_best_of_many_must_win_by_more(tmp_path):
    """An interval that excludes 0 by a hair is no victory where it is the best of twenty."""
    lines = [_line("s", f"r{k}", "fd400_minus_random", 0.3) for k in range(19)]
    best = _line("s", "lucky", "fd400_minus_random", -0.11)
    rows = ["lucky", *(f"r{k}" for k in range(19))]

    def judged(folder: str, found: list[Result], expected: list[str]) -> str:
        return evidence.none_below("s", "fd_minus_random", expected)(_book(tmp_path / folder, *found)).verdict

    assert judged("one", lines[:1], ["r0"]) == "holds"
    assert judged("missing", lines[:1], ["r0", "r1"]) == "undecided"
    assert judged("alone", [best], rows) == "fails"
    assert judged("many", [best, *lines], rows) == "undecided"
    assert judged("others", [best, *lines], rows[1:]) == "holds"
    assert judged("none", [], rows) == "undecided"


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ([(1.0, 0.8), (1.5, 3.5)], "undecided"),  # the second may well win
        ([(-3.0, 7.0), (-2.0, 0.5)], "fails"),  # the second wins, though another looks better
        ([(1.0, 0.8), (1.5, 1.4)], "holds"),
    ],
)
def test_all_lose_only_where_each_does_and_any_may_win(tmp_path, figures, verdict):
    lines = [_line("s", f"r{k}", "fd400_minus_random", value, half) for k, (value, half) in enumerate(figures)]
    judge = evidence.none_below("s", "fd_minus_random", ["r0", "r1"])
    assert judge(_book(tmp_path, *lines)).verdict == verdict


def test_epochs_rise_explode_or_stay(tmp_path):
    lines = [_line("s", "a", "fd64", 1.0 + k, epoch=k) for k in range(6)]
    lines += [_line("s", "a", "score_std", 1.0 + k, epoch=k) for k in range(6)]
    book = _book(tmp_path, *lines, _line("s", "a", "fd400", 99.0))
    assert evidence.rising("s", "fd", "a")(book).verdict == "holds"
    assert evidence.ratio("s", "score_std", "a", 2, 10)(book).verdict == "holds"
    assert evidence.ratio("s", "score_std", "a", 0.5, 2)(book).verdict == "fails"
    assert evidence.rising("s", "fd", "b")(book).verdict == "undecided"
    assert evidence.last("s", "score_std", "a", 6.0)(book).verdict == "holds"
    assert evidence.last("s", "score_std", "a", 0.5)(book).verdict == "fails"
    assert book.figure("s", "a", "fd") == evidence.Figure(99.0, (98.9, 99.1))  # an epoch's is not the row's


def test_rankings_against_each_other(tmp_path):
    lines = [_line("s", str(k), "auac", float(k)) for k in range(8)]
    falling = [_line("s", str(k), "fd400", 10.0 - k) for k in range(8)]
    book = _book(tmp_path, *lines, *falling)
    assert evidence.together("s", "auac", "fd")(book).verdict == "fails"
    assert evidence.together("s", "auac", "auac")(book).verdict == "holds"


def test_highest_is_above_each(tmp_path):
    book = _book(tmp_path, _line("s", "a", "auc", 3.0), _line("s", "b", "auc", 1.0), _line("s", "c", "auc", 4.0))
    assert evidence.highest("s", "auc", "a", ("b",))(book).verdict == "holds"
    assert evidence.highest("s", "auc", "a", ("b", "c"))(book).verdict == "fails"


def test_nothing_measured_decides_nothing(tmp_path):
    found = findings.findings(tmp_path)
    assert len(found) == len(findings.CLAIMS) > 25
    assert {(finding.verdict, finding.numbers) for _, finding in found} == {("undecided", "not measured")}


def test_every_claim_is_of_a_section_that_can_be_run(tmp_path):
    """A claim about a misspelt section would stay undecided for ever."""
    asked = set()

    class Spy(Book):
        def _page(self, section):
            asked.add(section)
            return {}

    for claim in findings.CLAIMS:
        claim.judge(Spy(tmp_path))
    assert {section.split("/")[0] for section in asked} == {"heuristics", "variants", "ablations", "alternatives",
                                                            "finetuning", "scratch", "mismatch"}  # fmt: skip
    assert {section.split("/")[0] for section in asked} <= set(SECTIONS)


def test_metrics_are_found_whatever_their_number_of_images():
    names = {"fd400": "fd", "fid50k_minus_random": "fd_minus_random", "gap_fid5k": "gap_fd", "is5k": "is",
             "fd": "fd", "auc_minus_random": "auc_minus_random", "bits_mismatch": "bits_mismatch"}  # fmt: skip
    assert {name: plain(name) for name in names} == names


def test_a_table_of_the_document_stands_beside_ours(tmp_path):
    append(tmp_path / "results.jsonl", [_line("s", "fast", "spearman", 0.25)])
    table = Told("Title", "Reads.", {"spearman": "rho"}, {"fast": {"spearman": 0.267}, "slow": {}})
    assert table.markdown(tmp_path).splitlines()[4:] == [
        "|  | rho: ours | document |", "| --- | --- | --- |", "| fast | 0.25 [0.15, 0.35] | 0.267 |", "| slow |  |  |",
    ]  # fmt: skip


@pytest.fixture
def whole(tmp_path, folder) -> Path:
    """A study of two parts, one of them with parts of its own, all of which are the fixture's run."""
    for name in ("variants", "heuristics/linear", "heuristics/constant"):
        (tmp_path / name).mkdir(parents=True)
        for part in ("run.json", "results.jsonl"):
            (tmp_path / name / part).write_bytes((folder / part).read_bytes())
    (tmp_path / "heuristics" / "results.jsonl").write_text("")
    (tmp_path / "contents.json").write_text(json.dumps({"heuristics": "section 2", "variants": "section 3"}))
    (tmp_path / "heuristics" / "contents.json").write_text(json.dumps({"constant": "constant guidance", "linear": ""}))
    findings.write(tmp_path)
    return tmp_path


def test_the_whole_page_has_claims_and_every_part(whole):
    page = build(whole).read_text(encoding="utf-8")
    assert [run.relative_to(whole).as_posix() for run in runs_in(whole)] == [
        "heuristics/constant", "heuristics/linear", "variants"
    ]  # fmt: skip
    assert all((run / "report.html").exists() for run in runs_in(whole))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for claim in findings.CLAIMS:
        assert claim.says.split(":")[0].replace("'", "&#x27;") in page
    for name in ("heuristics/linear", "heuristics/constant", "variants"):
        assert f'href="{name}/report.html"' in page
    assert '<p class="aside">section 2; constant guidance</p>' in page


def test_orders_stand_beside_themselves_under_every_setting(whole):
    """A grid for the settings of one study, with its numbers as a file; parts of several studies have none."""
    path = whole / "heuristics" / "constant" / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    mine = next(r for r in lines if r["row"] == "raster" and r["metric"].startswith("fd") and "minus" in r["metric"])
    mine |= {"value": 7.25, "ci": [6.5, 8.0]}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = build(whole).read_text(encoding="utf-8")
    grid = page.split('<section id="heuristics"')[1].split("</section>")[0]
    assert "heuristics: the same orders, setting by setting" in grid
    assert "raster, constant: +7.25 [6.50, 8.00]" in grid
    assert grid.count("<tr>") == 1 + 9  # every order but random
    assert '<section id="variants" class="part"' in page
    assert page.count("the same orders, setting by setting</h2>") == 1
    table = unquote(grid.split('href="data:text/csv;charset=utf-8,')[1].split('"')[0]).splitlines()
    assert table[0] == "order,setting,fd_minus_random,lo,hi,images"
    assert sum(line.startswith("raster,constant,7.25,6.5,8.0,") for line in table) == 1
    path.write_text("")
    damaged = build(whole).read_text(encoding="utf-8")
    assert "heuristics/constant: " in damaged
    assert "the same orders, setting by setting</h2>" not in damaged


def test_a_part_without_results_is_told(whole):
    (whole / "variants" / "results.jsonl").write_text("")
    assert "variants: " in build(whole).read_text(encoding="utf-8")


def test_damaged_claims_are_left_out(whole):
    (whole / "findings.json").write_text('{"claims": [{"says": 3}, "x"]}')
    assert "Orders that lose to random: " in build(whole).read_text(encoding="utf-8")


# The whole study.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scale": "midi"}, "unknown scale"),
        ({"only": ("variant",)}, "did you mean 'variants'"),
        ({"models": Path("elsewhere")}, "leave out --models"),
        ({"settings": {"cfg_schedule": "constant"}}, "leave out --models and --cfg-schedule"),
        ({"images": 20_000}, "this needs 40000 real images"),
    ],
)
def test_what_would_stop_a_section_later_is_told_first(changes, says, tmp_path, monkeypatch):
    monkeypatch.setattr(everything, "MOST", 20_000)
    plan = replace(Plan(tmp_path / "out", "smoke"), **changes)
    for ask in (everything.everything, everything.costs):
        with pytest.raises(ValueError, match=says):
            ask(plan)
    assert not (tmp_path / "out").exists()


def test_every_section_has_a_cost():
    assert everything.COSTS.keys() == SECTIONS.keys() == STUDIES.keys() - {"all", *OWN}
    for name in SECTIONS:
        rows = list(everything.COSTS[name](name, "smoke", 10))
        assert rows
        assert all(cost.section == name and cost.sampled >= 0 <= cost.trained for cost in rows)
        assert len({cost.row for cost in rows}) == len(rows)


def test_costs_are_minutes_of_a_pilot(tmp_path, monkeypatch):
    """Second source: what one section samples is what its folder holds afterwards."""
    monkeypatch.setattr(everything, "_seconds_an_image", lambda plan: 6.0)
    found = everything.costs(Plan(tmp_path, "smoke", ("variants",)))
    assert sum(cost.sampled for cost in found) == 10 * len([1 for row in VARIANTS.values() for _ in row.modes])
    first = found[0]
    assert first.minutes == round(6.0 * (first.sampled + 0.1 * first.trained) / 60, 1)
    assert everything.listing(found)[-1]["minutes"] == pytest.approx(sum(cost.minutes for cost in found))


def test_costs_hold_what_oracles_and_likelihoods_take(tmp_path, monkeypatch):
    """Second source: of what each row asks, its recipe; each answer takes its ratio to a sampled image."""
    monkeypatch.setattr(everything, "_seconds_an_image", lambda plan: 6.0)
    found = {(c.section, c.row): c for c in everything.costs(Plan(tmp_path, "mini", tuple(COSTLY)))}
    assert {row: found[section, row].asked for section, rows in COSTLY.items() for row in rows} == {
        row: asked for rows in COSTLY.values() for row, asked in rows.items()
    }
    row = found["alternatives", "entropy_based"]
    assert row.minutes == round(6.0 * (800 + 260 + 0.1 * 3200) / 60, 1)
    assert [c.section for c in found.values() if c.row == everything.HEAD and c.trained] == ["ablations"]


BITS_IMAGE = sum(everything.LIKELIHOOD)
COSTLY = {
    "ablations": {everything.HEAD: 0, everything.FIXED: round(3200 * 0.06), "random": 0,
                  "oracle_marginal": round(400 * everything.IMPORTANCE)},
    "alternatives": {"entropy_based": 260, "reconstruction_based": 480, "knowledge_distillation": 280,
                     "lora_finetuning": 0},
    "mismatch": {"raster": 2 * round(128 * BITS_IMAGE), "learned_fast": round(128 * BITS_IMAGE)},
}  # fmt: skip


def test_the_head_that_sections_share_is_trained_once(tmp_path):
    head = tmp_path / "variants" / "heads" / everything.HEAD
    head.mkdir(parents=True)
    (head / "model.safetensors").write_bytes(b"weights")
    everything._lend(tmp_path, "ablations")
    everything._lend(tmp_path, "scratch")
    assert (tmp_path / "ablations" / "heads" / everything.HEAD / "model.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "scratch").exists()


def test_the_study_runs_its_sections_and_judges_the_claims(tmp_path, monkeypatch):
    ran = []

    def section(plan: Plan) -> Path:
        ran.append(plan.out.name)
        append(plan.out / "results.jsonl", [_line(plan.out.name, "multiscale", "fd10_minus_random", 0.5)])
        return plan.out

    monkeypatch.setattr(everything, "STUDIES", dict.fromkeys(SECTIONS, section))
    monkeypatch.setattr(everything, "check", lambda plan: None)
    everything.everything(Plan(tmp_path, "smoke", ("variants", "mismatch")))
    assert ran == ["variants", "mismatch"]
    assert "| **undecided** |" in (tmp_path / "findings.md").read_text()
    assert list(json.loads((tmp_path / "contents.json").read_text())) == list(SECTIONS)


def test_all_is_a_study_that_tells_its_cost_before_and_its_claims_after(tmp_path, monkeypatch, capsys):
    said = []

    def section(plan: Plan) -> Path:
        said.append(capsys.readouterr().out)
        return plan.out

    monkeypatch.setattr(everything, "STUDIES", dict.fromkeys(SECTIONS, section))
    monkeypatch.setattr(everything, "costs", lambda plan: [everything.Cost("variants", "random", 10, 20, 3, 1.5)])
    assert STUDIES["all"](Plan(tmp_path, "smoke", ("variants",))) == tmp_path
    assert [line.split() for line in said[0].splitlines()] == [
        ["section", "row", "trained", "sampled", "asked", "minutes"],
        ["variants", "random", "10", "20", "3", "1.50"], ["all", "10", "20", "3", "1.50"],
    ]  # fmt: skip
    assert "| **undecided** |" in capsys.readouterr().out

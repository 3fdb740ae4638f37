"""What the page claims: its sentences, verdicts on all orders together, how much the run could see."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import report_fixture
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import Words, numbers, small

from orderhead.report import answer, power, verdicts, words
from orderhead.report.load import Number, load
from orderhead.report.page import render


def test_the_page_opens_with_the_answer(folder: Path, page: str) -> None:
    said = answer.text(answer.answer(load(folder)))
    assert said == (
        "At 16 steps on the fashion body, 2 of 9 orders beat random on Frechet distance, 5 lose to it, "
        "2 show no evidence either way (n = 512 images, 95 % certainty for all 9 together)."
    )
    assert Words(page[page.index("<body>") :]).text.index(said) < 100
    assert "taken alone, halton would differ from random." in page
    assert "Lowest FD: checkerboard, 6.09 (" in page
    assert "highest: edge_spiral, 9.87 (" in page
    assert "2 of 9 orders are indistinguishable from random here" in page


@pytest.mark.parametrize(
    ("cis", "words"),
    [
        ([(-2, -1)], "1 of 1 order beats random on Frechet distance, none loses to it ("),
        ([(1, 2), (1, 2)], "none of 2 orders beats random on Frechet distance, 2 lose to it ("),
        ([(-1, 1), (1, 2)], "none of 2 orders beats random on Frechet distance, 1 loses to it, 1 shows no evidence"),
        ([(-1, 0), (0, 1)], "none of 2 orders beats random on Frechet distance, none loses to it, 2 show no evidence"),
        ([None], "No paired difference to random has an interval"),
        ([], "Only the baseline, random, is measured so far"),
    ],
)
def test_the_sentence_agrees_in_number(tmp_path: Path, cis: list, words: str) -> None:
    assert words in answer.text(answer.answer(load(small(tmp_path, numbers(*cis)))))


@pytest.mark.parametrize(
    ("cis", "words"),
    [
        ([(-2, 1)], "; highest: random, 6.00 (the baseline itself). The one order is indistinguishable from random"),
        (
            [(-1, 2), (0, 3)],
            "Lowest FD: random, 6.00 (the baseline itself); highest: b, 7.50 (+1.50 [+0.00, +3.00] to ",
        ),
        ([(-1, 2), (0, 3)], "which may be chance). All 2 orders are indistinguishable from random here: a place in "),
        ([(-1, 2), (5, 6)], "1 of 2 orders is indistinguishable from random here"),
        (
            [(2, 3), (5, 6)],
            "Lowest FD: random, 6.00 (the baseline itself); highest: b, 11.50 (+5.50 [+5.00, +6.00] to ",
        ),
    ],
)
def test_a_ranking_is_not_made_of_chance(tmp_path: Path, cis: list, words: str) -> None:
    said = answer.extremes(load(small(tmp_path, numbers(*cis))))
    assert words in said
    assert ("indistinguishable" in said) == any(lo <= 0 <= hi for lo, hi in cis)


def test_nothing_is_claimed_without_the_baseline(tmp_path: Path) -> None:
    lines = [r for r in numbers((-2, -1)) if r.row == "a" and r.metric != "fd_minus_random"]
    report = load(small(tmp_path, lines))
    assert "random, is not measured yet" in answer.text(answer.answer(report))


@given(st.floats(-9, 9), st.floats(0, 5))
def test_verdicts_mirror_the_direction_of_the_metric(middle: float, half: float) -> None:
    difference = Number(middle, (middle - half, middle + half))
    swap = {"better": "worse", "worse": "better", "no evidence": "no evidence"}
    low, high = verdicts.verdict("fd", difference), verdicts.verdict("agreement", difference)
    assert low is not None
    assert swap[low] == high
    assert (low == "no evidence") == (middle - half <= 0 <= middle + half)
    assert low != "better" or middle < 0


def test_verdicts_agree_with_the_metrics_room() -> None:
    """The second way: `metrics.intervals.verdict` on the same intervals, and the same directions."""
    registry = pytest.importorskip("orderhead.metrics.registry")
    from orderhead.report.reading import READINGS

    for name in READINGS.keys() & registry.METRICS.keys():
        metric = registry.METRICS[name]
        assert metric.higher_is_better == READINGS[name].higher
        for lo, hi in ((-2.0, -1.0), (1.0, 2.0), (-1.0, 1.0)):
            theirs = metric.verdict(registry.Estimate((lo + hi) / 2, lo, hi, 9))
            assert verdicts.verdict(name, Number((lo + hi) / 2, (lo, hi))) == theirs


def test_p_values_are_those_of_the_interval_that_the_metrics_room_makes() -> None:
    """The second way: SciPy's t, and `standard_error` with the degrees of freedom that it reports."""
    intervals = pytest.importorskip("orderhead.metrics.intervals")
    from scipy.stats import t as student

    rng = np.random.default_rng(0)
    for n in (5, 11, 15, 19, 20, 33, 100, 512):
        influence_N, labels_N = rng.normal(0.2, 1, n), np.arange(n) % 10
        error, freedom = intervals.standard_error(influence_N - influence_N.mean(), labels_N)
        assert verdicts.freedom(n, 10) == freedom
        half = student.ppf(0.975, freedom) * error
        found = Number(influence_N.mean(), (influence_N.mean() - half, influence_N.mean() + half), n)
        assert verdicts.quantile(freedom) == pytest.approx(student.ppf(0.975, freedom), rel=1e-9)
        wanted = 2 * student.sf(abs(influence_N.mean()) / error, freedom)
        assert verdicts.p_value(found, freedom) == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.floats(0, 0.1), max_size=6))
def test_holm_is_the_closed_bonferroni_test(p_values: list[float]) -> None:
    """The second way: an order is significant if every set of orders with it has a p of at most 5 % / its size."""
    orders = range(len(p_values))
    sets = [s for k in range(1, len(p_values) + 1) for s in itertools.combinations(orders, k)]
    passed = {s: min(p_values[i] for i in s) <= (1 - verdicts.LEVEL) / len(s) for s in sets}
    assert verdicts.holm(p_values) == [all(passed[s] for s in sets if i in s) for i in orders]


def test_many_orders_need_more_than_their_own_interval(tmp_path: Path) -> None:
    """Half-width 1 at 99 degrees of freedom: p = 0.03 alone, and Holm asks for 0.05 / 6 first."""
    doubtful, clear, nothing = (0.1, 2.1), (2.0, 4.0), (-1.0, 1.0)
    alone = load(small(tmp_path / "one", numbers(doubtful)))
    assert verdicts.verdicts(alone) == {"a": "worse"}
    assert "paired 95 % interval)" in answer.text(answer.answer(alone))
    among = load(small(tmp_path / "six", numbers(doubtful, clear, *[nothing] * 4)))
    assert verdicts.verdicts(among) == {"a": "no evidence", "b": "worse", **dict.fromkeys("cdef", "no evidence")}
    assert "1 loses to it, 5 show no evidence" in answer.text(answer.answer(among))
    page = render(among, tmp_path)
    assert "95 % certainty for all 6 together" in page
    assert "taken alone, a would differ from random" in page
    assert re.search(r'data-order="a".*?chip open">no evidence<', page, re.DOTALL)
    assert "its own paired interval, uncorrected" in page


def test_what_pairing_is_worth_is_measured(tmp_path: Path, page: str) -> None:
    """By hand: half-widths 1 (a), 0.5 (random) and 0.5 (their difference): 0.5 / sqrt(1.25) = 0.447."""
    text = " ".join(render(load(small(tmp_path, numbers((1, 2)))), tmp_path).split())
    assert "is 0.45 times as wide as that of two runs with independent noise" in text
    assert "cancels" not in text
    ratios = [0.62 * own / np.hypot(own, report_fixture.HALF[0]) for own in report_fixture.HALF[1:]]
    words = f"is {np.median(ratios):.2f} times as wide as that of two runs with independent noise would be "
    assert f"{words}(in the median, {min(ratios):.2f} to {max(ratios):.2f} over 9 orders" in page


def test_the_opening_tells_how_small_a_difference_could_be_seen(tmp_path: Path, folder: Path, page: str) -> None:
    said = power.seen(load(small(tmp_path, numbers((1, 2)))))
    assert said == (
        "How small a difference this run could see: about 0.50 in FD, 8 % of random's own 6.00 "
        "(half-width of the interval)."
    )
    half = 0.62 * np.median(report_fixture.HALF[1:])
    said = power.seen(load(folder))
    assert f"about {half:.2f} in FD, {100 * half / 6.62:.0f} % of random's own 6.62 (median half-width of the" in said
    assert f"; a first verdict among 9 takes {half * 2.785 / 1.965:.2f}." in said  # SciPy's t at 502 degrees of freedom
    assert page.index("How small a difference") < page.index("</header>")
    assert power.seen(load(small(tmp_path / "none", numbers()))) == ""


def test_an_interval_that_is_cut_off_counts_with_its_longer_side() -> None:
    assert power.half_width(Number(0.5, (0.0, 2.0))) == 1.5


def test_numbers_carry_a_minus_sign_and_never_minus_zero() -> None:
    assert words.number(-0.53, 2) == "\N{MINUS SIGN}0.53"
    assert words.number(-0.001, 2) == "0.00"
    assert words.interval((-1, 2), 1, True) == "[\N{MINUS SIGN}1.0, +2.0]"

"""Do the intervals cover what they say? Simulated worlds whose expected values are known or averaged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from orderhead.metrics.bundle import Judged, Reference
from orderhead.metrics.correlation import spearman
from orderhead.metrics.intervals import (
    Estimate,
    bootstrap,
    paired,
    resamples,
    same_images,
    single,
    standard_error,
    strata,
    verdict,
)
from orderhead.metrics.progressive import auac, auc
from orderhead.metrics.registry import METRICS
from orderhead.metrics.statistic import UNIT, Statistic

N, F, K, WORLDS = 150, 6, 5, 300
LABELS = np.arange(N) % K
CENTRES = np.random.default_rng(0).normal(size=(K, F))
REAL = Reference(CENTRES[np.arange(300) % K] + np.random.default_rng(1).normal(size=(300, F)))


def world(seed: int, a_shift: float = 0.25, b_shift: float = 0.4) -> tuple[Judged, Judged]:
    """Two orders on common noise (correlation 0.8), both off the real images in mean and spread."""
    rng = np.random.default_rng([7, seed])
    z, other = rng.normal(size=(2, N, F))
    sets = CENTRES[LABELS] + 0.85 * z + a_shift, CENTRES[LABELS] + 0.8 * (0.8 * z + 0.6 * other) + b_shift
    return tuple(Judged(x, 4 * (x @ CENTRES.T - (CENTRES**2).sum(1) / 2), LABELS) for x in sets)  # type: ignore[return-value]


@cache
def worlds() -> list[tuple[Judged, Judged]]:
    return [world(seed) for seed in range(WORLDS)]


def coverage(estimates: list[Estimate]) -> float:
    """How often an interval holds the mean of all values, the metric's expectation at this N."""
    truth = np.mean([e.value for e in estimates])
    return float(np.mean([e.lo <= truth <= e.hi for e in estimates]))


@pytest.mark.parametrize("name", METRICS)
def test_intervals_cover_the_expected_value_19_times_of_20(name: str) -> None:
    """300 worlds: 95 % +- 1.3 %. Recall's jackknife is conservative by nature, so it has no upper limit."""
    metric = METRICS[name]
    pairs = [[metric.statistic(side, REAL) for side in sides] for sides in worlds()]
    alone = [single(a, LABELS, proportion=metric.proportion) for a, _ in pairs]
    differences = [paired(a, b, LABELS, proportion=metric.proportion) for a, b in pairs]
    highest = 1.0 if name == "recall" else 0.99
    assert 0.91 <= coverage(alone) <= highest
    assert 0.91 <= coverage(differences) <= highest


def test_common_noise_and_labels_narrow_the_interval() -> None:
    a, b = (METRICS["fd"].statistic(side, REAL) for side in world(0, 0.25, 0.3))
    width = lambda e: e.hi - e.lo  # noqa: E731
    apart = np.hypot(width(single(a, LABELS)), width(single(b, LABELS)))
    assert width(paired(a, b, LABELS)) < 0.75 * apart
    assert width(single(a, LABELS)) < width(single(a))


def test_the_influence_agrees_with_the_bootstrap_and_the_percentile_one_would_miss() -> None:
    """Second way, 300 draws each. A resample's FD is biased upwards by its duplicates."""
    a, b = world(3)
    metric = METRICS["fd"]
    ours = single(metric.statistic(a, REAL), LABELS)
    theirs = bootstrap(metric, a, REAL, draws=300)
    assert theirs.value == ours.value
    assert theirs.hi - theirs.lo == pytest.approx(ours.hi - ours.lo, rel=0.25)
    assert theirs.hi == pytest.approx(ours.hi, abs=0.25 * (ours.hi - ours.lo))
    draws = [metric(a.take(index_N), REAL) for index_N in resamples(LABELS, 300, 1)]
    assert np.mean(draws) > ours.value + 0.25 * np.std(draws)
    difference = bootstrap(metric, a, REAL, b, draws=300)
    exact = paired(metric.statistic(a, REAL), metric.statistic(b, REAL), LABELS)
    assert difference.value == exact.value
    assert difference.hi - difference.lo == pytest.approx(exact.hi - exact.lo, rel=0.25)


@pytest.mark.parametrize(("n", "p"), [(30, 0.9), (100, 0.98), (400, 0.5)])
def test_proportions_cover_near_their_ends(n: int, p: float) -> None:
    hits = np.random.default_rng(0).random((2000, n)) < p
    estimates = [single(Statistic.mean(row, UNIT), proportion=True) for row in hits]
    assert np.mean([e.lo <= p <= e.hi for e in estimates]) > 0.93
    assert all(0 <= e.lo <= e.hi <= 1 for e in estimates)


def test_all_hits_are_not_certainty() -> None:
    sure = Statistic.mean(np.ones(16))
    assert single(sure, proportion=True).lo < 0.85
    assert single(sure).ci == (1.0, 1.0)  # what a plain mean would claim
    assert paired(sure, sure, proportion=True).lo < 0 < paired(sure, sure, proportion=True).hi


def test_an_interval_stays_in_the_range_of_its_metric() -> None:
    """Of each metric with influences so wide that its interval would leave it; that of a difference may."""
    ranges = dict.fromkeys(("agreement", "precision", "recall"), (0, 1)) | {
        "fd": (0, np.inf), "kid": (-np.inf, np.inf), "cmmd": (0, np.inf), "mmd_rbf": (0, np.inf), "is": (1, K),
        "clip_score": (0, 100),
    }  # fmt: skip
    few = world(0)[0].take(np.arange(6))
    found = {name: (metric.statistic(few, REAL), ranges[name]) for name, metric in METRICS.items()}
    correct = np.array([[0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]])
    found |= {"auc": (auc(correct), (0, 1)), "auac": (auac(correct, [1, 1, 1]), (0, 1))}
    found["spearman"] = spearman(np.tile(np.arange(3.0), (2, 1)), [[0, 1, 2], [0, 2, 1]]), (-1, 1)
    for name, (statistic, (low, high)) in found.items():
        wide = replace(
            statistic, influence_N=9 * statistic.influence_N + np.resize([-9, 9], statistic.influence_N.shape)
        )
        inside, free = single(wide), single(Statistic(wide.value, wide.influence_N))
        assert inside.ci == pytest.approx((max(free.lo, low), min(free.hi, high))), name
        assert inside.lo <= inside.value <= inside.hi
    assert single(auac(correct, [1, 1, 1])).hi == 1 < paired(*[auac(c, [1, 1, 1]) for c in (correct, 0 * correct)]).hi


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(size=12)
    found = single(Statistic.mean(values))
    assert found.hi - found.value == pytest.approx(2.20098516 * values.std(ddof=1) / np.sqrt(12))
    assert found.value - found.lo == pytest.approx(found.hi - found.value)


def test_stratified_standard_error_is_the_textbooks() -> None:
    values, labels = np.random.default_rng(0).normal(size=10), np.array([0] * 4 + [1] * 6)
    textbook = np.sqrt(4 * values[:4].var(ddof=1) + 6 * values[4:].var(ddof=1)) / 10
    error, freedom = standard_error(values, labels)
    assert error == pytest.approx(textbook)
    assert freedom == 8
    assert standard_error(labels.astype(float), labels)[0] == 0  # between labels alone: the design fixes it


def test_labels_with_one_image_are_pooled() -> None:
    assert strata(np.array([3, 3, 5, 7]), 4).tolist() == [0, 0, 3, 3]
    assert strata(np.array([3, 3, 5]), 3).tolist() == [0, 0, 0]
    values = np.random.default_rng(0).normal(size=9)
    assert standard_error(values, np.arange(9)) == pytest.approx(standard_error(values))


def test_resamples_keep_the_labels_and_the_seed() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 40)
    index = resamples(labels, 5, 9)
    assert (labels[index] == labels).all()
    assert (index == resamples(labels, 5, 9)).all()
    assert (index != resamples(labels, 5, 8)).any()


@pytest.mark.parametrize(
    ("lo", "hi", "higher", "says"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"),
        (-0.1, 0.2, True, "no evidence"),
        (0.0, 0.2, True, "no evidence"),
        (0.0, 0.0, False, "no evidence"),
    ],
)
def test_verdict(lo: float, hi: float, higher: bool, says: str) -> None:
    assert verdict(lo, hi, higher) == says


def test_bad_intervals_are_refused() -> None:
    for lo, hi in ((1.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="low to high"):
            verdict(lo, hi, True)
    with pytest.raises(ValueError, match="at least 2"):
        single(Statistic.mean(np.ones(1)))
    with pytest.raises(ValueError, match="got 3 and 4"):
        paired(Statistic.mean(np.ones(3)), Statistic.mean(np.ones(4)))
    a = world(0)[0]
    with pytest.raises(ValueError, match="got 150 and 20"):
        same_images(a, a.take(np.arange(20)))

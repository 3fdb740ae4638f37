"""Metrics against closed forms, naive loops, SciPy and torch-fidelity."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.linalg import sqrtm
from scipy.stats import spearmanr

from orderhead.metrics import kernel, precision_recall
from orderhead.metrics.bundle import Judged, Reference, remember
from orderhead.metrics.correlation import rankings, spearman, spearman_rows
from orderhead.metrics.frechet import Moments, fd, fd_to, frechet_distance
from orderhead.metrics.inception import inception_score
from orderhead.metrics.progressive import areas, auac, auc, sampled_steps
from orderhead.metrics.registry import METRICS, compare, measure, named
from orderhead.metrics.statistic import jackknife


def judged(x_NF: np.ndarray, seed: int = 0, classes: int = 4) -> Judged:
    rng = np.random.default_rng(seed)
    return Judged(x_NF, rng.normal(size=(len(x_NF), classes)), np.arange(len(x_NF)) % classes)


def normal(n: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)) + shift


# --- every metric ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_influence_is_the_infinitesimal_jackknife(name: str) -> None:
    """Second way: leave out one image at a time. Recall's is that jackknife exactly, others' up to 1/N."""
    ours, reference = judged(normal(120, 3, 1, 0.3)), Reference(normal(90, 3, 2))
    metric = METRICS[name]
    statistic = metric.statistic(ours, reference)
    second = jackknife(metric, ours, reference)
    assert statistic.influence_N.mean() == pytest.approx(0, abs=1e-9)
    assert second.value == statistic.value == metric(ours, reference)
    scale = second.influence_N.std()
    tolerance = 1e-9 if METRICS[name].proportion else 0.1 * scale
    assert np.sqrt(((statistic.influence_N - second.influence_N) ** 2).mean()) < tolerance


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_metric_does_not_see_the_order_of_the_images(name: str, seed: int) -> None:
    ours, reference = judged(normal(40, 3, seed, 0.3), seed), Reference(normal(30, 3, seed + 1))
    shuffled = ours.take(np.random.default_rng(seed).permutation(len(ours)))
    assert METRICS[name](shuffled, reference) == pytest.approx(METRICS[name](ours, reference), rel=1e-9, abs=1e-11)


def test_measure_and_compare() -> None:
    reference = Reference(normal(300, 4, 0))
    good, bad = judged(normal(200, 4, 1, 0.1)), judged(normal(200, 4, 1, 0.9))
    levels, baseline = measure(bad, reference), measure(good, reference)
    differences = compare(bad, good, reference)
    assert list(levels) == list(differences) == list(METRICS)
    for name, estimate in differences.items():
        assert estimate.value == pytest.approx(levels[name].value - baseline[name].value)
        assert estimate.lo <= estimate.value <= estimate.hi
        assert estimate.n == 200
    assert METRICS["fd"].verdict(differences["fd"]) == "worse"
    assert METRICS["precision"].verdict(differences["precision"]) == "worse"
    assert METRICS["agreement"].verdict(differences["agreement"]) == "no evidence"
    assert METRICS["fd"].verdict(compare(good, bad, reference, ["fd"])["fd"]) == "better"


def test_names_carry_the_protocol() -> None:
    assert [named("fd", 5000), named("is", 50_000), named("fd", 512), named("cmmd", 5000)] == [
        "fd5k",
        "is50k",
        "fd",
        "cmmd",
    ]
    fid = {"fd": "fid"}
    assert [named("fd", 50_000, fid), named("fd", 512, fid), named("is", 5000, fid)] == ["fid50k", "fid", "is5k"]
    with pytest.raises(ValueError, match="did you mean 'recall'"):
        named("recal", 5)


def test_remember_asks_once_per_object() -> None:
    calls = []

    @remember
    def length(reference: Reference, k: int) -> int:
        calls.append(k)
        return len(reference) + k

    a, b = Reference(normal(3, 2, 0)), Reference(normal(4, 2, 0))
    assert [length(a, 1), length(a, 1), length(a, 2), length(b, 1)] == [4, 4, 5, 5]
    assert calls == [1, 2, 1]


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "logits", "labels", "says"),
    [
        (np.zeros((1, 2)), np.zeros((1, 3)), [0], "at least 2"),
        (np.zeros(4), np.zeros((4, 3)), [0] * 4, "table of images"),
        ([[0.0, np.nan], [0.0, 1.0]], np.zeros((2, 3)), [0, 1], "NaN or infinite, first at image 0"),
        (np.zeros((2, 2)), [[0.0, 1.0], [np.inf, 0.0]], [0, 1], "logits of 1 of 2 images"),
        (np.zeros((2, 2)), np.zeros((3, 3)), [0, 1], "2 rows of features but 3"),
        (np.zeros((2, 2)), np.zeros((2, 3)), [0, 3], r"lie in \[-1, 3\)"),
        (np.zeros((2, 2)), np.zeros((2, 3)), [0, 1, 2], "must be 2 integers"),
        (np.zeros((2, 2)), np.zeros((2, 3)), [0.0, 1.0], "must be 2 integers"),
    ],
)
def test_bad_images_are_refused_in_one_line(features, logits, labels, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Judged(features, logits, np.asarray(labels))
    assert "\n" not in str(error.value)


def test_bad_references_and_pairs_are_refused() -> None:
    a = judged(normal(8, 3, 0))
    with pytest.raises(ValueError, match="reference features of 1 image"):
        Reference(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="2 rows of logits"):
        Reference(np.zeros((3, 3)), np.zeros((2, 4)))
    for name in ("fd", "kid", "cmmd", "precision", "recall"):
        with pytest.raises(ValueError, match="3 features, the reference 4"):
            measure(a, Reference(np.zeros((5, 4))), [name])
    with pytest.raises(ValueError, match="got 8 and 6"):
        compare(a, judged(normal(6, 3, 0)), Reference(normal(9, 3, 1)))
    other = Judged(a.features_NF, a.logits_NK, a.labels_N[::-1])
    with pytest.raises(ValueError, match="same labels"):
        compare(a, other, Reference(normal(9, 3, 1)))
    with pytest.raises(ValueError, match="unknown metric 'fdd'"):
        measure(a, Reference(normal(9, 3, 1)), ["fdd"])
    with pytest.raises(ValueError, match="needs a label"):
        measure(Judged(a.features_NF, a.logits_NK, np.full(8, -1)), Reference(normal(9, 3, 1)), ["agreement"])
    with pytest.raises(ValueError, match="4 neighbours need at least 5"):
        measure(judged(normal(4, 3, 0)), Reference(normal(9, 3, 1)), ["recall"])
    with pytest.raises(ValueError, match="norm 0"):
        measure(judged(np.zeros((4, 3))), Reference(normal(9, 3, 1)), ["cmmd"])


# --- Frechet --------------------------------------------------------------------------------------------------------


def random_moments(rng: np.random.Generator, width: int, n: int = 400) -> Moments:
    return Moments.of(rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 12))
def test_fd_of_equal_covariances_is_the_squared_mean_difference(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a = random_moments(rng, width)
    b = Moments(a.mean_F + rng.normal(size=width), a.cov_FF)
    assert frechet_distance(a, b) == pytest.approx(((a.mean_F - b.mean_F) ** 2).sum(), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * np.trace(a.cov_FF))


def test_fd_of_diagonal_covariances() -> None:
    """Closed form: |mu|^2 + sum (s - t)^2."""
    s, t = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 2.0])
    a, b = Moments(np.zeros(3), np.diag(s**2)), Moments(np.ones(3), np.diag(t**2))
    assert frechet_distance(a, b) == pytest.approx(3 + ((s - t) ** 2).sum(), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(2, 10))
def test_fd_equals_scipys_sqrtm_and_is_symmetric(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_moments(rng, width), random_moments(rng, width)
    root = np.trace(np.real(sqrtm(a.cov_FF @ b.cov_FF)))
    naive = ((a.mean_F - b.mean_F) ** 2).sum() + np.trace(a.cov_FF) + np.trace(b.cov_FF) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(naive, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_fd_influence_is_the_derivative_by_each_images_weight() -> None:
    """Second way: move a little weight to image i and difference the formula of the weighted moments."""
    x, reference = normal(30, 4, 1, 0.3) @ normal(4, 4, 3), Moments.of(normal(60, 4, 2))

    def distance(weight_N: np.ndarray) -> float:
        mean = weight_N @ x
        cov = (x - mean).T @ ((x - mean) * weight_N[:, None]) * 30 / 29
        return frechet_distance(Moments(mean, cov), reference)

    flat, small = np.full(30, 1 / 30), 1e-5
    ends = [[distance(flat + sign * small * (row - flat)) for sign in (1, -1)] for row in np.eye(30)]
    slopes = np.array([(up - down) / (2 * small) for up, down in ends])
    np.testing.assert_allclose(fd_to(x, reference).influence_N, slopes, rtol=1e-5, atol=1e-5)


def test_fd_of_fewer_images_than_features_is_finite() -> None:
    reference = Reference(normal(300, 40, 0))
    statistic = fd(judged(normal(12, 40, 1)), reference)
    assert np.isfinite(statistic.influence_N).all()
    assert statistic.value > fd(judged(normal(300, 40, 1)), reference).value > 0  # the bias of a small N
    assert fd(judged(reference.features_MF), reference).value == pytest.approx(0, abs=1e-9)


def test_constant_features_do_not_harm_the_fd() -> None:
    x = np.c_[normal(50, 3, 0), np.zeros(50)]
    y = np.c_[normal(60, 3, 1), np.zeros(60)]
    whole, part = fd(judged(x), Reference(y)), fd(judged(x[:, :3]), Reference(y[:, :3]))
    assert whole.value == pytest.approx(part.value, rel=1e-6)
    np.testing.assert_allclose(whole.influence_N, part.influence_N, rtol=1e-6, atol=1e-9)


def test_fd_kid_precision_and_recall_equal_torch_fidelitys() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    mmd = pytest.importorskip("torch_fidelity.metric_kid")
    manifold = pytest.importorskip("torch_fidelity.metric_prc")
    torch = pytest.importorskip("torch")
    ours, reference = judged(normal(200, 8, 1, 0.3)), Reference(normal(150, 8, 2))
    x, y = ours.features_NF, reference.features_MF
    stats = [{"mu": z.mean(0), "sigma": np.cov(z, rowvar=False)} for z in (x, y)]
    theirs = fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert METRICS["fd"](ours, reference) == pytest.approx(theirs, rel=1e-9)
    assert fd_to(x, Moments(stats[1]["mu"], stats[1]["sigma"])).value == pytest.approx(theirs, rel=1e-9)
    options = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    theirs = mmd.kernel_mmd(x[:150], y, **options, kid_kernel_poly_coef0=1)
    first = Judged(x[:150], ours.logits_NK[:150], ours.labels_N[:150])
    assert METRICS["kid"](first, reference) == pytest.approx(theirs, rel=1e-9)
    theirs = manifold.calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y), 3)
    assert METRICS["precision"](ours, reference) == pytest.approx(theirs[0], abs=1e-6)
    assert METRICS["recall"](ours, reference) == pytest.approx(theirs[1], abs=1e-6)


# --- kernels --------------------------------------------------------------------------------------------------------


def test_kid_equals_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_ROWS", 7)
    x, y = normal(20, 4, 0, 0.5), normal(15, 4, 1)
    k = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
    own = np.mean([k(x[i], x[j]) for i in range(20) for j in range(20) if i != j])
    real = np.mean([k(y[i], y[j]) for i in range(15) for j in range(15) if i != j])
    cross = np.mean([k(a, b) for a in x for b in y])
    assert METRICS["kid"](judged(x), Reference(y)) == pytest.approx(own + real - 2 * cross, rel=1e-10)


def test_unbiased_mmd_of_equal_distributions_averages_to_zero() -> None:
    values = [METRICS["kid"](judged(normal(30, 3, 2 * s)), Reference(normal(40, 3, 2 * s + 1))) for s in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert min(values) < 0 < max(values)


def test_cmmd_equals_a_naive_loop_and_its_linear_limit() -> None:
    x, y = normal(20, 4, 0, 0.5), normal(15, 4, 1)
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y)]
    k = lambda p, q: np.mean([np.exp(-((a - b) ** 2).sum() / 200) for a in p for b in q])  # noqa: E731
    naive = 1000 * (k(unit[0], unit[0]) + k(unit[1], unit[1]) - 2 * k(unit[0], unit[1]))
    value = METRICS["cmmd"](judged(x), Reference(y))
    assert value == pytest.approx(naive, rel=1e-8)
    assert value == pytest.approx(10 * ((unit[0].mean(0) - unit[1].mean(0)) ** 2).sum(), rel=0.03)  # k ~ 1 - d^2 / 200
    assert METRICS["cmmd"](judged(x), Reference(x)) == pytest.approx(0, abs=1e-9)
    assert METRICS["cmmd"](judged(3 * x), Reference(y)) == pytest.approx(value, rel=1e-9)  # norms do not count


# --- scores of logits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 5, 10])
def test_inception_score_closed_forms(K: int) -> None:
    labels = np.arange(4 * K) % K
    uniform = Judged(np.zeros((4 * K, 1)), np.full((4 * K, K), 3.0), labels)
    sure = Judged(np.zeros((4 * K, 1)), 800.0 * np.eye(K)[labels], labels)
    one_class = Judged(np.zeros((4 * K, 1)), 800.0 * np.eye(K)[labels * 0], labels)
    assert inception_score(uniform).value == pytest.approx(1, rel=1e-12)
    assert inception_score(sure).value == pytest.approx(K, rel=1e-12)
    assert inception_score(one_class).value == pytest.approx(1, rel=1e-12)
    assert not inception_score(sure).influence_N.any()
    assert METRICS["agreement"](sure, Reference(np.zeros((2, 1)))) == 1
    assert METRICS["agreement"](one_class, Reference(np.zeros((2, 1)))) == pytest.approx(1 / K)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_inception_score_lies_between_one_and_the_classes(seed: int) -> None:
    scale = np.random.default_rng(seed).uniform(0, 20)
    logits = scale * normal(30, 6, seed)
    score = inception_score(Judged(np.zeros((30, 1)), logits, np.zeros(30, int))).value
    assert 1 <= score <= 6
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)  # entropies: log IS = H(mean p) - mean H(p)
    entropy = lambda q: -(q * np.log(q)).sum(-1)  # noqa: E731
    assert np.log(score) == pytest.approx(entropy(p.mean(0)) - entropy(p).mean(), abs=1e-9)


# --- precision and recall -------------------------------------------------------------------------------------------


def test_precision_and_recall_of_identical_and_of_distant_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "_ROWS", 7)
    x = normal(40, 5, 0)
    for name in ("precision", "recall"):
        assert METRICS[name](judged(x), Reference(x)) == 1
        assert METRICS[name](judged(x + 1000), Reference(x)) == 0


def test_precision_and_recall_tell_fidelity_from_coverage() -> None:
    reference = Reference(np.r_[normal(100, 2, 0), normal(100, 2, 1, 50.0)])
    one_mode = judged(0.3 * normal(100, 2, 2))
    assert METRICS["precision"](one_mode, reference) > 0.95
    assert METRICS["recall"](one_mode, reference) < 0.5


def test_neighbours_equal_a_full_sort() -> None:
    x = normal(30, 3, 0)
    full = ((x[:, None] - x) ** 2).sum(-1)
    np.fill_diagonal(full, np.inf)
    distances, index = precision_recall.neighbours(x, 4)
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :4], rtol=1e-9)
    np.testing.assert_array_equal(index, full.argsort(axis=1)[:, :4])


# --- curves and ranks -----------------------------------------------------------------------------------------------


def test_the_study_samples_seventeen_points_of_sixty_four_steps() -> None:
    steps = sampled_steps(64)
    assert len(steps) == 17
    assert steps[0] == 0
    assert steps[-1] == 63
    assert sampled_steps(1).tolist() == [0]
    assert sampled_steps(5, 1).tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.floats(0, 1), st.integers(1, 9))
def test_areas_of_constant_and_linear_curves(T: int, height: float, every: int) -> None:
    counts = np.random.default_rng(T).integers(1, 9, T)
    assert auc(np.full((3, T), height), every).value == pytest.approx(height)
    assert auac(np.full((3, T), height), counts).value == pytest.approx(height)
    if T > 1:
        assert auc(np.linspace(0, 1, T)[None], every).value == pytest.approx(0.5)
        x = np.cumsum(counts) / counts.sum()
        assert auac(x[None], counts).value == pytest.approx((x[0] + 1) / 2)


def test_auac_weighs_steps_by_their_tokens_and_auc_does_not() -> None:
    """A jump before the last step, which reveals 90 of 100 tokens: half of the last trapezoid."""
    curve = np.array([[0.0, 0.0, 1.0]])
    assert auc(curve, 1).value == pytest.approx(0.25)
    assert auac(curve, [5, 5, 90]).value == pytest.approx(0.5 * 90 / 95)
    rows = np.random.default_rng(0).random((5, 7))
    np.testing.assert_allclose(areas(rows, np.arange(7)), trapezoid(rows, dx=1 / 6, axis=1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: auc([0.1, 0.2]),
        lambda: auc([[0.1, np.nan]]),
        lambda: auac([[1, 0]], [3]),
        lambda: auac([[1, 0]], [3, 0]),
        lambda: areas([[1, 0]], [1, 1]),
        lambda: sampled_steps(0),
        lambda: spearman([[1, 2]], [[1, 2, 3]]),
        lambda: spearman([[1, np.nan]], [[1, 2]]),
    ],
)
def test_bad_curves_and_ranks_are_refused(call) -> None:
    with pytest.raises(ValueError, match=r"need|table|finite|least|NaN"):
        call()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_spearman_equals_scipys(seed: int, ties: bool) -> None:
    a, b = normal(4, 12, seed), normal(4, 12, seed + 1)
    a[:, 0] += 9  # no constant row
    if ties:
        a, b = a.round(), b.round()
        b[:, 0] += 9
    rows = spearman_rows(a, b)
    theirs = np.asarray([spearmanr(p, q)[0] for p, q in zip(a, b, strict=True)], dtype=float)
    np.testing.assert_allclose(rows, theirs, atol=1e-12)
    assert spearman(a, b).value == pytest.approx(rows.mean())


def test_a_collapsed_score_has_no_rank_correlation() -> None:
    flat = np.zeros((2, 5))
    assert np.isnan(spearman_rows(flat, normal(2, 5, 0))).all()
    assert spearman(flat, normal(2, 5, 0)).value == 0
    assert rankings(flat[0].tolist(), [1.0, 2.0, 3.0, 4.0, 5.0]) == (0.0, 1.0)


def test_two_rankings_agree_as_often_as_chance_would_have_them() -> None:
    """Second way: of the 120 rankings of five rows, the share whose |rho| is at least as large (roughly: p is by t)."""
    a = [1.0, 2.0, 3.0, 4.0, 5.0]
    rhos = [rankings(a, b)[0] for b in permutations(a)]
    rho, p = rankings(a, [2.0, 1.0, 3.0, 5.0, 4.0])
    assert rho == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert p == pytest.approx(np.mean(np.abs(rhos) >= rho - 1e-9), abs=0.05)

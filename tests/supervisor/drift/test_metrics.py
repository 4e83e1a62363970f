"""What the drift metrics measure, against slow and obvious versions of them and against SciPy."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.drift import DRIFT_METRICS, DriftMetric
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.kernels import MEDIAN_SAMPLES, median_distance
from modyn.supervisor.drift.metrics.classifier import areas_under_curve
from modyn.supervisor.drift.metrics.cramer_von_mises import limiting_distribution
from modyn.supervisor.drift.per_feature import corrected

CRITERION = {"id": "ThresholdDecisionCriterion", "threshold": 0.1}

NAMES = DRIFT_METRICS.names()


def metric(name: str, **keys: object) -> DriftMetric:
    return DRIFT_METRICS.parse({"id": name, "decision_criterion": CRITERION, **keys})


def windows(n: int, m: int, d: int, seed: int = 0, shift: float = 0.0) -> tuple[Features, Features]:
    rng = np.random.default_rng((seed, n, m, d))
    return rng.normal(size=(n, d)).astype(np.float32), rng.normal(shift, 1, size=(m, d)).astype(np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def textbook_mmd(x: Features, y: Features, sigma: float) -> float:
    def mean_kernel(a: Features, b: Features, pairs: float) -> float:
        return float(np.exp(-spatial.distance.cdist(a, b, "sqeuclidean") / (2 * sigma**2)).sum()) / pairs

    n, m = len(x), len(y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    within = mean_kernel(x, x, n * (n - 1)) - 1 / (n - 1) + mean_kernel(y, y, m * (m - 1)) - 1 / (m - 1)
    return within - 2 * mean_kernel(x, y, n * m)


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 700),
    m=st.integers(2, 700),
    d=st.integers(1, 20),
    shift=st.sampled_from([0.0, 0.5, 100.0]),
    sigma=st.sampled_from([0.3, 1.0, 5.0]),
)
def test_mmd_is_the_textbook_estimator(n: int, m: int, d: int, shift: float, sigma: float) -> None:
    x, y = windows(n, m, d, shift=shift)
    measured = metric("MMD", sigma=sigma, standardize=False).distance(x, y, rng())
    assert measured == pytest.approx(textbook_mmd(x, y, sigma), abs=1e-5)


def test_mmd_with_defaults_standardises_and_takes_the_median_distance() -> None:
    x, y = windows(120, 90, 3, shift=0.4)
    scales = np.array([1e-3, 1.0, 1e4], np.float32)
    pooled = np.concatenate((x, y)) * scales + 7
    exact = (pooled - pooled.mean(axis=0, dtype=np.float64)) / pooled.std(axis=0, dtype=np.float64)
    sigma = float(np.median(spatial.distance.pdist(exact)))
    assert metric("MMD").distance(pooled[:120], pooled[120:], rng()) == pytest.approx(
        textbook_mmd(exact[:120], exact[120:], sigma), abs=1e-5
    )


def test_median_distance_of_many_samples_is_that_of_some() -> None:
    pooled = np.random.default_rng(0).normal(size=(10 * MEDIAN_SAMPLES, 4)).astype(np.float32)
    assert median_distance(pooled) == pytest.approx(np.median(spatial.distance.pdist(pooled[:2000])), rel=0.08)
    assert median_distance(np.ones((5, 2), np.float32)) == 1.0
    mostly_equal = np.zeros((50, 1), np.float32)
    mostly_equal[0] = 3
    assert median_distance(mostly_equal) > 0.1


def test_mmd_test_counts_permutations_that_reach_the_observed_statistic() -> None:
    """Against the statistic recomputed per permutation, with the same random numbers."""
    x, y = windows(40, 30, 2, shift=0.3)
    drawn = np.tile(np.arange(70) >= 40, (200, 1))
    np.random.default_rng(5).permuted(drawn[1:], axis=1, out=drawn[1:])
    pooled = np.concatenate((x, y))
    values = [textbook_mmd(pooled[~row], pooled[row], 1.0) for row in drawn]
    result = metric("MMD", sigma=1.0, standardize=False).test(
        x, y, alpha=0.05, permutations=199, block_length=1, rng=np.random.default_rng(5)
    )
    assert result.p_value == (1 + sum(value >= values[0] for value in values[1:])) / 200
    assert result.statistic == pytest.approx(values[0], abs=1e-5)
    assert result.threshold == pytest.approx(sorted(values[1:])[-10], abs=1e-5)
    assert result.rejects == (result.p_value <= 0.05)


def test_cross_mmd_is_the_plain_formula() -> None:
    x, y = windows(60, 40, 3, shift=0.3)
    sigma = 1.7

    def kernel(a: Features, b: Features) -> Features:
        return np.exp(-spatial.distance.cdist(a, b, "sqeuclidean") / (2 * sigma**2))

    x_far, x_near, y_near, y_far = x[:30], x[30:], y[:20], y[20:]
    g_x = kernel(x_far, x_near).mean(1) - kernel(x_far, y_near).mean(1)
    g_y = kernel(y_far, x_near).mean(1) - kernel(y_far, y_near).mean(1)
    plain = metric("CrossMMD", sigma=sigma, standardize=False)
    assert plain.distance(x, y, rng()) == pytest.approx(g_x.mean() - g_y.mean(), abs=1e-6)
    result = plain.test(x, y, alpha=0.05, permutations=0, block_length=1, rng=rng())
    welch = stats.ttest_ind(g_x, g_y, equal_var=False, alternative="greater")
    assert result.statistic == pytest.approx(welch.statistic, rel=1e-4)
    assert result.p_value == pytest.approx(welch.pvalue, rel=1e-3)


values = st.sampled_from(["continuous", "rounded", "binary"])


def columns(kind: str, n: int, m: int, d: int) -> tuple[Features, Features]:
    x, y = windows(n, m, d, shift=0.2)
    if kind == "rounded":
        return np.round(x * 2), np.round(y * 2)
    return (x, y) if kind == "continuous" else ((x > 0).astype(np.float32), (y > 0).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(
    kind=values,
    n=st.integers(1, 150),
    m=st.integers(1, 150),
    alternative=st.sampled_from(["two-sided", "less", "greater"]),
)
def test_kolmogorov_smirnov_is_scipys(
    kind: str, n: int, m: int, alternative: Literal["two-sided", "less", "greater"]
) -> None:
    x, y = columns(kind, n, m, 3)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        expected = [stats.ks_2samp(x[:, j], y[:, j], alternative) for j in range(3)]
    ours = metric("KolmogorovSmirnov", alternative_hypothesis=alternative, method="analytic")
    assert ours.distance(x, y, rng()) == pytest.approx(np.mean([e.statistic for e in expected]), abs=1e-7)
    result = ours.test(x, y, alpha=0.05, permutations=0, block_length=1, rng=rng())
    assert result.p_value == pytest.approx(min(1, 3 * min(e.pvalue for e in expected)))


@settings(max_examples=25, deadline=None)
@given(kind=values, n=st.integers(2, 120), m=st.integers(2, 120))
def test_cramer_von_mises_is_scipys(kind: str, n: int, m: int) -> None:
    x, y = columns(kind, n, m, 2)
    expected = [stats.cramervonmises_2samp(x[:, j].astype(float), y[:, j].astype(float)) for j in range(2)]
    ours = metric("CramerVonMises", method="analytic", correction="fdr")
    assert ours.distance(x, y, rng()) == pytest.approx(np.mean([e.statistic for e in expected]), abs=1e-5)
    result = ours.test(x, y, alpha=0.05, permutations=0, block_length=1, rng=rng())
    assert result.p_value == pytest.approx(stats.false_discovery_control([e.pvalue for e in expected]).min())


def test_a_binary_feature_does_not_hide_the_drift_of_another() -> None:
    x, y = windows(200, 200, 2)
    x[:, 0], y[:, 0] = x[:, 0] > 0, y[:, 0] > 0
    y[:, 1] += 0.6
    assert metric("CramerVonMises").test(x, y, alpha=0.05, permutations=100, block_length=1, rng=rng()).rejects
    assert metric("KolmogorovSmirnov").test(x, y, alpha=0.05, permutations=100, block_length=1, rng=rng()).rejects


def test_limiting_distributions_are_scipys() -> None:
    x, y = windows(300, 200, 1, shift=0.1)
    measured = stats.cramervonmises_2samp(x[:, 0], y[:, 0], method="asymptotic")
    n, m = 300, 200
    total = n + m
    mean, variance = (
        (1 + 1 / total) / 6,
        (total + 1) / total**2 / 45 * (4 * n * m * total - 3 * (n**2 + m**2) - 2 * n * m) / (4 * n * m),
    )
    standardised = 1 / 6 + (measured.statistic - mean) / np.sqrt(45 * variance)
    assert 1 - limiting_distribution(np.array([standardised]))[0] == pytest.approx(measured.pvalue, abs=1e-6)


def test_analytic_tests_count_effective_samples_on_autocorrelated_streams() -> None:
    noise = np.random.default_rng(3).normal(size=(2003, 1)).astype(np.float32)
    smooth = noise[3:] + noise[2:-1] + noise[1:-2] + noise[:-3]
    for name in ("KolmogorovSmirnov", "CramerVonMises"):
        test = metric(name, method="analytic").test
        dependent = test(smooth[:1000], smooth[1000:], alpha=0.05, permutations=0, block_length=None, rng=rng())
        naive = test(smooth[:1000], smooth[1000:], alpha=0.05, permutations=0, block_length=1, rng=rng())
        assert "effective samples" in dependent.note
        assert naive.p_value is not None
        assert dependent.p_value is not None
        assert dependent.p_value > naive.p_value


def test_corrections_for_many_features() -> None:
    p_values = np.random.default_rng(0).uniform(size=20)
    assert corrected(p_values, "fdr") == pytest.approx(stats.false_discovery_control(p_values).min())
    assert corrected(p_values, "bonferroni") == pytest.approx(min(1, 20 * p_values.min()))


def test_hellinger_is_the_distance_of_the_histograms() -> None:
    x, y = windows(500, 300, 3, shift=0.5)
    bins = round(math.sqrt(300 / 5))
    distances = []
    for a, b in zip(x.T, y.T, strict=True):
        edges = np.quantile(np.concatenate((a, b)), np.linspace(0, 1, bins + 1))
        p, q = (np.histogram(column, edges)[0] / len(column) for column in (a, b))
        distances.append(math.sqrt(0.5 * np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)))
    assert metric("Hellinger").distance(x, y, rng()) == pytest.approx(np.mean(distances), abs=1e-4)
    assert metric("Hellinger").distance(x, x, rng()) == pytest.approx(0, abs=1e-3)
    assert metric("Hellinger").distance(x, x + 100, rng()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["euclidean", "cosine", "cityblock", "chebyshev"])
def test_mean_distance_is_scipys_distance_of_the_means(kind: str) -> None:
    x, y = windows(50, 70, 5, shift=0.5)
    expected = getattr(spatial.distance, kind)(x.mean(axis=0), y.mean(axis=0))
    measured = metric("MeanDistance", distance_metric=kind, standardize=False).distance(x, y, rng())
    assert measured == pytest.approx(expected, rel=1e-4)


def test_principal_components_are_those_of_both_windows() -> None:
    direction = np.linspace(-1, 1, 6).astype(np.float32)
    x, y = (window[:, :1] * direction + 0.01 * window[:, 1:] for window in windows(80, 90, 7, shift=0.5))
    all_of_it = metric("MeanDistance", standardize=False).distance(x, y, rng())
    one = metric("MeanDistance", standardize=False, num_pca_component=1).distance(x, y, rng())
    assert one == pytest.approx(all_of_it, rel=0.01)


def test_area_under_the_curve_counts_pairs() -> None:
    generator = np.random.default_rng(0)
    for digits in (0, 6):
        scores = np.round(generator.normal(size=(30, 4)), digits).astype(np.float32)
        positive = generator.uniform(size=(30, 4)) < 0.4
        expected = []
        for column, labels in zip(scores.T, positive.T, strict=True):
            pairs = list(itertools.product(column[labels], column[~labels]))
            expected.append(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))
        assert areas_under_curve(scores, positive) == pytest.approx(np.array(expected))


def test_classifier_is_a_linear_discriminant_on_the_other_half() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import roc_auc_score

    x, y = windows(400, 400, 5, shift=0.3)
    pooled, labels = np.concatenate((x, y)), np.repeat([0, 1], 400)
    fold = np.tile(np.arange(400) // 40 % 2 == 1, 2)
    areas = []
    for held_out in (fold, ~fold):
        fitted = LinearDiscriminantAnalysis().fit(pooled[~held_out], labels[~held_out])
        areas.append(roc_auc_score(labels[held_out], fitted.decision_function(pooled[held_out])))
    assert metric("ClassifierTwoSample").distance(x, y, rng()) == pytest.approx(np.mean(areas), abs=1e-3)


@pytest.mark.parametrize("stattest", ["wasserstein", "ks"])
def test_component_ratio_is_the_share_of_drifted_features(stattest: str) -> None:
    x, y = windows(300, 200, 6)
    y[:, :2] += 1
    pooled = np.concatenate((x, y)).std(axis=0)
    if stattest == "wasserstein":
        drifted = [stats.wasserstein_distance(x[:, j], y[:, j]) / pooled[j] >= 0.25 for j in range(6)]
        ours = metric("ComponentRatio", component_stattest_threshold=0.25)
    else:
        drifted = [stats.ks_2samp(x[:, j], y[:, j], method="asymp").pvalue <= 0.25 for j in range(6)]
        ours = metric("ComponentRatio", component_stattest="ks", component_stattest_threshold=0.25)
    assert ours.distance(x, y, rng()) == np.mean(drifted)
    assert ours.distance(x, x + 10, rng()) == 1
    assert ours.distance(x, x, rng()) == 0


PUBLISHED: Mapping[str, Mapping[str, object]] = {
    "AlibiDetectMmdDriftMetric": {
        "p_val": 0.05, "x_ref_preprocessed": False, "preprocessor": None, "device": None, "num_permutations": None,
        "kernel": "GaussianRBF", "configure_kernel_from_x_ref": True, "threshold": None,
    },
    "AlibiDetectKSDriftMetric": {
        "p_val": 0.05, "x_ref_preprocessed": False, "preprocessor": None, "alternative_hypothesis": "less",
        "correction": "fdr",
    },
    "AlibiDetectCVMDriftMetric": {"p_val": 0.05, "x_ref_preprocessed": False, "correction": "bonferroni"},
    "AlibiDetectClassifierDriftMetric": {"classifier_id": "x", "device": "cpu"},
    "EvidentlyModelDriftMetric": {
        "num_pca_component": 3, "bootstrap": False, "quantile_probability": 0.95, "threshold": 0.55
    },
    "EvidentlyRatioDriftMetric": {
        "component_stattest": "ks", "component_stattest_threshold": 0.1, "threshold": 0.2, "num_pca_component": 2
    },
    "EvidentlySimpleDistanceDriftMetric": {
        "distance_metric": "cosine", "bootstrap": False, "quantile_probability": 0.95, "threshold": 0.2,
        "num_pca_component": None,
    },
    "EvidentlyHellingerDistanceDriftMetric": {"num_pca_component": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_keys_work(name: str) -> None:
    x, y = windows(60, 60, 4)
    published = metric(name, **PUBLISHED[name])
    assert published.plugin_name in NAMES
    assert math.isfinite(published.distance(x, y, rng()))


EDGE_CASES: Mapping[str, Any] = {
    "single samples": (np.ones((1, 2)), np.zeros((1, 2))),
    "a single reference sample": (np.ones((1, 2)), np.random.default_rng(0).normal(size=(50, 2))),
    "a single current sample": (np.random.default_rng(0).normal(size=(50, 2)), np.ones((1, 2))),
    "all samples equal": (np.ones((50, 3)), np.ones((40, 3))),
    "a constant feature": (np.eye(30)[:, :3], np.eye(30)[:, :3]),
    "more features than samples": (np.random.default_rng(0).normal(size=(2, 12, 40))),
    "huge numbers": (np.random.default_rng(0).normal(1e12, 1e9, size=(2, 40, 3))),
    "tiny numbers": (np.random.default_rng(0).normal(0, 1e-20, size=(2, 40, 3))),
}


@pytest.mark.parametrize("case", EDGE_CASES)
@pytest.mark.parametrize("name", NAMES)
def test_edge_cases_are_defined(name: str, case: str) -> None:
    x, y = (np.asarray(window, dtype=np.float32) for window in EDGE_CASES[case])
    ours = metric(name)
    assert math.isfinite(ours.distance(x, y, rng()))
    result = ours.test(x, y, alpha=0.05, permutations=100, block_length=None, rng=rng())
    assert math.isfinite(result.statistic)
    if min(len(x), len(y)) == 1:
        assert result.p_value is None
        assert not result.rejects
        assert "too short" in result.note
    if case == "all samples equal":
        assert not result.rejects


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_missing_values_are_an_error_that_says_where(name: str, wrong: float) -> None:
    x, y = windows(20, 20, 3)
    y[7, 2] = wrong
    with pytest.raises(InvalidInputError, match="current window: feature 2 of sample 7"):
        metric(name).distance(x, y, rng())
    with pytest.raises(InvalidInputError, match="current window: feature 2 of sample 7"):
        metric(name).test(x, y, alpha=0.05, permutations=10, block_length=None, rng=rng())


@pytest.mark.parametrize("name", NAMES)
def test_wrong_windows_and_options_are_errors(name: str) -> None:
    x, y = windows(20, 20, 3)
    ours = metric(name)
    with pytest.raises(InvalidInputError, match="expected the same number"):
        ours.distance(x, y[:, :2], rng())
    with pytest.raises(InvalidInputError, match="reference window has shape"):
        ours.distance(x[:0], y, rng())
    with pytest.raises(InvalidInputError, match="alpha is 1"):
        ours.test(x, y, alpha=1.0, permutations=10, block_length=None, rng=rng())
    with pytest.raises(InvalidInputError, match="block_length is 0"):
        ours.test(x, y, alpha=0.05, permutations=10, block_length=0, rng=rng())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_gives_the_same_result_and_windows_are_not_changed(name: str) -> None:
    x, y = windows(80, 60, 3)
    before = x.copy(), y.copy()
    first, second = (
        metric(name).test(x, y, alpha=0.05, permutations=50, block_length=2, rng=np.random.default_rng(9))
        for _ in range(2)
    )
    assert first == second
    assert (x == before[0]).all()
    assert (y == before[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_small_false_alarm_rates_get_enough_permutations(name: str) -> None:
    x, y = windows(200, 200, 2, shift=2.0)
    result = metric(name).test(x, y, alpha=0.002, permutations=100, block_length=1, rng=rng())
    assert result.rejects
    assert result.p_value is not None
    assert result.p_value <= 0.002
    assert result.threshold is not None
    assert result.statistic > result.threshold

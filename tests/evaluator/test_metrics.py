from __future__ import annotations

import doctest
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sk

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, DecomposableMetric, Metric, Outcomes
from modyn.evaluator.metric_infos import metric_digest, metric_infos

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "Accuracy": [{}, {"topn": 2}, {"topn": 5, "per_class": True}],
    "BalancedAccuracy": [{}],
    "Brier": [{}],
    "CalibrationError": [{}, {"bins": 4, "norm": "max"}],
    "F1Score": [
        {"num_classes": 6},
        {"average": "micro", "per_class": True},
        {"average": "weighted"},
        {"num_classes": 2, "average": "binary"},
        {"average": "binary", "pos_label": 0},
    ],
    "LogLoss": [{}],
    "MeanAbsoluteError": [{}],
    "MeanSquaredError": [{}],
    "PrAuc": [{}, {"multi_class": "ovr", "per_class": True}],
    "Precision": [{}, {"average": "weighted", "per_class": True}, {"average": "binary"}],
    "R2": [{}],
    "Recall": [{}, {"average": "weighted"}, {"average": "micro", "per_class": True}],
    "RocAuc": [{}, {"multi_class": "ovr", "average": "weighted", "per_class": True}],
}
"""At least one configuration per registered metric; a new metric adds its own here."""

CASES = [(name, tree) for name, trees in EXAMPLES.items() for tree in trees]

EXACT = ("Accuracy", "BalancedAccuracy", "F1Score", "Precision", "Recall", "RocAuc")
"""Metrics whose sums are of whole numbers, so that the order of samples does not change a bit."""


def metric(name: str, **tree: Any) -> Metric:
    return METRICS.parse({"name": name, **tree})


def outcomes(rng: np.random.Generator, n: int, classes: int, outputs: int | None = None, levels: int = 0) -> Outcomes:
    """Random outcomes; ``levels`` > 0 draws scores from so few values that ties are common."""
    shape = (n, classes if outputs is None else outputs)
    scores = (rng.integers(0, levels, shape) if levels else rng.normal(size=shape)).astype(np.float32)
    predictions = (scores[:, 0] > 0).astype(np.int64) if shape[1] == 1 else scores.argmax(axis=1)
    return Outcomes(rng.integers(0, classes, n), predictions, scores, rng.normal(size=shape))


def cut(data: Outcomes, rows: Any) -> Outcomes:
    assert data.scores is not None
    assert data.targets is not None
    return Outcomes(data.labels[rows], data.predictions[rows], data.scores[rows], data.targets[rows])


def num_classes(name: str, tree: dict[str, Any]) -> int:
    binary = name in ("RocAuc", "PrAuc") and "multi_class" not in tree
    return 2 if binary else int(tree.get("num_classes", 6))


def softmax(data: Outcomes) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert data.scores is not None
    exact = np.exp(data.scores.astype(np.float64))
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))


# ------------------------------------------------------------------------------------------------ contract


def test_every_registered_metric_has_examples() -> None:
    assert set(EXAMPLES) <= set(METRICS.names())
    own = {name for name in METRICS.names() if METRICS.get(name).__module__.startswith("modyn.evaluator.metrics")}
    assert {name for name in own if not METRICS.get(name).__module__.endswith(".user")} == set(EXAMPLES)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_the_documented_examples_hold(name: str) -> None:
    assert METRICS.get(name).__doc__
    outcome = doctest.testmod(importlib.import_module(METRICS.get(name).__module__))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(("name", "tree"), CASES)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), levels=st.sampled_from([0, 2]))
def test_what_every_metric_keeps_to(name: str, tree: dict[str, Any], seed: int, n: int, levels: int) -> None:
    """Values are None or within the bounds, whatever the order of the samples."""
    plugin = metric(name, **tree)
    rng = np.random.default_rng(seed)
    data = outcomes(rng, n, num_classes(name, tree), levels=levels)
    value = plugin.score(data)
    assert value is None or type(value) is float
    if value is not None:
        low, high = plugin.bounds or (-np.inf, np.inf)
        assert low <= value <= high
    shuffled = plugin.score(cut(data, rng.permutation(n)))
    assert shuffled == (value if name in EXACT else pytest.approx(value, abs=1e-12))
    classes = plugin.score_classes(data)
    assert bool(classes) == bool(tree.get("per_class"))
    for label, own in classes.items():
        assert label in data.labels or label in data.predictions
        assert own is None or 0.0 <= own <= 1.0


@pytest.mark.parametrize(("name", "tree"), CASES)
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_statistics_of_stretches_add_up(name: str, tree: dict[str, Any], seed: int, cuts: list[int]) -> None:
    plugin = metric(name, **tree)
    if not isinstance(plugin, DecomposableMetric):
        return
    data = outcomes(np.random.default_rng(seed), 40, num_classes(name, tree), levels=3)
    edges = np.array(sorted([0, *cuts, 40]))
    rows = plugin.statistics(data, edges)
    for first in range(len(rows)):
        for last in range(first + 1, len(rows) + 1):
            together, part = rows[first:last].sum(axis=0), slice(edges[first], edges[last])
            value = float(plugin.values(together))
            if part.start == part.stop:
                assert np.isnan(value)
                assert not together.any()
                continue
            own = plugin.score(cut(data, part))
            expected = np.nan if own is None else own
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
            assert plugin.class_values(together) == pytest.approx(plugin.score_classes(cut(data, part)))
    assert plugin.values(np.stack([rows, rows])).shape == (2, len(rows))


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_perfect_model_scores_best(name: str, tree: dict[str, Any]) -> None:
    classes = num_classes(name, tree)
    labels = np.arange(60) % classes
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    sure = one_hot if metric(name, **tree).labels_are == "numbers" else one_hot * 100
    value = metric(name, **tree).score(Outcomes(labels, labels, sure, one_hot.astype(np.float64)))
    assert value == pytest.approx(1.0 if metric(name, **tree).greater_is_better else 0.0, abs=1e-12)


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_metric_that_needs_no_scores_ignores_them(name: str, tree: dict[str, Any]) -> None:
    plugin = metric(name, **tree)
    full = outcomes(np.random.default_rng(3), 50, num_classes(name, tree))
    bare = Outcomes(full.labels, full.predictions)
    if plugin.needs_scores:
        with pytest.raises(InvalidInputError, match=f"metric {name}"):
            plugin.score(bare)
    else:
        assert plugin.score(full) == plugin.score(bare)


@pytest.mark.parametrize(
    "name", [name for name in EXAMPLES if name not in ("MeanAbsoluteError", "MeanSquaredError", "R2")]
)
def test_the_transformer_key(name: str) -> None:
    for nothing in (None, "", "  \n"):
        plugin = metric(name, evaluation_transformer_function=nothing)
        assert plugin == metric(name)
        assert plugin.user_code is None
    code = "def evaluation_transformer_function(model_output):\n    return model_output.argmax(dim=1)\n"
    plugin = metric(name, evaluation_transformer_function=code)
    assert plugin.user_code == code
    assert plugin.needs_scores
    assert metric(name, evaluation_transformer_function="my_metrics:only_two").user_code == "my_metrics:only_two"
    for wrong, why in (("def other(x): return x", "must define a function named 'evaluation_tr"), ("a b", "compile")):
        with pytest.raises(ValidationError, match=why):
            metric(name, evaluation_transformer_function=wrong)


def test_digests_tell_configurations_and_code_apart() -> None:
    code = "my_metrics:only_two"
    plugins = [metric("Accuracy"), metric("Accuracy", topn=2), metric("F1Score")]
    transformed = metric("Accuracy", evaluation_transformer_function=code)
    digests = [metric_digest(plugin, None) for plugin in plugins]
    digests += [metric_digest(transformed, None), metric_digest(transformed, "a"), metric_digest(transformed, "b")]
    assert len(set(digests)) == 6
    assert metric_digest(METRICS.parse(METRICS.dump(plugins[1])), "a") == digests[1]
    infos = metric_infos([metric("LogLoss"), transformed], {"Accuracy": "a"}).metrics
    assert [(info.name, info.greater_is_better) for info in infos] == [("Log-Loss", False), ("Accuracy", True)]
    assert infos[1].digest == digests[4]


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_metric_survives_the_trip_through_a_message(name: str, tree: dict[str, Any]) -> None:
    plugin = metric(name, **tree)
    assert METRICS.parse(METRICS.dump(plugin)) == plugin


# ------------------------------------------------------------------------------------------------ scikit-learn


SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = outcomes(rng, int(rng.integers(1, 300)), 6)
    assert metric("Accuracy").score(data) == pytest.approx(sk.accuracy_score(data.labels, data.predictions), abs=1e-12)
    for topn in (2, 3, 5):
        expected = sk.top_k_accuracy_score(data.labels, data.scores, k=topn, labels=range(6))
        assert metric("Accuracy", topn=topn).score(data) == pytest.approx(expected, abs=1e-12)


COUNTED: dict[str, Callable[..., Any]] = {
    "F1Score": sk.f1_score,
    "Precision": sk.precision_score,
    "Recall": sk.recall_score,
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("far", [1, 100_000], ids=["dense", "sparse"])
def test_scores_of_class_counts_equal_scikit_learn(name: str, far: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))  # small ones lack classes
    labels, predictions = far * rng.integers(-3, 6, size), far * rng.integers(-3, 6, size)
    data = Outcomes(labels, predictions)
    for average in ("macro", "micro", "weighted"):
        value = metric(name, average=average).score(data)
        expected = COUNTED[name](labels, predictions, average=average, zero_division=np.nan)
        assert value == pytest.approx(None if np.isnan(expected) else expected, abs=1e-12)
    classes = np.unique([*labels, *predictions])
    expected = COUNTED[name](labels, predictions, average=None, labels=classes, zero_division=np.nan)
    by_class = metric(name, per_class=True).score_classes(data)
    assert list(by_class) == classes.tolist()
    assert [np.nan if value is None else value for value in by_class.values()] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("pos_label", [0, 1])
def test_binary_scores_equal_scikit_learn(name: str, pos_label: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 8))
    labels, predictions = rng.integers(0, 2, size), rng.integers(0, 2, size)
    value = metric(name, average="binary", pos_label=pos_label).score(Outcomes(labels, predictions))
    expected = COUNTED[name](labels, predictions, labels=[pos_label], average="macro", zero_division=np.nan)
    assert value == pytest.approx(None if np.isnan(expected) else expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_accuracy_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))
    labels, predictions = rng.integers(-1, 6, size), rng.integers(0, 9, size)
    data = Outcomes(labels, predictions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are only predicted
        expected = sk.balanced_accuracy_score(labels, predictions)
    assert metric("BalancedAccuracy").score(data) == pytest.approx(expected, abs=1e-12)
    shares = {label: float((predictions[labels == label] == label).mean()) for label in np.unique(labels).tolist()}
    assert metric("Accuracy", per_class=True).score_classes(data) == pytest.approx(shares)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [0, 2, 5])
def test_areas_equal_scikit_learn_with_and_without_ties(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 300))
    one, two = outcomes(rng, n, 2, outputs=1, levels=levels), outcomes(rng, n, 2, outputs=2, levels=levels)
    assert one.scores is not None
    rounded = np.round(softmax(two)[:, 1], 12)  # restores ties that exp splits
    for name, area in (("RocAuc", sk.roc_auc_score), ("PrAuc", sk.average_precision_score)):
        assert metric(name).score(one) == pytest.approx(area(one.labels, one.scores[:, 0]), abs=1e-12)
        assert metric(name).score(two) == pytest.approx(area(two.labels, rounded), abs=1e-9)
        both = np.mean([area(two.labels == 0, -rounded), area(two.labels == 1, rounded)])
        assert metric(name, multi_class="ovr").score(two) == pytest.approx(both, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_areas_of_many_classes_equal_scikit_learn(average: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(5), rng.integers(0, 5, 60)])
    data = Outcomes(labels, labels, rng.normal(size=(65, 5)).astype(np.float32))
    probabilities = softmax(data)
    roc = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average=average)
    assert metric("RocAuc", multi_class="ovr", average=average).score(data) == pytest.approx(roc, abs=1e-12)
    pr = sk.average_precision_score(np.eye(5)[labels], probabilities, average=average)
    assert metric("PrAuc", multi_class="ovr", average=average).score(data) == pytest.approx(pr, abs=1e-12)
    single = [sk.roc_auc_score(labels == label, probabilities[:, label]) for label in range(5)]
    by_class = metric("RocAuc", multi_class="ovr", per_class=True).score_classes(data)
    assert by_class == pytest.approx(dict(enumerate(single)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_losses_of_probabilities_equal_scikit_learn(outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 100)), max(outputs, 2)
    data = outcomes(rng, n, classes, outputs=outputs)
    assert data.scores is not None
    data = Outcomes(data.labels, data.predictions, data.scores * 30)  # some are as sure as float64 can say
    assert data.scores is not None
    exact = data.scores.astype(np.float64)
    if outputs == 1:  # the sigmoid is the softmax beside zero
        exact = np.concatenate([np.zeros_like(exact), exact], axis=1)
    probabilities = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    loss = sk.log_loss(data.labels, probabilities, labels=range(classes))
    assert metric("LogLoss").score(data) == pytest.approx(loss, rel=1e-9)
    brier = sk.brier_score_loss(data.labels, probabilities, labels=range(classes))
    assert metric("Brier").score(data) == pytest.approx(brier, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_equals_an_oracle(bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = outcomes(rng, int(rng.integers(1, 200)), 3, levels=int(rng.integers(0, 4)))
    differences, weights = [], []
    confidences = data.probabilities.max(axis=1)
    for b in range(1, bins + 1):
        inside = [i for i, c in enumerate(confidences) if (b - 1) / bins < c <= b / bins]
        if inside:
            right = np.mean(data.labels[inside] == data.predictions[inside])
            differences.append(abs(right - np.mean(confidences[inside])))
            weights.append(len(inside) / len(data))
    expected = float(np.dot(differences, weights))
    assert metric("CalibrationError", bins=bins).score(data) == pytest.approx(expected, abs=1e-12)
    largest = metric("CalibrationError", bins=bins, norm="max").score(data)
    assert largest == pytest.approx(max(differences), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_errors_of_numbers_equal_scikit_learn(offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, outputs = int(rng.integers(2, 100)), int(rng.integers(1, 4))
    targets = rng.normal(size=(n, outputs)) + offset
    scores = (targets + rng.normal(size=targets.shape)).astype(np.float32)
    nothing = np.zeros(n, dtype=np.int64)
    data = Outcomes(nothing, nothing, scores, targets)
    exact = scores.astype(np.float64)
    assert metric("MeanSquaredError").score(data) == pytest.approx(sk.mean_squared_error(targets, exact), rel=1e-12)
    assert metric("MeanAbsoluteError").score(data) == pytest.approx(sk.mean_absolute_error(targets, exact), rel=1e-12)
    assert metric("R2").score(data) == pytest.approx(sk.r2_score(targets, exact), rel=1e-9)


# ------------------------------------------------------------------------------------------------ edges


def test_names_in_reports() -> None:
    names = {METRICS.parse({"name": name, **tree}).result_name for name, tree in CASES}
    assert {"Accuracy", "Top-5-Accuracy", "Balanced-Accuracy", "Brier", "ECE-15", "MCE-4", "Log-Loss"} <= names
    assert {"F1-macro", "F1-micro", "F1-weighted", "F1-binary-1", "F1-binary-0", "Precision-macro"} <= names
    assert {"ROC-AUC", "ROC-AUC-ovr-weighted", "PR-AUC", "PR-AUC-ovr-macro", "MSE", "MAE", "R2"} <= names
    assert not any(mark in name for name in names for mark in "[]#")


LABELS = np.zeros(3, dtype=np.int64)
NO_NUMBER = np.array([[0.0, np.nan], [1, 1], [2, 3]], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "tree", "labels", "scores"),
    [
        ("RocAuc", {}, LABELS, np.arange(3)[:, None]),
        ("RocAuc", {}, LABELS + 1, np.arange(3)[:, None]),
        ("RocAuc", {}, np.array([0, 1, 1]), NO_NUMBER),
        ("RocAuc", {"multi_class": "ovr"}, LABELS, np.ones((3, 3))),
        ("PrAuc", {}, LABELS, np.arange(3)[:, None]),
        ("PrAuc", {}, LABELS + 1, NO_NUMBER),
        ("LogLoss", {}, LABELS, NO_NUMBER),
        ("Brier", {}, LABELS, NO_NUMBER),
        ("CalibrationError", {}, LABELS, NO_NUMBER),
        ("CalibrationError", {"norm": "max"}, LABELS, NO_NUMBER),
        ("Precision", {"average": "binary"}, LABELS + 1, None),
        ("Recall", {"average": "binary"}, LABELS, None),
        ("F1Score", {"average": "binary"}, LABELS, None),
        ("R2", {}, LABELS, np.arange(3)[:, None]),
        ("MeanSquaredError", {}, LABELS, NO_NUMBER[:, 1:]),
    ],
)
def test_what_is_undefined_has_no_value(name: str, tree: dict[str, Any], labels: Any, scores: Any) -> None:
    data = Outcomes(labels, LABELS, None if scores is None else scores.astype(np.float32))
    assert metric(name, **tree).score(data) is None


def test_classes_that_do_not_occur_are_left_out_of_means_over_classes() -> None:
    data = Outcomes(np.array([0, 0, 2]), LABELS, np.array([[3, 0, 1], [2, 0, 1], [1, 0, 2]], dtype=np.float32))
    assert metric("RocAuc", multi_class="ovr").score(data) == 1.0
    assert metric("PrAuc", multi_class="ovr", per_class=True).score_classes(data) == {0: 1.0, 2: 1.0}


def test_labels_the_model_has_no_class_for_are_never_right() -> None:
    data = Outcomes(np.array([-1, 7, 0]), LABELS, np.zeros((3, 3), dtype=np.float32))
    assert metric("Accuracy", topn=3).score(data) == pytest.approx(1 / 3)
    assert metric("LogLoss").score(data) == pytest.approx((2 * 52 * np.log(2) + np.log(3)) / 3)
    assert metric("Brier").score(data) == pytest.approx((2 * (1 / 3 + 1) + 2 / 3) / 3)
    assert metric("RocAuc", multi_class="ovr").score(data) == 0.5
    two = Outcomes(np.array([5]), LABELS[:1], np.array([[2.0, 1.0]], dtype=np.float32))
    assert metric("PrAuc", multi_class="ovr").score(two) is None


def test_equal_scores_rank_the_smaller_class_first() -> None:
    data = Outcomes(np.arange(4), np.zeros(4, dtype=np.int64), np.zeros((4, 4), dtype=np.float32))
    assert metric("Accuracy", topn=2).score(data) == 0.5


def test_scores_that_differ_in_the_last_bit_do_not_tie() -> None:
    below = np.nextafter(np.float32(1), np.float32(0))
    data = Outcomes(np.array([0, 1]), LABELS[:2], np.array([[below], [1]], dtype=np.float32))
    assert metric("RocAuc").score(data) == 1.0
    zeros = Outcomes(np.array([0, 1]), LABELS[:2], np.array([[-0.0], [0.0]], dtype=np.float32))
    assert metric("RocAuc").score(zeros) == 0.5


def test_labels_of_classes_count_as_numbers() -> None:
    data = Outcomes(np.array([1, 3]), LABELS[:2], np.array([[1.0], [1.0]], dtype=np.float32))
    assert metric("MeanSquaredError").score(data) == 2.0


@pytest.mark.parametrize(
    ("name", "tree", "data", "said"),
    [
        ("Accuracy", {"topn": 2}, ([0], [0], np.zeros((1, 1))), "topn: 2 needs one score per class"),
        ("F1Score", {"num_classes": 2}, ([2], [0], None), "num_classes: 2: a label is 2"),
        ("Precision", {"num_classes": 2}, ([0], [5], None), "a prediction is 5"),
        ("F1Score", {"num_classes": 2}, ([-1], [0], None), "a label is -1"),
        ("RocAuc", {}, ([2], [0], np.zeros((1, 2))), "a label is 2; expected only 0 and 1"),
        ("PrAuc", {}, ([1], [0], np.zeros((1, 3))), "3 outputs; expected one or two, so set multi_class: ovr"),
        ("R2", {}, ([1], [0], np.zeros((1, 3))), "has 3 outputs, but a label has 1 numbers"),
    ],
)
def test_outcomes_a_metric_cannot_take(name: str, tree: dict[str, Any], data: tuple[Any, Any, Any], said: str) -> None:
    labels, predictions, scores = data
    with pytest.raises(InvalidInputError, match=said):
        metric(name, **tree).score(Outcomes(np.array(labels), np.array(predictions), scores))


@pytest.mark.parametrize(
    ("name", "tree", "said"),
    [
        ("Accuracy", {"topn": 0}, "greater than 0"),
        ("F1Score", {"num_classes": 3, "average": "binary"}, "binary needs num_classes: 2"),
        ("Recall", {"num_classes": 2, "average": "binary", "pos_label": 2}, "expected 0 or 1"),
        ("Precision", {"average": "binary", "per_class": True}, "binary scores one class"),
        ("F1Score", {"num_classes": 2, "average": "mean"}, "macro"),
        ("RocAuc", {"per_class": True}, "needs multi_class: ovr"),
        ("CalibrationError", {"bins": 0}, "greater than 0"),
    ],
)
def test_bad_configurations(name: str, tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        metric(name, **tree)

from __future__ import annotations

import doctest
import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sk

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, Metric, Outcomes

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "Accuracy": [{}, {"topn": 2}, {"topn": 5}],
    "F1Score": [
        {"num_classes": 6},
        {"num_classes": 6, "average": "micro"},
        {"num_classes": 6, "average": "weighted"},
        {"num_classes": 2, "average": "binary"},
        {"num_classes": 2, "average": "binary", "pos_label": 0},
    ],
    "RocAuc": [{}],
}
"""At least one configuration per registered metric; a new metric adds its own here."""

CASES = [(name, tree) for name, trees in EXAMPLES.items() for tree in trees]


def metric(name: str, **tree: Any) -> Metric:
    return METRICS.parse({"name": name, **tree})


def outcomes(rng: np.random.Generator, n: int, classes: int, outputs: int | None = None, levels: int = 0) -> Outcomes:
    """Random outcomes; ``levels`` > 0 draws scores from so few values that ties are common."""
    shape = (n, classes if outputs is None else outputs)
    scores = (rng.integers(0, levels, shape) if levels else rng.normal(size=shape)).astype(np.float32)
    predictions = (scores[:, 0] > 0).astype(np.int64) if shape[1] == 1 else scores.argmax(axis=1)
    return Outcomes(rng.integers(0, classes, n), predictions, scores)


def num_classes(tree: dict[str, Any], name: str) -> int:
    return 2 if name == "RocAuc" else int(tree.get("num_classes", 6))


# ------------------------------------------------------------------------------------------------ contract


def test_every_registered_metric_has_examples() -> None:
    assert set(EXAMPLES) == set(METRICS.names())


@pytest.mark.parametrize("name", METRICS.names())
def test_the_documented_examples_hold(name: str) -> None:
    assert METRICS.get(name).__doc__
    outcome = doctest.testmod(importlib.import_module(METRICS.get(name).__module__))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_scores_do_not_depend_on_the_order_of_samples(name: str, tree: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    plugin = metric(name, **tree)
    given_ones = outcomes(rng, 200, num_classes(tree, name), levels=3)
    order = rng.permutation(200)
    assert given_ones.scores is not None
    shuffled = Outcomes(given_ones.labels[order], given_ones.predictions[order], given_ones.scores[order])
    assert plugin.score(shuffled) == plugin.score(given_ones)


@pytest.mark.parametrize(("name", "tree"), CASES)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), levels=st.sampled_from([0, 2]))
def test_scores_are_none_or_between_0_and_1(name: str, tree: dict[str, Any], seed: int, n: int, levels: int) -> None:
    value = metric(name, **tree).score(outcomes(np.random.default_rng(seed), n, num_classes(tree, name), levels=levels))
    assert value is None or 0.0 <= value <= 1.0
    assert value is None or type(value) is float


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_perfect_model_scores_1(name: str, tree: dict[str, Any]) -> None:
    classes = num_classes(tree, name)
    labels = np.arange(60) % classes
    perfect = Outcomes(labels, labels, np.eye(classes, dtype=np.float32)[labels])
    assert metric(name, **tree).score(perfect) == 1.0


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_metric_that_needs_no_scores_ignores_them(name: str, tree: dict[str, Any]) -> None:
    plugin = metric(name, **tree)
    if plugin.needs_scores:
        return
    full = outcomes(np.random.default_rng(3), 50, num_classes(tree, name))
    assert plugin.score(full) == plugin.score(Outcomes(full.labels, full.predictions))


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_metric_survives_the_trip_through_a_message(name: str, tree: dict[str, Any]) -> None:
    plugin = metric(name, **tree)
    assert METRICS.parse(METRICS.dump(plugin)) == plugin


@pytest.mark.parametrize(("name", "tree"), CASES)
@pytest.mark.parametrize("transformer", [None, "", "  \n"])
def test_the_published_transformer_key_is_accepted_when_empty(
    name: str, tree: dict[str, Any], transformer: str | None
) -> None:
    assert metric(name, **tree, evaluation_transformer_function=transformer) == metric(name, **tree)


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_an_inline_transformer_is_said_not_to_be_available(name: str, tree: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="not in this release yet") as caught:
        metric(name, **tree, evaluation_transformer_function="def evaluation_transformer_function(x): return x")
    assert [error["type"] for error in caught.value.errors()] == ["modyn_planned"]


# ------------------------------------------------------------------------------------------------ scikit-learn


SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = outcomes(rng, int(rng.integers(1, 300)), 6)
    assert metric("Accuracy").score(data) == pytest.approx(sk.accuracy_score(data.labels, data.predictions), abs=1e-12)
    for topn in (2, 3, 5):
        expected = sk.top_k_accuracy_score(data.labels, data.scores, k=topn, labels=range(6))
        assert metric("Accuracy", topn=topn).score(data) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1_equals_scikit_learn(average: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 60))  # small ones lack classes
    labels, predictions = rng.integers(0, 9, size), rng.integers(0, 9, size)
    value = metric("F1Score", num_classes=9, average=average).score(Outcomes(labels, predictions))
    assert value == pytest.approx(sk.f1_score(labels, predictions, average=average, zero_division=np.nan), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pos_label", [0, 1])
def test_binary_f1_equals_scikit_learn(pos_label: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 8))
    labels, predictions = rng.integers(0, 2, size), rng.integers(0, 2, size)
    plugin = metric("F1Score", num_classes=2, average="binary", pos_label=pos_label)
    assert plugin.result_name == f"F1-binary-{pos_label}"
    value = plugin.score(Outcomes(labels, predictions))
    if not (labels == pos_label).any() and not (predictions == pos_label).any():
        assert value is None
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sk.f1_score(labels, predictions, pos_label=pos_label)
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [0, 2, 5])
def test_roc_auc_equals_scikit_learn_with_and_without_ties(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = outcomes(rng, 200, 2, outputs=1, levels=levels)
    assert one.scores is not None
    assert metric("RocAuc").score(one) == pytest.approx(sk.roc_auc_score(one.labels, one.scores[:, 0]), abs=1e-12)
    two = outcomes(rng, 200, 2, outputs=2, levels=levels)
    assert two.scores is not None
    exact = two.scores.astype(np.float64)
    softmax = np.exp(exact[:, 1]) / np.exp(exact).sum(axis=1)
    expected = sk.roc_auc_score(two.labels, np.round(softmax, 12))  # rounding restores ties that exp splits
    assert metric("RocAuc").score(two) == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------------------------------------ edges


def test_names_in_reports() -> None:
    names = {
        metric("Accuracy").result_name,
        metric("Accuracy", topn=5).result_name,
        metric("RocAuc").result_name,
        *(metric("F1Score", num_classes=3, average=a).result_name for a in ("macro", "micro", "weighted")),
    }
    assert names == {"Accuracy", "Top-5-Accuracy", "ROC-AUC", "F1-macro", "F1-micro", "F1-weighted"}


@pytest.mark.parametrize("label", [0, 1])
def test_roc_auc_of_one_class_is_undefined(label: int) -> None:
    labels = np.full(5, label)
    assert metric("RocAuc").score(Outcomes(labels, labels, np.arange(5, dtype=np.float32)[:, None])) is None


def test_roc_auc_of_scores_that_are_no_numbers_is_undefined() -> None:
    labels = np.array([0, 1])
    assert metric("RocAuc").score(Outcomes(labels, labels, np.array([[np.nan], [1]], dtype=np.float32))) is None


def test_equal_scores_rank_the_smaller_class_first() -> None:
    scores = np.zeros((4, 4), dtype=np.float32)
    data = Outcomes(np.arange(4), np.zeros(4, dtype=np.int64), scores)
    assert metric("Accuracy", topn=2).score(data) == 0.5


def test_labels_the_model_has_no_class_for_are_never_right() -> None:
    data = Outcomes(np.array([-1, 7, 0]), np.zeros(3, dtype=np.int64), np.zeros((3, 3), dtype=np.float32))
    assert metric("Accuracy", topn=3).score(data) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "tree", "data", "said"),
    [
        (
            "Accuracy",
            {"topn": 2},
            (np.array([0]), np.array([0]), np.zeros((1, 1))),
            "topn: 2 needs one score per class",
        ),
        ("F1Score", {"num_classes": 2}, (np.array([2]), np.array([0]), None), "num_classes: 2: a label is 2"),
        ("F1Score", {"num_classes": 2}, (np.array([0]), np.array([5]), None), "a prediction is 5"),
        ("F1Score", {"num_classes": 2}, (np.array([-1]), np.array([0]), None), "a label is -1"),
        ("RocAuc", {}, (np.array([2]), np.array([0]), np.zeros((1, 2))), "a label is 2; expected only 0 and 1"),
        ("RocAuc", {}, (np.array([1]), np.array([0]), np.zeros((1, 3))), "3 outputs; expected one or two"),
    ],
)
def test_outcomes_a_metric_cannot_take(name: str, tree: dict[str, Any], data: tuple[Any, Any, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        metric(name, **tree).score(Outcomes(*data))


@pytest.mark.parametrize(
    ("name", "tree", "said"),
    [
        ("Accuracy", {"topn": 0}, "greater than 0"),
        ("F1Score", {}, "num_classes"),
        ("F1Score", {"num_classes": 3, "average": "binary"}, "binary needs num_classes: 2"),
        ("F1Score", {"num_classes": 2, "average": "binary", "pos_label": 2}, "expected 0 or 1"),
        ("F1Score", {"num_classes": 2, "average": "mean"}, "macro"),
    ],
)
def test_bad_configurations(name: str, tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        metric(name, **tree)

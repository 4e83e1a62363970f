"""Scores of many windows against a slow scorer: one window, one metric, one slice after the other."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, DecomposableMetric, Metric, Outcomes
from modyn.core.scores import ScoreName
from modyn.evaluator import window_values
from modyn.evaluator.baselines import BASELINES, Labelled
from modyn.evaluator.metrics import Accuracy
from modyn.evaluator.outcomes import ModelOutcomes
from modyn.evaluator.predictions import Predictions
from modyn.evaluator.scoring import ScoringOptions, score_baselines, score_model
from modyn.evaluator.sums import count_stretches, range_sums, sum_stretches
from modyn.evaluator.truth import MAX_SLICE_VALUES, Truth, WindowSlices, subsets_of
from modyn.proto.evaluator_pb2 import EvaluateFailure, WindowScores

METRIC_TREES: list[dict[str, Any]] = [
    {"name": "Accuracy", "per_class": True},
    {"name": "F1Score", "per_class": True},
    {"name": "Precision", "average": "weighted"},
    {"name": "BalancedAccuracy"},
    {"name": "LogLoss"},
    {"name": "CalibrationError", "bins": 5},
    {"name": "RocAuc", "multi_class": "ovr", "per_class": True},
    {"name": "MeanAbsoluteError"},
    {"name": "R2"},
]
PLAIN = ScoringOptions()


def metrics(*trees: dict[str, Any]) -> list[Metric]:
    return [METRICS.parse(tree) for tree in trees]


def truth(parts: list[tuple[int, int]], labels: Any, **more: Any) -> Truth:
    slices = tuple(slice(*part) for part in parts)
    return Truth(WindowSlices(slices, tuple(range(len(parts)))), labels, **more)


def said(data: Outcomes, hull: slice) -> Predictions:
    keys = np.arange(hull.start, hull.stop)
    predictions = Predictions(keys, np.ones(len(keys), dtype=np.bool_))
    scores = None if data.scores is None else data.scores[hull]
    predictions.add(ModelOutcomes(keys, data.predictions[hull], scores), keep_scores=scores is not None)
    return predictions


def score(
    data: Outcomes, windows: list[int], about: Truth, plugins: list[Metric], options: ScoringOptions = PLAIN
) -> tuple[list[WindowScores], list[EvaluateFailure]]:
    hull = slice(0, len(data)) if about.rows is not None else about.windows.hull(windows)
    events = list(
        score_model(
            "m", windows, truth=about, hull=hull, predictions=said(data, hull), metrics=plugins, options=options
        )
    )
    scores = [event for event in events if isinstance(event, WindowScores)]
    return scores, [event for event in events if isinstance(event, EvaluateFailure)]


def values(scores: WindowScores) -> dict[str, float | None]:
    return {value.name: value.value if value.HasField("value") else None for value in scores.metrics}


def random_outcomes(rng: np.random.Generator, n: int) -> Outcomes:
    scores = rng.integers(-3, 4, (n, 3)).astype(np.float32)
    return Outcomes(rng.integers(0, 4, n), scores.argmax(axis=1), scores, rng.normal(size=(n, 3)))


def random_parts(rng: np.random.Generator, n: int, count: int) -> list[tuple[int, int]]:
    ends = np.sort(rng.integers(0, n + 1, (count, 2)), axis=1)
    return [(int(start), int(stop)) for start, stop in ends]


def oracle(data: Outcomes, part: list[int], plugins: list[Metric], columns: dict[str, list[Any]]) -> dict[str, Any]:
    """All values of a window that is made of some samples."""
    expected: dict[str, Any] = {}
    groups = [("", part)]
    for name, column in columns.items():
        groups += [(f"{name}={value}", [i for i in part if column[i] == value]) for value in dict.fromkeys(column)]
    for subset, rows in groups:
        if not rows:
            continue
        assert data.scores is not None
        assert data.targets is not None
        own = Outcomes(data.labels[rows], data.predictions[rows], data.scores[rows], data.targets[rows])
        for plugin in plugins:
            expected[str(ScoreName(plugin.result_name, subset))] = plugin.score(own)
            for label, value in plugin.score_classes(own).items():
                expected[str(ScoreName(plugin.result_name, subset, label))] = value
    return expected


def assert_equal(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-8, abs=1e-12)), name


# ------------------------------------------------------------------------------------------------ names


@given(
    metric=st.text(min_size=1).filter(lambda text: not set(text) & set("[]#")),
    part=st.just("") | st.builds(lambda column, value: f"{column}={value}", st.text(min_size=1), st.text()),
    label=st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_names_of_scores_survive_as_text(metric: str, part: str, label: int | None) -> None:
    name = ScoreName(metric, part, label)
    assert ScoreName.parse(str(name)) == name


# ------------------------------------------------------------------------------------------------ sums


@pytest.mark.parametrize("seed", range(12))
def test_sums_equal_direct_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, width = int(rng.integers(0, 300)), int(rng.integers(1, 5))
    edges = np.sort(np.concatenate([[0], rng.integers(0, n + 1, rng.integers(0, 20)), [n]]))
    stretches = [slice(a, b) for a, b in itertools.pairwise(edges)]
    columns, weights = rng.integers(0, width, n), rng.normal(size=n)
    counts = count_stretches(columns, edges, width)
    assert counts.tolist() == [[float(np.sum(columns[s] == c)) for c in range(width)] for s in stretches]
    weighed = count_stretches(columns, edges, width, weights=weights)
    assert weighed == pytest.approx(
        np.array([[weights[s][columns[s] == c].sum() for c in range(width)] for s in stretches])
    )
    assert sum_stretches(weights, edges) == pytest.approx([weights[s].sum() for s in stretches])
    assert sum_stretches(columns > 0, edges).tolist() == [float(np.sum(columns[s] > 0)) for s in stretches]
    ranges = np.sort(rng.integers(0, len(counts) + 1, (50, 2)), axis=1)
    sums = range_sums(counts, ranges[:, 0], ranges[:, 1])
    assert sums.tolist() == [counts[a:b].sum(axis=0).tolist() for a, b in ranges]


def test_counts_of_more_samples_than_fit_into_one_chunk() -> None:
    rng = np.random.default_rng(0)
    columns, edges = rng.integers(0, 3, 400_000), np.array([0, 0, 10, 131_072, 131_073, 399_999, 400_000, 400_000])
    direct = [np.bincount(columns[a:b], minlength=3) for a, b in itertools.pairwise(edges)]
    assert (count_stretches(columns, edges, 3) == np.array(direct)).all()


def test_small_sums_beside_large_ones_keep_their_digits() -> None:
    rows = np.array([[1e16], [1.0], [1e-3], [1e16]])
    assert range_sums(rows, np.array([1, 2]), np.array([3, 3])).tolist() == [[1.001], [0.001]]


# ------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("budget", [1 << 24, 40], ids=["all at once", "in groups"])
def test_windows_equal_the_slow_scorer(seed: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that overlap, touch, leave gaps and are empty; slices; some of the windows only."""
    monkeypatch.setattr(window_values, "_BUDGET", budget)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 120))
    data, parts = random_outcomes(rng, n), random_parts(rng, n, int(rng.integers(1, 9)))
    columns = {"region": [f"r{i}" for i in rng.integers(0, 3, n)], "night": rng.integers(0, 2, n).tolist()}
    subsets = subsets_of({name: pa.array(column) for name, column in columns.items()})
    about = truth(parts, data.labels, targets=data.targets, subsets=subsets)
    windows = sorted(rng.choice(len(parts), int(rng.integers(1, len(parts) + 1)), replace=False).tolist())
    plugins = metrics(*METRIC_TREES)
    confidence = 0.9 if seed % 2 else None
    scores, failures = score(data, windows, about, plugins, ScoringOptions(confidence, confusion=True))
    assert not failures
    assert [own.window for own in scores] == windows
    for own in scores:
        part = list(range(*parts[own.window]))
        assert (own.num_samples, own.num_unlabelled) == (len(part), own.window)
        assert_equal(values(own), oracle(data, part, plugins, columns))
        pairs = Counter((int(data.labels[i]), int(data.predictions[i])) for i in part)
        counted = own.confusion
        assert dict(zip(zip(counted.labels, counted.predictions, strict=True), counted.counts, strict=True)) == pairs


@pytest.mark.parametrize("seed", range(10))
def test_windows_with_labels_of_their_own(seed: int) -> None:
    """A sample may have another label in each window, or none."""
    rng = np.random.default_rng(seed)
    n = 60
    data, parts = random_outcomes(rng, n), random_parts(rng, n, 5)
    column = [f"r{i}" for i in rng.integers(0, 2, n)]
    rows = [np.array([i for i in range(*part) if rng.random() < 0.7], dtype=np.int64) for part in parts]
    labels = [rng.integers(0, 4, len(own)) for own in rows]
    stops = np.cumsum([0, *map(len, rows)]).tolist()
    together = np.concatenate(rows)
    about = truth(
        list(itertools.pairwise(stops)),
        np.concatenate(labels),
        rows=together,
        subsets=subsets_of({"region": pa.array(column).take(pa.array(together))}),
    )
    plugins = metrics({"name": "F1Score"}, {"name": "LogLoss"})
    for window, own in zip([1, 3], score(data, [1, 3], about, plugins)[0], strict=True):
        relabelled = data.labels.copy()
        relabelled[rows[window]] = labels[window]
        assert own.num_samples == len(rows[window])
        renewed = Outcomes(relabelled, data.predictions, data.scores, data.targets)
        assert_equal(values(own), oracle(renewed, rows[window].tolist(), plugins, {"region": column}))


def test_classes_far_apart_in_many_windows() -> None:
    rng = np.random.default_rng(5)
    classes = rng.integers(-(10**12), 10**12, 300)
    labels, predictions = rng.choice(classes, 2000), rng.choice(classes, 2000)
    predictions[::3] = labels[::3]
    parts = [(start, start + 100) for start in range(0, 1900, 50)]
    plugins = metrics({"name": "F1Score", "per_class": True}, {"name": "Accuracy"})
    scores, _ = score(Outcomes(labels, predictions), list(range(38)), truth(parts, labels), plugins)
    for own in scores:
        part = slice(*parts[own.window])
        whole = Outcomes(labels[part], predictions[part])
        assert values(own)["F1-macro"] == pytest.approx(plugins[0].score(whole))
        by_class = {f"F1-macro#{label}": value for label, value in plugins[0].score_classes(whole).items()}
        assert {name: value for name, value in values(own).items() if "#" in name} == pytest.approx(by_class)


def test_overlapping_windows_cost_each_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = Accuracy.statistics

    def counted(self: Accuracy, outcomes: Outcomes, edges: Any) -> Any:
        seen.append(len(outcomes))
        return real(self, outcomes, edges)

    monkeypatch.setattr(METRICS.get("Accuracy"), "statistics", counted)
    data = random_outcomes(np.random.default_rng(0), 5000)
    parts = [(start, start + 1000) for start in range(0, 4001, 100)]
    score(data, list(range(len(parts))), truth(parts, data.labels), metrics({"name": "Accuracy"}))
    assert sum(seen) <= 5000 + 5


# ------------------------------------------------------------------------------------------------ intervals


def test_intervals_hold_the_values_and_depend_on_nothing_else() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 3000)
    right = rng.random(3000) < 0.8
    margin = (np.where(right, 1, -1) * (2 * labels - 1) * rng.random(3000)).astype(np.float32)[:, None]
    data = Outcomes(labels, (margin[:, 0] > 0).astype(np.int64), margin)
    plugins = metrics({"name": "Accuracy"}, {"name": "F1Score"}, {"name": "LogLoss"}, {"name": "RocAuc"})
    subsets = subsets_of({"even": pa.array(np.arange(3000) % 2 == 0)})
    about = truth([(0, 1000), (500, 3000), (1000, 1005)], labels, subsets=subsets)
    options = ScoringOptions(0.95)
    scores, _ = score(data, [0, 1, 2], about, plugins, options)
    for own in scores[:2]:
        for value in own.metrics:
            assert value.low < value.value < value.high
            assert value.high - value.low < 0.2
    widths = [scores[i].metrics[0].high - scores[i].metrics[0].low for i in (0, 1)]
    assert widths[1] < widths[0]
    for value, again in zip(scores[1].metrics, score(data, [1], about, plugins, options)[0][0].metrics, strict=True):
        assert value.name == again.name
        found = (again.value, again.low, again.high)
        assert found == pytest.approx((value.value, value.low, value.high), abs=1e-12)
    assert not any(value.HasField("low") for own in score(data, [0], about, plugins)[0] for value in own.metrics)


def test_intervals_stay_within_the_bounds_of_the_metric() -> None:
    labels = np.zeros(400, dtype=np.int64)
    predictions = labels.copy()
    predictions[::100] = 1
    plugins = metrics({"name": "Accuracy"}, {"name": "F1Score", "average": "micro"})
    (own,), _ = score(Outcomes(labels, predictions), [0], truth([(0, 400)], labels), plugins, ScoringOptions(0.95))
    for value in own.metrics:
        assert 0.9 < value.low < 0.99 < value.high <= 1.0


def test_metrics_of_all_samples_at_once_have_no_intervals_for_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_values, "MAX_HOLISTIC_INTERVAL_SAMPLES", 150)
    data = random_outcomes(np.random.default_rng(0), 200)
    plugins = metrics({"name": "RocAuc", "multi_class": "ovr"}, {"name": "Accuracy"})
    about = truth([(0, 100), (100, 200)], data.labels)
    for windows, expected in (([0], True), ([0, 1], False)):
        scores, _ = score(data, windows, about, plugins, ScoringOptions(0.95))
        assert [own.metrics[0].HasField("low") for own in scores] == [expected] * len(windows)
        assert all(own.metrics[1].HasField("low") for own in scores)


def test_metrics_that_are_sums_have_no_intervals_for_very_many_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_outcomes(np.random.default_rng(0), 200)
    plugins = metrics({"name": "F1Score"}, {"name": "Accuracy"})
    about = truth([(0, 100), (100, 200)], data.labels)
    plain, _ = score(data, [0, 1], about, plugins)
    monkeypatch.setattr(window_values, "MAX_INTERVAL_STATISTICS", 2 * 3 * 4)
    for windows, expected in (([0], True), ([0, 1], False)):
        scores, _ = score(data, windows, about, plugins, ScoringOptions(0.95))
        assert [own.metrics[0].HasField("low") for own in scores] == [expected] * len(windows)
        assert all(own.metrics[1].HasField("low") for own in scores)
        assert [values(own) for own in scores] == [values(own) for own in plain[: len(windows)]]


# ------------------------------------------------------------------------------------------------ failures


class Fragile(Accuracy):
    """Refuses windows with the label 9, and falls over 8."""

    def statistics(self, outcomes: Outcomes, edges: Any) -> Any:
        if (outcomes.labels == 9).any():
            raise InvalidInputError("no label may be 9")
        if (outcomes.labels == 8).any():
            raise ZeroDivisionError("eight")
        return super().statistics(outcomes, edges)


def test_a_metric_that_fails_on_a_window_keeps_the_others() -> None:
    labels = np.array([0, 1, 9, 1, 0, 8, 1])
    fragile: DecomposableMetric = Fragile(topn=1)
    data = Outcomes(labels, np.ones(7, dtype=np.int64))
    about = truth([(0, 2), (2, 4), (3, 5), (5, 6), (6, 6)], labels)
    strict = METRICS.parse({"name": "F1Score", "num_classes": 2})
    plain = METRICS.parse({"name": "BalancedAccuracy"})
    scores, failures = score(data, list(range(5)), about, [fragile, strict, plain])
    assert [values(own).get("Accuracy") for own in scores] == [0.5, None, 0.5, None, None]
    assert [sorted(values(own)) for own in scores] == [
        ["Accuracy", "Balanced-Accuracy", "F1-macro"],
        ["Balanced-Accuracy"],
        ["Accuracy", "Balanced-Accuracy", "F1-macro"],
        ["Balanced-Accuracy"],
        [],
    ]
    assert [(own.model, own.metric, own.window) for own in failures] == [
        ("m", "Accuracy", 1),
        ("m", "Accuracy", 3),
        ("m", "F1-macro", 1),
        ("m", "F1-macro", 3),
    ]
    assert failures[0].message == "no label may be 9"
    assert "ZeroDivisionError: eight" in failures[1].message
    assert "a label is 9" in failures[2].message


def test_a_metric_that_fails_everywhere_says_so_once() -> None:
    labels = np.full(6, 5)
    data = Outcomes(labels, labels)
    plugins = metrics({"name": "F1Score", "num_classes": 3}, {"name": "Accuracy"})
    subsets = subsets_of({"half": pa.array([0, 0, 0, 1, 1, 1])})
    about = truth([(0, 3), (2, 6), (6, 6)], labels, subsets=subsets)
    scores, failures = score(data, [0, 1, 2], about, plugins)
    (failure,) = failures
    assert (failure.metric, failure.HasField("window")) == ("F1-macro", False)
    assert values(scores[1]) == {"Accuracy": 1.0, "Accuracy[half=0]": 1.0, "Accuracy[half=1]": 1.0}
    labelled = Labelled(np.arange(6), labels, np.arange(6))
    events = list(score_baselines(labelled, [0, 1], truth=about, metrics=plugins, options=PLAIN))
    messages = [event.message for event in events if isinstance(event, EvaluateFailure)]
    assert len(messages) == len(BASELINES)
    assert messages[0].startswith("baseline majority_class: metric F1Score")


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_label_that_is_no_number_makes_its_windows_undefined_alone(odd: float) -> None:
    data = random_outcomes(np.random.default_rng(0), 100)
    assert data.targets is not None
    data.targets[70, 1] = odd
    plugins = metrics({"name": "R2"}, {"name": "MeanSquaredError"})
    about = truth([(0, 50), (40, 100), (71, 100)], data.labels, targets=data.targets)
    scores, failures = score(data, [0, 1, 2], about, plugins)
    assert not failures
    assert [[value is None for value in values(own).values()] for own in scores] == [[own == 1] * 2 for own in range(3)]


def test_what_is_infinite_has_no_value() -> None:
    scores = np.array([[np.inf], [1.0]], dtype=np.float32)
    data = Outcomes(np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64), scores, np.zeros((2, 1)))
    about = truth([(0, 2), (1, 2)], None, targets=data.targets)
    plugins = metrics({"name": "MeanSquaredError"}, {"name": "LogLoss"})
    found, failures = score(data, [0, 1], about, plugins, ScoringOptions(0.95, confusion=True))
    assert not failures
    assert values(found[0]) == {"MSE": None, "Log-Loss": None}
    assert values(found[1])["MSE"] == 1.0
    assert not found[0].HasField("confusion")


# ------------------------------------------------------------------------------------------------ baselines, slices


@pytest.mark.parametrize("known", [0, 7], ids=["labels at once", "late labels"])
def test_baselines_equal_the_slow_scorer(known: int) -> None:
    rng = np.random.default_rng(3)
    n = 80
    labels, timestamps = rng.integers(0, 3, n), np.sort(rng.integers(0, 40_000, n))
    column = [f"r{i}" for i in rng.integers(0, 2, n)]
    data = Labelled(timestamps, labels, timestamps + 1000 * known)
    parts = [(0, 30), (10, 50), (50, 50), (40, 80)]
    plugins = metrics({"name": "Accuracy"}, {"name": "F1Score", "per_class": True}, {"name": "LogLoss"})
    about = truth(parts, labels, subsets=subsets_of({"region": pa.array(column)}))
    options = ScoringOptions(0.95, confusion=True)
    events = [
        event
        for event in score_baselines(data, [0, 2, 3], truth=about, metrics=plugins, options=options)
        if isinstance(event, WindowScores)
    ]
    assert [(event.baseline, event.window) for event in events] == [(b, w) for b in BASELINES for w in (0, 2, 3)]
    for event in events:
        answered = BASELINES[event.baseline](data)
        part = list(range(*parts[event.window]))
        defined = [i for i in part if answered.defined[i]]
        assert (event.num_samples, event.num_undefined) == (len(part), len(part) - len(defined))
        whole = Outcomes(labels, answered.predictions, np.zeros((n, 3), dtype=np.float32), np.zeros((n, 3)))
        expected = oracle(whole, defined, plugins, {"region": column})
        assert_equal(values(event), {k: None if k.startswith("Log-Loss") else v for k, v in expected.items()})
        assert not event.HasField("confusion")
    about = truth(parts, None, targets=np.zeros((n, 1)))
    assert not list(score_baselines(data, [0], truth=about, metrics=plugins, options=options))


def test_slices_are_named_by_column_and_value() -> None:
    columns = {
        "region": pa.array(["NSW", None, "null", "NSW"]),
        "hour": pa.array([10, 9, -1, 10]),
        "night": pa.array([True, False, False, True]),
    }
    found = {subset.name: subset.positions.tolist() for subset in subsets_of(columns)}
    assert list(found.items()) == [
        ("region=null", [1]),
        ("region=NSW", [0, 3]),
        ('region="null"', [2]),
        ("hour=-1", [2]),
        ("hour=9", [1]),
        ("hour=10", [0, 3]),
        ("night=false", [1, 2]),
        ("night=true", [0, 3]),
    ]
    assert not subsets_of({"region": pa.array([], pa.string())})
    with pytest.raises(InvalidInputError, match=r"column 'price' has 1,000 different values; expected at most"):
        subsets_of({"price": pa.array(np.arange(1000))})
    assert len(subsets_of({"day": pa.array(np.arange(MAX_SLICE_VALUES))})) == MAX_SLICE_VALUES


def test_confusion_of_too_many_classes_is_left_out() -> None:
    labels = np.arange(60)
    data = Outcomes(labels, labels % 7)
    about = truth([(0, 60), (0, 50)], labels)
    options = ScoringOptions(confusion=True)
    plugins = metrics({"name": "Accuracy"})
    assert not any(own.HasField("confusion") for own in score(data, [0, 1], about, plugins, options)[0])
    (own,), _ = score(data, [1], about, plugins, options)
    assert sum(own.confusion.counts) == 50

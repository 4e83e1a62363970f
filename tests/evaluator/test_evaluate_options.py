"""What a request may ask for beyond plain scores, through the rpc: numbers, labels as known, roles, slices, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from modyn.core.errors import InvalidInputError
from modyn.proto.evaluator_pb2 import CERTIFIED, CROSS_VALIDATION
from modyn.proto.storage_pb2 import TEST, RegisterDatasetRequest
from tests.helpers.evaluating import EvaluationServer, plain_loop
from tests.helpers.labelling import set_labels

N = 120
RNG = np.random.default_rng(6)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
COLUMNS = {f"x{i}": FEATURES[:, i] for i in range(4)}
LABELS = RNG.integers(0, 3, N)
REGRESSION: dict[str, Any] = {"id": "MLP", "config": {"in_features": 4, "num_classes": 1}}
WINDOWS = [(0, 60), (30, N)]


@pytest.mark.parametrize("transformed", [False, True])
def test_labels_that_are_numbers(server: EvaluationServer, transformed: bool) -> None:
    targets = RNG.normal(size=N)
    name = server.dataset(targets, np.arange(N), **COLUMNS)
    model = server.model(1, REGRESSION)
    source = "def label_transformer_function(y):\n    return 2 * y\n"
    answer = server.evaluate(
        name,
        WINDOWS,
        {model: [0, 1]},
        model=REGRESSION,
        metrics=[{"name": "MeanSquaredError"}, {"name": "R2"}],
        data={"label_transformer_function": source} if transformed else None,
        baselines=True,
        confusion=True,
    )
    said, expected = plain_loop(1, FEATURES, REGRESSION)[:, 0], targets * (1 + transformed)
    for index, (start, end) in enumerate(WINDOWS):
        rows = slice(start, end)
        values = {metric.name: metric.value for metric in answer.scores[model, index].metrics}
        assert list(values.values()) == pytest.approx(
            [sk.mean_squared_error(expected[rows], said[rows]), sk.r2_score(expected[rows], said[rows])], rel=1e-4
        )
        assert not answer.scores[model, index].HasField("confusion")
    assert {subject for subject, _ in answer.scores} == {model}
    with pytest.raises(InvalidInputError, match=r"need (integer classes|one integer class)"):
        server.evaluate(
            name,
            WINDOWS,
            {model: [0]},
            model=REGRESSION,
            metrics=[{"name": "MeanSquaredError"}, {"name": "Accuracy"}],
            data={"label_transformer_function": source} if transformed else None,
        )


def test_each_window_is_scored_with_the_labels_known_at_its_end(server: EvaluationServer) -> None:
    name = server.dataset(LABELS, np.arange(N), **COLUMNS)
    corrected, late = np.arange(20, 40), np.arange(50, 60)
    set_labels(server.peers, name, "corrections", corrected, [(label + 1) % 3 for label in LABELS[corrected]], 70)
    set_labels(server.peers, name, "late", late, [0] * len(late), 60)
    model, said = server.model(1), plain_loop(1, FEATURES).argmax(axis=1)
    newest = LABELS.copy()
    newest[corrected] = (newest[corrected] + 1) % 3
    newest[late] = 0
    windows = [(0, 60), (0, 70), (30, N)]
    asked = {model: [0, 1, 2]}
    answer = server.evaluate(name, windows, asked, labels_as_known=True, label_delay=5, baselines=True)
    for index, (start, end) in enumerate(windows):
        keys = np.arange(start, end)
        labels = np.where(np.isin(keys, corrected) & (end < 70), LABELS[keys], newest[keys])
        # What came with its sample is known five seconds later; what came as a correction when it says.
        known = (keys + 5 <= end) | ((end >= 60) & np.isin(keys, late)) | ((end >= 70) & np.isin(keys, corrected))
        score = answer.scores[model, index]
        assert (score.num_samples, score.num_unlabelled) == (known.sum(), (~known).sum())
        assert answer.value(model, index) == pytest.approx(np.mean(said[keys][known] == labels[known]))
        assert answer.scores["last_label", index].num_samples == known.sum()
    plain = server.evaluate(name, windows, asked)
    assert plain.value(model, 0) == pytest.approx(np.mean(said[:60] == newest[:60]))
    assert answer.predictions == plain.predictions - 4  # the last four have no label in any window


def test_scores_on_test_samples_alone_are_certified(server: EvaluationServer) -> None:
    server.peers.storage.RegisterDataset(RegisterDatasetRequest(name="certified", role=TEST))
    server.extend("certified", LABELS, np.arange(N), **COLUMNS)
    plain, model = server.dataset(LABELS, np.arange(N), **COLUMNS), server.model(1)
    certified = server.evaluate("certified", WINDOWS, {model: [0, 1]}, test_only=True)
    crossed = server.evaluate(plain, WINDOWS, {model: [0, 1]})
    nothing = server.evaluate(plain, WINDOWS, {model: [0, 1]}, test_only=True)
    assert {score.certification for score in certified.scores.values()} == {CERTIFIED}
    assert {score.certification for score in crossed.scores.values()} == {CROSS_VALIDATION}
    assert {score.num_samples for score in nothing.scores.values()} == {0}
    for key, score in certified.scores.items():
        assert score.data_digest == crossed.scores[key].data_digest != ""
    assert len({score.data_digest for score in certified.scores.values()}) == len(WINDOWS)


def test_slices_counts_intervals_and_what_metrics_mean(server: EvaluationServer) -> None:
    regions = np.where(np.arange(N) % 3 == 0, "north", "south")
    name = server.dataset(LABELS, np.arange(N), region=regions, **COLUMNS)
    model, said = server.model(1), plain_loop(1, FEATURES).argmax(axis=1)
    request = server.request(
        name,
        WINDOWS,
        {model: [0, 1]},
        data={"parser": {"name": "columns", "columns": list(COLUMNS)}},
        slices=["region"],
        confusion=True,
        confidence=0.9,
    )
    events = list(server.peers.evaluator.Evaluate(request))
    assert [(info.name, info.greater_is_better) for info in events[0].metrics.metrics] == [("Accuracy", True)]
    assert events[0].metrics.metrics[0].digest
    scores = {event.scores.window: event.scores for event in events if event.HasField("scores")}
    for index, (start, end) in enumerate(WINDOWS):
        right = (said == LABELS)[start:end]
        north = (regions == "north")[start:end]
        values = {metric.name: metric for metric in scores[index].metrics}
        assert values["Accuracy"].low < values["Accuracy"].value < values["Accuracy"].high
        assert values["Accuracy[region=north]"].value == pytest.approx(right[north].mean())
        assert values["Accuracy[region=south]"].value == pytest.approx(right[~north].mean())
        counted = scores[index].confusion
        found = dict(zip(zip(counted.labels, counted.predictions, strict=True), counted.counts, strict=True))
        pairs, counts = np.unique(np.stack([LABELS[start:end], said[start:end]], axis=1), axis=0, return_counts=True)
        assert found == {(int(a), int(b)): int(count) for (a, b), count in zip(pairs, counts, strict=True)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_delay": -1}, "label_delay -1: expected at least 0"),
        ({"confidence": 0.3}, "confidence 0.3: expected a level between 0.5 and 1"),
        ({"slices": ["x0", "x0"]}, "expected names of payload columns, each once"),
        ({"slices": ["nowhere"]}, "no payload column 'nowhere'"),
    ],
)
def test_bad_options_say_what_was_expected(server: EvaluationServer, options: dict[str, Any], said: str) -> None:
    name = server.dataset(LABELS, np.arange(N), **COLUMNS)
    with pytest.raises(InvalidInputError, match=said):
        server.evaluate(name, WINDOWS, {server.model(1): [0]}, **options)

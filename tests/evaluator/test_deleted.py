"""Samples that are deleted between two looks at them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.devices import Caller
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.predictor import Prediction, Predictor
from modyn.proto.evaluator_pb2 import EvaluateQueued, PredictEvent
from modyn.proto.storage_pb2 import TEST, RegisterDatasetRequest
from tests.helpers.evaluating import EvaluationServer
from tests.helpers.labelling import delete, set_labels

N = 90
RNG = np.random.default_rng(4)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
COLUMNS = {f"x{i}": FEATURES[:, i] for i in range(4)}
WINDOWS = [(0, 40), (30, 90), (60, 61)]


def test_among_says_what_within_says() -> None:
    runs: Int64Array = np.array([[2, 5], [9, 10], [12, 20]])
    task = ModelTask("m", runs)
    for start, end in ((0, 30), (3, 9), (5, 9), (14, 15)):
        assert task.among(np.arange(start, end)).tolist() == np.arange(30)[task.within(start, end)].tolist()
    assert task.among(np.array([4, 5, 9, 25])).tolist() == [0, 2]
    assert ModelTask("m", np.empty((0, 2), np.int64)).among(np.arange(3)).tolist() == []


@pytest.mark.parametrize("gone", [[3], [0, 35, 36, 37, 60, 89], range(90), range(70, 90)])
def test_deleted_while_the_job_waits(
    server: EvaluationServer, monkeypatch: pytest.MonkeyPatch, gone: list[int] | range
) -> None:
    dataset = server.dataset(LABELS, np.arange(N), **COLUMNS)
    models = {server.model(1): [0, 1, 2], server.model(2): [1]}
    run = Predictor.run

    def run_late(self: Predictor, prediction: Prediction, caller: Caller) -> Iterator[EvaluateQueued | PredictEvent]:
        delete(server.peers, dataset, list(gone))
        return run(self, prediction, caller)

    monkeypatch.setattr(Predictor, "run", run_late)
    answer = server.evaluate(dataset, WINDOWS, models, baselines=True, reuse=True)
    monkeypatch.undo()
    assert any(f"{len(gone)} samples were deleted" in notice for notice in answer.notices)
    afterwards = server.evaluate(dataset, WINDOWS, models, baselines=True, reuse=True)
    counts = {key: score.num_samples for key, score in afterwards.scores.items()}
    assert {key: score.num_samples for key, score in answer.scores.items()} == counts
    assert answer.values() == afterwards.values()


def test_predictions_outlive_corrections_of_labels(server: EvaluationServer) -> None:
    dataset = server.dataset(LABELS, np.arange(N), **COLUMNS)
    model = server.model(1)
    first = server.evaluate(dataset, WINDOWS, {model: [0, 1, 2]}, reuse=True)
    set_labels(server.peers, dataset, "all", range(N), [1] * N, label_time=10**6)
    second = server.evaluate(dataset, WINDOWS, {model: [0, 1, 2]}, reuse=True)
    assert (second.predictions, second.reused) == (0, first.predictions)
    assert second.values() != first.values()


def test_samples_for_tests_are_evaluated(server: EvaluationServer) -> None:
    server.peers.storage.RegisterDataset(RegisterDatasetRequest(name="held-out", role=TEST))
    server.extend("held-out", LABELS, np.arange(N), **COLUMNS)
    model = server.model(1)
    answer = server.evaluate("held-out", WINDOWS, {model: [0]})
    assert answer.scores[model, 0].num_samples == 40

"""Checks of evaluations: one batch through parser, model and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.plugins.evaluation import METRICS, Outcomes
from modyn.core.values import to_value
from modyn.evaluator.metric_checks import try_metrics
from modyn.evaluator.metrics import Accuracy
from modyn.proto.evaluator_pb2 import CheckEvaluationRequest, CheckEvaluationResult
from modyn.proto.storage_pb2 import RegisterDatasetRequest
from modyn.storage.reader import append
from tests.helpers.evaluating import ACCURACY, MODEL, EvaluationServer

N = 20


@pytest.fixture
def dataset(server: EvaluationServer, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name)
    server.peers.storage.RegisterDataset(RegisterDatasetRequest(name=name))
    features = {f"x{i}": np.linspace(0, 1, N, dtype=np.float32) for i in range(4)}
    labels = pa.array([None, *(i % 3 for i in range(N - 1))], pa.int64())
    rows = pa.record_batch({"timestamp": np.arange(N), "label": labels, **features})
    append(server.peers.storage, name, "all", [rows])
    return name


def check(
    server: EvaluationServer,
    dataset: str,
    metrics: list[dict[str, Any]],
    model: dict[str, Any] = MODEL,
    num_outputs: int | None = None,
) -> CheckEvaluationResult:
    return server.peers.evaluator.CheckEvaluation(
        CheckEvaluationRequest(
            pipeline_id="p",
            dataset=dataset,
            data=to_value({"dataset_id": dataset}),
            model=to_value(model),
            metrics=[to_value(metric) for metric in metrics],
            batch_size=8,
            threads=1,
            num_outputs=num_outputs,
            keys=KeySet.from_array(np.arange(8)).to_proto(),
        )
    )


def test_each_metric_is_tried_once(server: EvaluationServer, dataset: str) -> None:
    result = check(server, dataset, [*ACCURACY, {"name": "F1Score", "num_classes": 3}])
    assert [metric.name for metric in result.metrics] == ["Accuracy", "F1-macro"]
    assert result.num_samples == 7  # one has no label


def test_metrics_and_models_that_do_not_fit(server: EvaluationServer, dataset: str) -> None:
    with pytest.raises(InvalidInputError, match=r"metric RocAuc: .*(a label is 2|3 outputs)"):
        check(server, dataset, [{"name": "RocAuc"}])
    wide = {"id": "MLP", "config": {**MODEL["config"], "in_features": 9}}
    with pytest.raises(InvalidInputError, match=r"\(Linear\) expects inputs of 9 features, got float32 \[8, 4\]"):
        check(server, dataset, ACCURACY, wide)
    with pytest.raises(InvalidInputError, match="metrics: expected at least one"):
        check(server, dataset, [])


def test_metrics_alone_take_no_job(server: EvaluationServer, dataset: str) -> None:
    result = check(server, dataset, [*ACCURACY, {"name": "F1Score", "num_classes": 3}], num_outputs=3)
    assert [metric.name for metric in result.metrics] == ["Accuracy", "F1-macro"]
    assert result.num_samples == 7
    with pytest.raises(InvalidInputError, match="metric F1Score, num_classes: 2"):
        check(server, dataset, [{"name": "F1Score", "num_classes": 2}], num_outputs=3)
    numbers = [{"name": "R2"}, {"name": "MeanSquaredError"}]
    assert [metric.name for metric in check(server, dataset, numbers, num_outputs=1).metrics] == ["R2", "MSE"]
    with pytest.raises(InvalidInputError, match="metric R2: the model has 3 outputs, but a label has 1"):
        check(server, dataset, numbers, num_outputs=3)
    assert server.launcher.launched == 0


def test_a_metric_that_raises_is_named_with_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(self: Accuracy, outcomes: Outcomes) -> float:
        raise ZeroDivisionError("no weight")

    monkeypatch.setattr(METRICS.get("Accuracy"), "score", score)
    outcomes = Outcomes(np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros((3, 2), np.float32))
    with pytest.raises(
        InvalidInputError, match=r"Accuracy raised ZeroDivisionError: no weight .*scores float32 \[3, 2\]"
    ):
        try_metrics([Accuracy()], outcomes)

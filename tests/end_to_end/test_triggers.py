"""Triggers that look into the data decide live as they do when the same stretch is replayed as it arrived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.report import Report, without_volatile
from modyn.proto.supervisor_pb2 import Pipeline
from tests.end_to_end.test_live import eventually, start_live, what_was_trained
from tests.helpers.labelling import set_labels
from tests.helpers.streams import drifting_table, write_pipeline

TABLE = drifting_table(days=6)
TIMES = TABLE["timestamp"].to_numpy()
TRUTH = TABLE["label"].to_numpy()
N = len(TABLE)

DRIFT = {
    "id": "DataDriftTrigger",
    "evaluation_interval_data_points": 20,
    "windowing_strategy": {"id": "AmountWindowingStrategy", "amount_ref": 60, "amount_cur": 20},
    "metrics": {
        "mean": {"id": "MeanDistance", "decision_criterion": {"id": "ThresholdDecisionCriterion", "threshold": 1}}
    },
}
PERFORMANCE = {
    "id": "PerformanceTrigger",
    "evaluation_interval_data_points": 20,
    "decision_criteria": {
        "low": {"id": "StaticPerformanceThresholdCriterion", "metric": "Accuracy", "metric_threshold": 0.8}
    },
}
COST = {
    "id": "AvoidableMisclassificationCostTrigger",
    "evaluation_interval_data_points": 20,
    "expected_accuracy": 0.9,
    "avoidable_misclassification_latency_per_training_second": 1.0e6,
    "cost_model": {"seconds_per_sample": 0.001},
    "warmup_intervals": 1,
    "warmup_policy": {"id": "DataAmountTrigger", "num_samples": 20},
}
TRIGGERS: dict[str, dict[str, Any]] = {
    "drift": DRIFT,
    "performance": PERFORMANCE,
    "cost": COST,
    "ensemble": {
        "id": "EnsembleTrigger",
        "ensemble_strategy": {"id": "AtLeastN", "n": 2},
        "subtriggers": {"drift": DRIFT, "low": PERFORMANCE, "daily": {"id": "TimeTrigger", "every": "1d"}},
        "guards": {"minimum_samples": 10},
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def decisions(report: Report) -> list[dict[str, Any]]:
    """What was looked at and why it fired, without the numbers that only say when."""
    kept = without_volatile(report)["trigger_evaluations"]
    assert isinstance(kept, list)
    return kept


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[pytest.mark.slow] if name in {"cost", "ensemble"} else []) for name in TRIGGERS],
)
def test_live_decides_as_a_replay_of_what_arrived(client: Client, tmp_path: Path, family: str) -> None:
    rng = np.random.default_rng(len(family))
    pipeline = write_pipeline(tmp_path, data={"dataset_id": family}, trigger=TRIGGERS[family], evaluation=None)
    client.register_dataset(family)
    live_id = start_live(client, pipeline)
    seen = batch = 0
    while seen < N:
        rows = slice(seen, min(N, seen + int(rng.integers(1, 50))))
        part = TABLE.slice(rows.start, rows.stop - rows.start)
        known = [int(TRUTH[row]) if rng.random() < 0.6 else None for row in range(rows.start, rows.stop)]
        part = part.set_column(part.schema.get_field_index("label"), "label", pa.array(known, pa.int64()))
        client.append(family, f"data-{rows.start}", part)
        seen = rows.stop
        late = np.flatnonzero(rng.random(seen) < 0.3)  # whether or not the pipeline has seen them
        delays = rng.integers(0, 2 * 86_400, len(late))
        set_labels(client._peers, family, f"labels-{batch}", late, TRUTH[late].tolist(), TIMES[late] + delays)
        batch += 1
    replay_id = client.submit(pipeline, ReplayOptions(order="arrival"), reuse=False)
    assert client.wait(replay_id).status == Pipeline.COMPLETED
    replay = client.report(replay_id)
    assert len(replay.triggers) > 1
    looks = len(replay.trigger_evaluations)
    eventually(lambda: client.status(live_id).num_triggers == len(replay.triggers), "all triggers are done")
    eventually(lambda: len(client.report(live_id).trigger_evaluations) == looks, "all evaluations are journaled")
    assert client.stop(live_id).status == Pipeline.STOPPED
    live = client.report(live_id)
    assert decisions(replay) == decisions(live)
    assert what_was_trained(replay) == what_was_trained(live)

"""Deleted samples and samples for tests only, through whole pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.storage_pb2 import TEST, RegisterDatasetRequest
from modyn.proto.supervisor_pb2 import Pipeline
from tests.end_to_end.support import append_daily
from tests.end_to_end.test_live import start_live
from tests.helpers.labelling import delete
from tests.helpers.streams import drifting_table, pipeline_tree, write_pipeline

TABLE = drifting_table(days=6)
DAILY = {"id": "TimeTrigger", "every": "1d"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def test_a_new_run_knows_nothing_of_deleted_samples(client: Client, tmp_path: Path) -> None:
    training = {**pipeline_tree()["training"], "use_previous_model": False}
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "shrinking"}, trigger=DAILY, training=training)
    client.register_dataset("shrinking")
    append_daily(client, "shrinking", TABLE)
    first = client.submit(pipeline)
    assert client.wait(first).status == Pipeline.COMPLETED
    before = client.report(first)

    gone = KeySet.from_array(np.array([41, 42, 130]))  # of the second and the fourth trigger
    assert delete(client._peers, "shrinking", gone.to_array()) == 3
    second = client.submit(pipeline)
    assert client.wait(second).status == Pipeline.COMPLETED
    after = client.report(second)
    assert [trigger.reused for trigger in after.triggers] == [True, False, True, False, True]
    assert [trigger.samples for trigger in after.triggers] == [40, 38, 40, 39, 40]
    assert client.report(first) == before

    trained = client.models_trained_on("shrinking", gone)
    assert [(model.model, model.keys.tolist()) for model in trained] == [
        (before.triggers[1].model, [41, 42]),
        (before.triggers[3].model, [130]),
    ]
    both = client.models_trained_on("shrinking", [KeyRange(0, 1)])
    assert [(use.pipeline_id, use.reused) for use in both[0].uses] == [(first, False), (second, True)]


def test_models_inherit_what_they_were_warm_started_from(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "warm"}, trigger=DAILY, evaluation=None)
    client.register_dataset("warm")
    append_daily(client, "warm", TABLE)
    pipeline_id = client.submit(pipeline)
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    triggers = client.report(pipeline_id).triggers
    trained = client.models_trained_on("warm", [KeyRange(80, 81)])
    assert [model.model for model in trained] == [trigger.model for trigger in triggers[2:]]
    assert [model.inherited for model in trained] == [False, True, True]
    assert [len(model.keys) for model in trained] == [1, 0, 0]


def test_samples_for_tests_drive_no_training(client: Client, tmp_path: Path) -> None:
    client._peers.storage.RegisterDataset(RegisterDatasetRequest(name="held-out", role=TEST))
    pipeline = write_pipeline(
        tmp_path, data={"dataset_id": "held-out"}, trigger={"id": "DataAmountTrigger", "num_samples": 50}
    )
    live = start_live(client, pipeline)
    client.append("held-out", "all", TABLE)
    for order in ("event", "arrival"):
        ended = client.wait(client.submit(pipeline, ReplayOptions(order=order)))
        assert ended.status == Pipeline.FAILED
        assert ended.error.input_error
        if order == "event":
            assert "all 240 samples to be replayed have the role `test`" in ended.error.message
    stopped = client.stop(live)
    assert (stopped.samples_seen, stopped.num_triggers) == (0, 0)

    # They are what evaluation is for.
    client.register_dataset("training")
    client.append("training", "all", TABLE)
    evaluation = {**pipeline_tree()["evaluation"], "datasets": [{"dataset_id": "held-out"}]}
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "training"}, trigger=DAILY, evaluation=evaluation)
    pipeline_id = client.submit(pipeline)
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    assert sum(window.samples for window in client.report(pipeline_id).windows) == 240

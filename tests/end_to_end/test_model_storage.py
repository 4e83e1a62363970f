"""How models are stored and how long, in whole pipelines; what ``gc`` removes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.client import Client, LiveOptions
from modyn.core.errors import ConflictError, NotFoundError
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.report import Report, without_volatile
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSetHeader
from modyn.proto.supervisor_pb2 import Pipeline
from modyn.storage.reader import store_model
from modyn.trainer_server.trained import TrainedRecord
from tests.helpers.streams import drifting_table, pipeline_tree, write_daily_files, write_pipeline

DIFFERENCES = {"incremental_model_strategy": {"name": "WeightsDifference", "full_model_interval": 3}}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[Client]:
    with Client.embedded(state) as client:
        yield client


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    write_daily_files(folder, drifting_table())
    return folder


def over(stream: Path, folder: Path, *, seed: int, **changes: Any) -> Path:
    """Five triggers over the shared stream; models of some size, that change little."""
    data = pipeline_tree()["data"]
    data["source"]["path"] = str(stream)
    model = {"id": "MLP", "config": {"in_features": 4, "hidden": [256, 32], "num_classes": 2}}
    sgd = {"name": "default", "algorithm": "SGD", "param_groups": [{"module": "model", "config": {"lr": 0.001}}]}
    training = {"batch_size": 16, "threads": 1, "seed": seed, "optimizers": [sgd]}
    tree = {"data": data, "model": model, "training": training, "trigger": {"id": "TimeTrigger", "every": "2d"}}
    return write_pipeline(folder, **{**tree, "evaluation": None, **changes})


def replay(client: Client, pipeline: Path) -> Report:
    ended = client.wait(client.submit(pipeline))
    assert ended.status == Pipeline.COMPLETED, ended.error.message
    return client.report(ended.id)


def models_of(report: Report) -> list[str]:
    return [str(trigger.model) for trigger in report.triggers]


def test_models_are_differences_and_only_the_last_ones_stay(client: Client, stream: Path, tmp_path: Path) -> None:
    retention = {"keep_reported": False, "keep_last": 2}
    short = replay(client, over(stream, tmp_path, seed=1, model_storage={**DIFFERENCES, "retention": retention}))
    models = models_of(short)
    assert len(set(models)) == 5
    stored = client.stored_models()
    # A model in three is whole: 0 and 3. The last two are 3 and 4, and nothing else is needed to read them.
    assert [model in stored for model in models] == [False, False, False, True, True]
    assert stored[models[4]].delta_of == models[3]
    assert stored[models[4]].stored_bytes < stored[models[4]].num_bytes
    with pytest.raises(NotFoundError):
        client.delete_models([models[0]])

    # How models are stored is no input of a training: what is stored is reused, what was removed is trained again.
    whole = replay(client, over(stream, tmp_path, seed=1))
    assert models_of(whole) == models
    assert whole.cost.trainings_reused == 2
    assert set(models) <= set(client.stored_models())
    assert list(client.collect_garbage(dry_run=True, older_than_seconds=0, only=["models"])) == []


def test_a_base_stays_as_long_as_a_difference_from_it(client: Client, stream: Path, tmp_path: Path) -> None:
    storage = {
        "incremental_model_strategy": {"name": "WeightsDifference"},
        "retention": {"keep_reported": False, "keep_last": 1},
    }
    models = models_of(replay(client, over(stream, tmp_path, seed=2, model_storage=storage)))
    stored = client.stored_models()
    assert [model in stored for model in models] == [True, False, False, False, True]
    with pytest.raises(ConflictError, match=models[4]):
        client.delete_models([models[0]])
    assert list(client.collect_garbage(older_than_seconds=0, only=["models"])) == []
    [done] = client.delete_models([models[0]], rewrite_dependents=True)
    assert done.rewritten == (models[4],)
    assert client.stored_models()[models[4]].chain_position == 0


def test_evaluations_see_every_model_before_it_goes(client: Client, stream: Path, tmp_path: Path) -> None:
    handlers = [
        {
            "name": "all",
            "models": "matrix",
            "execution_time": time,
            "strategy": {"type": "SlicingEvalStrategy", "eval_every": "3d"},
        }
        for time in ("after_pipeline", "after_training")
    ]
    section = {"retention": {"keep_reported": False, "keep_last": 1}}
    pipeline = over(stream, tmp_path, seed=3, model_storage=section, evaluation={"handlers": handlers})
    report = replay(client, pipeline)
    assert len(report.evaluations) == 2 * 5 * 4
    assert not report.failures
    stored = client.stored_models()
    assert [model in stored for model in models_of(report)] == [False, False, False, False, True]
    # Another pipeline with the same models keeps them all: they stay, also when the first one is run again.
    again = replay(client, over(stream, tmp_path, seed=3, evaluation={"handlers": handlers}))
    assert models_of(again) == models_of(report)
    replay(client, pipeline)
    assert set(models_of(report)) <= set(client.stored_models())


def leave_garbage(client: Client, state: Path) -> set[str]:
    """What pipelines that were killed may leave; digests and names."""
    peers: Peers = client._peers
    model = store_model(peers.storage, b"of a training that was never recorded")
    header = TrainingSetHeader(
        pipeline_id="killed", trigger_index=0, dataset="drifting", selection=to_value({"name": "NewDataStrategy"})
    )
    keys = KeySet.from_array(np.array([3, 1, 4, 15])).to_proto()
    messages = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=keys)]
    training_set = peers.selector.CreateTrainingSet(iter(messages)).digest
    record = TrainedRecord()
    record.add(np.array([3]), np.ones(1, np.float32))
    record.end_epoch()
    columns = record.store(peers.selector, "drifting")
    checkpoint = state / "checkpoints" / "never-ended"
    checkpoint.mkdir(parents=True)
    (checkpoint / "half").write_bytes(b"123")
    (state / "jobs" / "killed").mkdir(parents=True)
    (state / "jobs" / "killed" / "train-0.log").write_text("...")
    return {model, training_set, columns, "never-ended", "killed/train-0.log"}


def test_gc_removes_what_it_says_and_nothing_that_is_needed(
    client: Client, state: Path, stream: Path, tmp_path: Path
) -> None:
    handlers = [{"name": "daily", "strategy": {"type": "SlicingEvalStrategy", "eval_every": "6d"}}]
    pipeline = over(stream, tmp_path, seed=4, model_storage=DIFFERENCES, evaluation={"handlers": handlers})
    first = replay(client, pipeline)
    left = leave_garbage(client, state)
    before = {path.name for path in (state / "outcomes").iterdir()}
    other = over(stream, tmp_path, seed=6, evaluation={"handlers": handlers})
    ended = client.wait(client.submit(other, maximum_triggers=1))
    predicted = {path.name for path in (state / "outcomes").iterdir()} - before
    assert len(predicted) == 1
    client.delete_models([f"{ended.id}@latest", f"{first.pipeline.id}@4"])

    assert list(client.collect_garbage(older_than_seconds=3600)) == [], "all of it is young"
    time.sleep(0.01)
    named = list(client.collect_garbage(dry_run=True, older_than_seconds=0))
    assert left <= {one.name for one in named}
    assert {one.kind for one in named if one.name in left} == {
        "model", "training set", "sample columns", "checkpoint", "job log"
    }  # fmt: skip
    assert all(one.num_bytes > 0 for one in named if one.kind != "job log")
    removed = list(client.collect_garbage(older_than_seconds=0))
    assert [(one.kind, one.name, one.num_bytes) for one in removed] == [
        (one.kind, one.name, one.num_bytes) for one in named
    ]
    assert list(client.collect_garbage(older_than_seconds=0)) == []
    assert {f"{one.name}.arrow" for one in removed if one.kind == "outcomes"} >= predicted
    assert not predicted & {path.name for path in (state / "outcomes").iterdir()}
    assert set(models_of(first)[:4]) <= set(client.stored_models())

    pipeline = over(stream, tmp_path, seed=4, model_storage=DIFFERENCES, evaluation={"handlers": handlers})
    again = replay(client, pipeline)
    assert again.cost.trainings_reused == 4
    assert without_volatile(again) == without_volatile(first)


def test_nothing_of_a_running_pipeline_goes(client: Client, state: Path, stream: Path, tmp_path: Path) -> None:
    first = replay(client, over(stream, tmp_path, seed=5))
    pipeline_id = client.submit(over(stream, tmp_path, seed=5), LiveOptions(start_key=0))
    try:
        for event in client.watch(pipeline_id):
            if event.WhichOneof("kind") == "trigger" and event.trigger.done:
                break
        store_model(client._peers.storage, b"of a training that is under way")
        assert list(client.collect_garbage(older_than_seconds=0)) == []
        used = str(client.report(pipeline_id).triggers[0].model)
        with pytest.raises(ConflictError, match=f"belongs to pipeline {pipeline_id}"):
            client.delete_models([used])
        client.delete_models([used], force=True)
    finally:
        client.stop(pipeline_id)
    assert models_of(first)

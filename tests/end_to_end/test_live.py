"""Live pipelines: data arrive while they run, and a replay of what arrived does the same again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.client import Client, LiveOptions, ReplayOptions
from modyn.core.report import Report
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import (
    DAILY_AFTER_TRAINING,
    START,
    drifting_table,
    pipeline_tree,
    project,
    write_daily_files,
    write_pipeline,
)

TIMEOUT_SECONDS = 60.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"after {TIMEOUT_SECONDS} s still not: {what}"
        time.sleep(0.02)


def start_live(client: Client, pipeline: Path, **options: int) -> str:
    pipeline_id = client.submit(pipeline, LiveOptions(**options))
    eventually(lambda: client.status(pipeline_id).status != Pipeline.STARTING, "the pipeline runs")
    assert client.status(pipeline_id).status == Pipeline.RUNNING, client.status(pipeline_id).error.message
    return pipeline_id


def wait_for_samples(client: Client, pipeline_id: str, samples: int, triggers: int) -> None:
    def done() -> bool:
        status = client.status(pipeline_id)
        assert status.status == Pipeline.RUNNING, status.error.message
        return status.samples_seen == samples and status.num_triggers == triggers

    eventually(done, f"{samples} samples and {triggers} triggers seen")


def what_was_trained(report: Report) -> list[tuple[object, ...]]:
    return [(t.index, t.timestamp, t.reason, t.new_samples, t.training_set, t.model) for t in report.triggers]


def test_an_ingestion_job_feeds_a_live_pipeline_exactly_once(client: Client, tmp_path: Path) -> None:
    data = {"dataset_id": "appended"}
    pipeline = write_pipeline(tmp_path, data=data, trigger={"id": "DataAmountTrigger", "num_samples": 100})
    client.register_dataset("appended")
    pipeline_id = start_live(client, pipeline)
    table = drifting_table()
    sizes = np.array([1, 7, 60, 32, 100, 150, 3, 77])  # 430 samples: some batches cause two triggers, some none
    for batch, end in enumerate(np.cumsum(sizes)):
        part = table.slice(end - sizes[batch], sizes[batch])
        client.append("appended", f"batch-{batch}", part)
        client.append("appended", f"batch-{batch}", part)  # as after a lost answer
    wait_for_samples(client, pipeline_id, samples=430, triggers=4)
    ended = client.stop(pipeline_id)
    assert ended.status == Pipeline.STOPPED
    live = client.report(pipeline_id)
    assert [trigger.new_samples for trigger in live.triggers] == [100] * 4
    assert live.run.mode == "live"
    assert live.run.end_key == 430
    assert live.composite["daily"]["appended"]["Accuracy"].windows_scored > 0

    replay_id = client.submit(pipeline, ReplayOptions(order="arrival"))
    assert client.wait(replay_id).status == Pipeline.COMPLETED
    assert what_was_trained(client.report(replay_id)) == what_was_trained(live)


def test_late_data_live_and_replayed_by_arrival(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = drifting_table()
    order = np.argsort(np.arange(len(table)) + rng.normal(scale=40, size=len(table)), kind="stable")
    shuffled = table.take(order)
    trigger = {"id": "TimeTrigger", "every": "2d", "start_timestamp": START}
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "late"}, trigger=trigger)
    client.register_dataset("late")
    pipeline_id = start_live(client, pipeline)
    for start in range(0, len(table), 96):
        client.append("late", str(start), shuffled.slice(start, 96))
    eventually(lambda: client.status(pipeline_id).samples_seen == len(table), "all samples seen")
    client.stop(pipeline_id)
    live = client.report(pipeline_id)
    assert len(live.triggers) == 5
    replay_id = client.submit(pipeline, ReplayOptions(order="arrival", end_key=live.run.end_key))
    assert client.wait(replay_id).status == Pipeline.COMPLETED
    assert what_was_trained(client.report(replay_id)) == what_was_trained(live)


def test_files_that_appear_are_seen_and_older_ones_are_history(client: Client, tmp_path: Path) -> None:
    table = drifting_table(days=10)
    data = {**pipeline_tree()["data"], "dataset_id": "watched"}
    data["source"] = {**data["source"], "poll_seconds": 0.1, "settle_seconds": 0.1}
    trigger = {"id": "DataAmountTrigger", "num_samples": 80}
    pipeline = project(tmp_path, table.slice(0, 120), data=data, trigger=trigger)
    pipeline_id = start_live(client, pipeline)
    write_daily_files(tmp_path / "data", table.slice(120, 200))
    wait_for_samples(client, pipeline_id, samples=200, triggers=2)
    client.stop(pipeline_id)
    report = client.report(pipeline_id)
    assert report.run.start_key == 120
    assert [trigger.new_samples for trigger in report.triggers] == [80, 80]


def test_a_live_pipeline_can_start_at_an_earlier_key(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path, data={"dataset_id": "earlier"}, trigger={"id": "DataAmountTrigger", "num_samples": 50}
    )
    client.register_dataset("earlier")
    client.append("earlier", "a", drifting_table().slice(0, 200))
    pipeline_id = start_live(client, pipeline, start_key=90)
    wait_for_samples(client, pipeline_id, samples=110, triggers=2)
    client.append("earlier", "b", drifting_table().slice(200, 40))
    wait_for_samples(client, pipeline_id, samples=150, triggers=3)
    client.stop(pipeline_id)


def test_windows_are_scored_once_they_are_complete(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path,
        data={"dataset_id": "complete"},
        trigger={"id": "DataAmountTrigger", "num_samples": 100},
        evaluation={"handlers": [DAILY_AFTER_TRAINING]},
    )
    client.register_dataset("complete")
    pipeline_id = start_live(client, pipeline)
    table = drifting_table()
    client.append("complete", "a", table.slice(0, 100))  # two and a half days
    wait_for_samples(client, pipeline_id, samples=100, triggers=1)
    assert [window.end for window in client.report(pipeline_id).windows] == [START + 86_400, START + 2 * 86_400]
    client.append("complete", "b", table.slice(100, 100))
    wait_for_samples(client, pipeline_id, samples=200, triggers=2)
    client.stop(pipeline_id)
    report = client.report(pipeline_id)
    assert len(report.windows) == 5
    assert len(report.evaluations) == 10


def test_maximum_triggers_ends_a_live_pipeline(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path, data={"dataset_id": "ending"}, trigger={"id": "DataAmountTrigger", "num_samples": 30}
    )
    client.register_dataset("ending")
    pipeline_id = client.submit(pipeline, LiveOptions(), maximum_triggers=2)
    eventually(lambda: client.status(pipeline_id).status == Pipeline.RUNNING, "the pipeline runs")
    client.append("ending", "a", drifting_table().slice(0, 200))
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    assert len(client.report(pipeline_id).triggers) == 2


def test_a_live_pipeline_that_fails_watches_no_longer(client: Client, tmp_path: Path) -> None:
    data = {**pipeline_tree()["data"], "dataset_id": "failing"}
    model = {"id": "MLP", "config": {"in_features": 3, "num_classes": 2}}  # there are four
    trigger = {"id": "DataAmountTrigger", "num_samples": 30}
    pipeline = project(tmp_path, drifting_table().slice(0, 40), data=data, model=model, trigger=trigger)
    pipeline_id = client.submit(pipeline, LiveOptions(start_key=0))
    assert client.wait(pipeline_id).status == Pipeline.FAILED
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("watch-")], "nobody watches")


def test_a_replay_by_arrival_of_nothing_is_refused(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "little"})
    client.register_dataset("little")
    client.append("little", "a", drifting_table().slice(0, 20))
    for options in (ReplayOptions(order="arrival", start_key=20), ReplayOptions(order="arrival", stop=1)):
        ended = client.wait(client.submit(pipeline, options))
        assert ended.status == Pipeline.FAILED
        assert "no samples in the stretch" in ended.error.message
        assert ended.error.input_error


def test_a_late_sample_does_not_move_the_windows(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path,
        data={"dataset_id": "grid"},
        trigger={"id": "DataAmountTrigger", "num_samples": 100},
        evaluation={"handlers": [DAILY_AFTER_TRAINING]},
    )
    client.register_dataset("grid")
    pipeline_id = start_live(client, pipeline)
    table = drifting_table()
    client.append("grid", "a", table.slice(1, 100))
    wait_for_samples(client, pipeline_id, samples=100, triggers=1)
    client.append("grid", "late", table.slice(0, 1))  # earlier than all before
    client.append("grid", "b", table.slice(101, 99))
    wait_for_samples(client, pipeline_id, samples=200, triggers=2)
    client.stop(pipeline_id)
    first = START + 86_400 // 40
    starts = [window.start for window in client.report(pipeline_id).windows]
    assert starts == [first + day * 86_400 for day in range(5)]

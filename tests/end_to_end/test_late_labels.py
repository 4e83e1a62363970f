"""Labels that come late or are corrected: a pipeline sees at every trigger what was known then, live and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.arrow import Int64Array, concat_messages
from modyn.core.keysets import KeySet
from modyn.core.report import Report
from modyn.core.rpc import arrow_stream
from modyn.proto.selector_pb2 import DescribeTrainingSetRequest, ReadTrainingSetRequest
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.proto.supervisor_pb2 import Pipeline
from modyn.storage.reader import Column, Order, read_columns
from tests.end_to_end.support import append_daily
from tests.end_to_end.test_live import eventually, start_live, what_was_trained
from tests.helpers.labelling import set_labels
from tests.helpers.streams import drifting_table, write_pipeline

TABLE = drifting_table(days=6)
TIMES = TABLE["timestamp"].to_numpy()
TRUTH = TABLE["label"].to_numpy()
N = len(TABLE)

EVERYTHING = {"name": "NewDataStrategy", "tail_triggers": None}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


class Oracle:
    """Everything ever said of labels, one by one: (key, label time, end key of the dataset then, version, label)."""

    def __init__(self) -> None:
        self.end_key = 0
        self.version = 0
        self.said: list[tuple[int, int, int, int, int | None]] = []

    def append(self, times: Int64Array, labels: list[int | None]) -> None:
        for offset, (time, label) in enumerate(zip(times.tolist(), labels, strict=True)):
            if label is not None:
                self.said.append((self.end_key + offset, time, -1, 0, label))
        self.end_key += len(labels)

    def correct(self, keys: list[int], labels: list[int | None], times: list[int]) -> None:
        self.version += 1
        for key, label, time in zip(keys, labels, times, strict=True):
            self.said.append((key, time, self.end_key, self.version, label))

    def known(self, end_key: int, clock: int, *, by_arrival: bool) -> dict[int, int]:
        """Labels of the keys below ``end_key`` when the newest of them was handed over."""
        newest: dict[int, tuple[int, int, int | None]] = {}
        for key, time, then, version, label in self.said:
            if key >= end_key or time > clock or (by_arrival and version and then >= end_key):
                continue
            newest[key] = max(newest.get(key, (-1, -1, None)), (time, version, label), key=lambda entry: entry[:2])
        return {key: label for key, (_, _, label) in newest.items() if label is not None}


def selected(client: Client, dataset: str, training_set: str) -> dict[int, int]:
    """Keys of a training set and the labels they are trained with."""
    peers = client._peers
    made = peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=training_set))
    read = peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=training_set))
    contents = concat_messages(arrow_stream(read))
    assert contents is not None
    keys = contents.column("key").to_numpy()
    table = read_columns(
        peers.storage,
        dataset,
        KeySet.from_array(keys),
        columns=[Column.LABEL],
        order=Order.REQUEST,
        labels=made.labels,
    )
    return dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))


def check(client: Client, dataset: str, report: Report, oracle: Oracle, *, by_arrival: bool) -> None:
    """Keys were handed over in order, so the new data so far say which they were."""
    assert report.triggers
    handed = 0
    for trigger in report.triggers:
        handed += trigger.new_samples
        known = oracle.known(handed, int(trigger.last_timestamp or 0), by_arrival=by_arrival)
        assert trigger.samples == len(known)
        if trigger.training_set:
            assert selected(client, dataset, trigger.training_set) == known


def random_labels(rng: np.random.Generator, rows: slice) -> list[int | None]:
    return [int(TRUTH[row]) if rng.random() < 0.4 else None for row in range(rows.start, rows.stop)]


def random_correction(rng: np.random.Generator, oracle: Oracle) -> tuple[list[int], list[int | None], list[int]]:
    """Labels, wrong ones and withdrawals of some samples, known at random times: before, at and after the event."""
    count = int(rng.integers(1, oracle.end_key + 1))
    keys = sorted(rng.choice(oracle.end_key, count, replace=False).tolist())
    labels = [None if rng.random() < 0.1 else int(rng.integers(0, 2)) for _ in keys]
    times = (TIMES[keys] + rng.integers(0, 4 * 86_400, count)).tolist()
    return keys, labels, times


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_labels_are_seen_once_they_are_known_live_and_replayed(client: Client, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset = f"late-{seed}"
    trigger = {"id": "DataAmountTrigger", "num_samples": 30} if seed % 2 else {"id": "TimeTrigger", "every": "1d"}
    pipeline = write_pipeline(
        tmp_path, data={"dataset_id": dataset}, trigger=trigger, selection_strategy=EVERYTHING, evaluation=None
    )
    client.register_dataset(dataset)
    live_id = start_live(client, pipeline)
    oracle, batch = Oracle(), 0
    while oracle.end_key < N:
        rows = slice(oracle.end_key, min(N, oracle.end_key + int(rng.integers(1, 60))))
        labels = random_labels(rng, rows)
        part = TABLE.slice(rows.start, rows.stop - rows.start)
        part = part.set_column(part.schema.get_field_index("label"), "label", pa.array(labels, pa.int64()))
        client.append(dataset, f"data-{rows.start}", part)
        oracle.append(TIMES[rows], labels)
        for _ in range(int(rng.integers(0, 3))):  # whether or not the pipeline has seen what came before
            keys, late, times = random_correction(rng, oracle)
            set_labels(client._peers, dataset, f"labels-{batch}", keys, late, times)
            oracle.correct(keys, late, times)
            batch += 1
    eventually(lambda: client.status(live_id).num_triggers == (8 if seed % 2 else 5), "all triggers are done")
    assert client.stop(live_id).status == Pipeline.STOPPED
    live = client.report(live_id)
    check(client, dataset, live, oracle, by_arrival=True)

    keys, late, times = random_correction(rng, oracle)  # after all of it; some are known in the past
    set_labels(client._peers, dataset, "afterwards", keys, late, times)
    oracle.correct(keys, late, times)
    replays = {}
    for order in ("arrival", "event"):
        replay_id = client.submit(pipeline, ReplayOptions(order=order), reuse=False)
        assert client.wait(replay_id).status == Pipeline.COMPLETED
        replays[order] = client.report(replay_id)
    assert what_was_trained(replays["arrival"]) == what_was_trained(live)
    check(client, dataset, replays["event"], oracle, by_arrival=False)


def test_labels_that_no_trigger_sees_change_nothing(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, data={"dataset_id": "unchanged"}, trigger={"id": "TimeTrigger", "every": "1d"})
    client.register_dataset("unchanged")
    append_daily(client, "unchanged", TABLE)
    first = client.submit(pipeline)
    assert client.wait(first).status == Pipeline.COMPLETED
    set_labels(client._peers, "unchanged", "much later", range(N), [0] * N, int(TIMES[-1]) + 1)
    second = client.submit(pipeline)
    assert client.wait(second).status == Pipeline.COMPLETED
    before, after = client.report(first), client.report(second)
    assert [trigger.model for trigger in after.triggers] == [trigger.model for trigger in before.triggers]
    assert all(trigger.reused for trigger in after.triggers)
    # Evaluation takes the newest labels.
    assert after.composite != before.composite


def test_models_of_old_labels_are_named(client: Client, tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path,
        data={"dataset_id": "corrected"},
        trigger={"id": "TimeTrigger", "every": "1d"},
        training={"threads": 1, "use_previous_model": False},
        evaluation=None,
    )
    client.register_dataset("corrected")
    append_daily(client, "corrected", TABLE)
    pipeline_id = client.submit(pipeline)
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    triggers = client.report(pipeline_id).triggers
    keys = [0, 1, 45, 90]  # of the first three triggers, of 40 samples each
    corrected = [1 - int(TRUTH[0]), int(TRUTH[1]), int(TRUTH[45]), 1 - int(TRUTH[90])]
    set_labels(client._peers, "corrected", "a", keys, corrected, int(TIMES[-1]) + 1)
    asked = KeySet.from_array(np.array([*keys, 200]))
    trained = client.models_trained_on("corrected", asked)
    assert [(model.model, model.keys.tolist()) for model in trained] == [
        (triggers[0].model, [0, 1]),
        (triggers[1].model, [45]),
        (triggers[2].model, [90]),
    ]
    assert trained[0].uses[0].pipeline_id == pipeline_id
    assert trained[0].labels == LabelsAsOf(version=0)
    old = client.models_trained_on_old_labels("corrected", asked)
    assert [(model.model, model.keys.tolist()) for model in old] == [
        (triggers[0].model, [0]),
        (triggers[2].model, [90]),
    ]
    set_labels(client._peers, "corrected", "b", keys, [int(TRUTH[key]) for key in keys], int(TIMES[-1]) + 2)
    assert client.models_trained_on_old_labels("corrected", asked) == []

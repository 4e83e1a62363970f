"""Labels as known at a trigger, deleted samples and roles, with a real storage service behind the selector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.core.arrow import concat_messages
from modyn.core.errors import ConflictError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.rpc import arrow_stream
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import (
    CreateTrainingSetRequest,
    DescribeTrainingSetRequest,
    ReadTrainingSetRequest,
    TrainingSet,
    TrainingSetHeader,
)
from modyn.proto.storage_pb2 import TEST, LabelsAsOf, RegisterDatasetRequest
from tests.helpers.labelling import delete, set_labels
from tests.helpers.services import StorageAndSelector, append_numbers

EVERYTHING = {"name": "NewDataStrategy", "tail_triggers": None}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[StorageAndSelector]:
    services = StorageAndSelector.start(tmp_path / "s")
    yield services
    services.close()


def create(
    services: StorageAndSelector,
    trigger: int,
    start: int,
    end: int,
    labels: LabelsAsOf | None = None,
    *,
    pipeline: str = "p",
    clock: int | None = None,
) -> TrainingSet:
    header = TrainingSetHeader(
        pipeline_id=pipeline,
        trigger_index=trigger,
        dataset="numbers",
        selection=to_value(EVERYTHING),
        last_timestamp=clock,
        labels=labels,
    )
    keys = KeySet.from_ranges([KeyRange(start, end)])
    parts = (CreateTrainingSetRequest(new_data=part) for part in keys.to_protos())
    return services.peers.selector.CreateTrainingSet(iter([CreateTrainingSetRequest(header=header), *parts]))


def keys_of(services: StorageAndSelector, made: TrainingSet) -> list[int]:
    stream = services.peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=made.digest))
    table = concat_messages(arrow_stream(stream))
    keys: list[int] = [] if table is None else table.column("key").to_pylist()
    return keys


def test_a_sample_is_selected_once_its_label_is_known(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [None] * 10)  # times 0 to 9
    set_labels(services.peers, "numbers", "a", range(10), [1] * 10, label_time=np.arange(10) + 3)
    early = create(services, 0, 0, 5, LabelsAsOf(label_time=4), clock=4)
    assert keys_of(services, early) == [0, 1]
    assert early.num_unlabelled == 3
    later = create(services, 1, 5, 10, LabelsAsOf(label_time=9), clock=9)
    assert keys_of(services, later) == [0, 1, 2, 3, 4, 5, 6]
    assert (early.labels, later.labels) == (
        LabelsAsOf(label_time=4, version=1),
        LabelsAsOf(label_time=9, version=1),
    )


def test_labels_that_came_later_change_nothing(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 5 + [None] * 5)
    made = create(services, 0, 0, 10)
    assert (made.labels, made.keys_digest) == (LabelsAsOf(version=0), made.digest)
    set_labels(services.peers, "numbers", "a", range(10), [1] * 10, label_time=0)
    assert services.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=made.digest)) == made
    assert create(services, 0, 0, 10) == made
    again = create(services, 0, 0, 10, LabelsAsOf(version=0), pipeline="q")
    assert (again.digest, again.content_digest) == (made.digest, made.content_digest)
    newest = create(services, 0, 0, 10, pipeline="r")
    assert newest.num_samples == 10


def test_a_set_without_late_labels_does_not_depend_on_the_clock(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 10)
    sets = [
        create(services, 0, 0, 10, labels, pipeline=str(index), clock=9)
        for index, labels in enumerate((None, LabelsAsOf(label_time=9), LabelsAsOf(label_time=50, version=0)))
    ]
    assert len({made.digest for made in sets}) == 1
    assert {made.labels.HasField("label_time") for made in sets} == {False}
    before_them = create(services, 0, 0, 10, LabelsAsOf(label_time=4, version=0), pipeline="4", clock=9)
    assert (before_them.num_samples, before_them.labels.label_time) == (5, 4)


def test_sets_of_other_labels_share_keys_and_differ_in_content(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 10)
    before = create(services, 0, 0, 10, pipeline="a")
    set_labels(services.peers, "numbers", "correction", [3], [1], label_time=20)
    unseen = create(services, 0, 0, 10, LabelsAsOf(label_time=19), pipeline="b", clock=19)
    after = create(services, 0, 0, 10, LabelsAsOf(label_time=20), pipeline="c", clock=20)
    assert len({before.digest, unseen.digest, after.digest}) == 3
    assert before.keys_digest == unseen.keys_digest == after.keys_digest
    # A training depends on what the labels are, not on when they were asked for.
    assert before.content_digest == unseen.content_digest != after.content_digest


def test_a_trigger_repeated_with_other_labels_is_refused(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 10)
    made = create(services, 0, 0, 10, LabelsAsOf(label_time=9), clock=9)
    assert create(services, 0, 0, 10, LabelsAsOf(label_time=9), clock=9) == made
    with pytest.raises(ConflictError, match="selected before"):
        create(services, 0, 0, 10, LabelsAsOf(label_time=8), clock=9)


def test_later_triggers_do_not_select_what_was_deleted(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 20)
    first = create(services, 0, 0, 10)
    assert delete(services.peers, "numbers", [2, 3, 15]) == 3
    second = create(services, 1, 10, 20)
    assert keys_of(services, second) == [key for key in range(20) if key not in (2, 3, 15)]
    now = services.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=first.digest))
    assert now.digest == first.digest
    assert now.content_digest != first.content_digest  # no training of it is answered again


def test_test_samples_are_not_selected(services: StorageAndSelector) -> None:
    services.peers.storage.RegisterDataset(RegisterDatasetRequest(name="numbers", role=TEST))
    append_numbers(services.peers, "numbers", [0] * 10)
    assert create(services, 0, 0, 10).num_samples == 0

"""What readers are told beside labels: when they became known, and what samples were ingested in."""

from __future__ import annotations

import numpy as np

from modyn.core.keysets import KeyRange, KeySet
from modyn.proto.common_pb2 import Interval, KeyRanges
from modyn.proto.common_pb2 import KeyRange as KeyRangeMessage
from modyn.proto.storage_pb2 import InspectSamplesRequest, LabelsAsOf
from modyn.storage.reader import Column, Order, read_columns
from tests.storage.support import NAME, StorageServer


def test_label_times_tell_later_labels_from_ingested_ones(storage: StorageServer) -> None:
    storage.register()
    storage.append("one", {"x": [0] * 4, "timestamp": [30, 20, 10, 40], "label": [1, None, 3, 4]})
    before = read_columns(storage.stub, NAME, Interval(), columns=[Column.LABEL_TIME])
    assert before["label_time"].to_pylist() == [None] * 4
    storage.set_labels("late", {"key": [0, 1], "label": [7, 8], "label_time": [50, 60]})
    storage.set_labels("withdrawn", {"key": [0, 2], "label": [None, 5], "label_time": [70, 5]})
    columns = [Column.LABEL_TIME, Column.LABEL]
    for part, order, expected in (
        (Interval(), Order.KEY, [(70, None), (60, 8), (None, 3), (None, 4)]),
        (Interval(), Order.EVENT_TIME, [(None, 3), (60, 8), (70, None), (None, 4)]),
        (KeySet(ranges=(KeyRange(1, 3),)), Order.KEY, [(60, 8), (None, 3)]),
        (KeySet(array=np.array([3, 0])), Order.REQUEST, [(None, 4), (70, None)]),
    ):
        found = read_columns(storage.stub, NAME, part, columns=columns, order=order)
        assert list(zip(*(found[name].to_pylist() for name in ("label_time", "label")), strict=True)) == expected
    known = read_columns(
        storage.stub, NAME, Interval(), columns=columns, order=Order.KEY, labels=LabelsAsOf(label_time=65)
    )
    assert known["label_time"].to_pylist() == [50, 60, None, None]
    assert known["label"].to_pylist() == [7, 8, 3, 4]


def test_contents_are_the_segments_as_they_were_ingested(storage: StorageServer) -> None:
    storage.register()
    for number in range(4):
        storage.append(f"batch{number}", {"x": [number] * 3, "timestamp": [number] * 3, "label": [1, 2, 3]})

    def contents(*ranges: tuple[int, int]) -> list[tuple[int, int, str]]:
        parts = KeyRanges(ranges=[KeyRangeMessage(start=start, end=end) for start, end in ranges])
        info = storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME, ranges=parts, contents=True))
        return [(content.first_key, content.end_key, content.digest) for content in info.contents]

    everything = contents((0, 12))
    assert [content[:2] for content in everything] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert len({content[2] for content in everything}) == 4
    assert contents((4, 5), (8, 10)) == everything[1:]
    assert not storage.stub.InspectSamples(InspectSamplesRequest(dataset=NAME)).contents
    storage.set_labels("late", {"key": [0], "label": [9], "label_time": [50]})
    storage.compact()
    assert storage.describe().num_segments == 1
    assert contents((0, 12)) == everything
    storage.append("more", {"x": [5], "timestamp": [0], "label": [1]})
    assert contents((0, 12)) == everything

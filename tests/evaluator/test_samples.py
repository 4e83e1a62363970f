"""The samples of an evaluation: labels as they were known, roles, columns to slice by, digests, columns kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.values import to_value
from modyn.evaluator.finding import read_evaluation_samples
from modyn.evaluator.known_labels import known_labels
from modyn.evaluator.recent import Columns, RecentColumns
from modyn.evaluator.request import FIRST_SECOND, LAST_SECOND, Span
from modyn.evaluator.samples import AS_INGESTED, Samples, class_labels, label_bytes, number_labels
from modyn.proto.evaluator_pb2 import CERTIFICATION_UNSPECIFIED, CERTIFIED, CROSS_VALIDATION
from modyn.proto.storage_pb2 import CompactDatasetRequest, DeleteSamplesRequest, IngestRequest, RegisterDatasetRequest
from modyn.storage.reader import set_labels
from tests.helpers.evaluating import EvaluationServer

ALWAYS = Span(FIRST_SECOND, LAST_SECOND)


def find(server: EvaluationServer, name: str, *windows: Span, **options: Any) -> Samples:
    options = {"end_key": None, "history": False, **options}
    return read_evaluation_samples(options.pop("stub", server.peers.storage), name, windows, **options)


def set_some(server: EvaluationServer, name: str, batch: str, keys: Any, labels: Any, times: Any) -> None:
    columns = {"key": pa.array(keys, pa.int64()), "label": pa.array(labels, pa.int64()), "label_time": times}
    set_labels(server.peers.storage, name, batch, [pa.record_batch(columns)])


def delete(server: EvaluationServer, name: str, *keys: int) -> None:
    wanted = KeySet.from_array(np.array(keys)).to_proto()
    server.peers.storage.DeleteSamples(DeleteSamplesRequest(dataset=name, keys=wanted))


# ------------------------------------------------------------------------------------------------ labels as known


@pytest.mark.parametrize("seed", range(12))
def test_labels_as_known_equal_a_slow_oracle(server: EvaluationServer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, delay = 40, int(rng.choice([0, 0, 3, 50]))
    times = rng.integers(0, 30, count)
    base = [None if rng.random() < 0.3 else int(rng.integers(0, 4)) for _ in range(count)]
    name = server.dataset(pa.array(base, pa.int64()), times, x0=np.zeros(count, np.float32))
    versions = {key: [] if base[key] is None else [(int(times[key]), 0, base[key])] for key in range(count)}
    for version in range(1, 1 + int(rng.integers(0, 4))):
        keys = np.flatnonzero(rng.random(count) < 0.4)
        labels = [None if rng.random() < 0.3 else int(rng.integers(0, 4)) for _ in keys]
        moments = rng.integers(0, 45, len(keys))
        set_some(server, name, f"{name}-{version}", keys, labels, moments)
        for key, label, second in zip(keys.tolist(), labels, moments.tolist(), strict=True):
            versions[key].append((second, version, label))
    starts = rng.integers(-2, 25, 6).tolist()
    windows = [Span(start, start + int(rng.integers(1, 20))) for start in starts] + [Span(10, LAST_SECOND)]

    def known(key: int, second: int) -> int | None:
        seen = [version for version in versions[key] if version[0] <= second]
        if not seen:
            return None
        since, version, label = max(seen, key=lambda v: v[:2])
        return None if version == 0 and since + delay > second else label

    samples = find(server, name, *windows, labels_as_known=True, label_delay=delay)
    assert samples.known is not None
    order = sorted(range(count), key=lambda key: (times[key], key))
    for window, seen in zip(windows, samples.known, strict=True):
        inside = [key for key in order if window.start <= times[key] < window.end]
        expected = {key: label for key in inside if (label := known(key, window.end)) is not None}
        assert samples.keys[seen.rows].tolist() == list(expected)
        assert samples.all_labels.take(pa.array(seen.label_rows)).to_pylist() == list(expected.values())
        assert seen.num_unlabelled == len(inside) - len(expected)
    newest = {key: label for key in order if (label := known(key, 1000)) is not None}
    place = {key: index for index, key in enumerate(samples.keys.tolist())}
    for key, label in newest.items():
        if any(window.start <= times[key] < window.end for window in windows):
            assert samples.labels[place[key]].as_py() == label
            since, version, _ = max(versions[key], key=lambda v: v[:2])
            assert samples.known_at[place[key]] == since + (delay if version == 0 else 0)

    # Leaving samples out is the same as never having had them, but for the numbers of unlabelled ones.
    kept = rng.random(len(samples)) < 0.6
    fewer = samples.only(kept)
    assert fewer.known is not None
    for index, (before, after) in enumerate(zip(samples.known, fewer.known, strict=True)):
        stay = kept[before.rows]
        assert fewer.keys[after.rows].tolist() == samples.keys[before.rows][stay].tolist()
        before_labels = np.array(samples.all_labels.to_pylist())[before.label_rows]
        assert np.array(fewer.all_labels.to_pylist())[after.label_rows].tolist() == before_labels[stay].tolist()
        if stay.all():
            assert fewer.data_digest(index) == samples.data_digest(index)


def test_only_samples_whose_labels_came_after_a_window_are_read_anew() -> None:
    times, label_times = np.arange(40), np.full(40, AS_INGESTED)
    label_times[[2, 12, 14, 25]] = [10, 21, 22, 35]
    columns = Columns(times, times, pa.array(times % 3), label_times, np.zeros(40, dtype=np.bool_))
    asked: list[tuple[list[int], int]] = []

    def read_known(keys: Int64Array, second: int) -> Columns:
        """One of them was deleted meanwhile, the other one had another label."""
        asked.append((keys.tolist(), second))
        count = min(1, len(keys))
        return Columns(
            keys[:count],
            keys[:count],
            pa.array([7] * count),
            np.full(count, AS_INGESTED),
            np.zeros(count, dtype=np.bool_),
        )

    windows = (*(Span(start, start + 10) for start in range(0, 40, 10)), Span(0, 40), ALWAYS)
    samples = known_labels(columns, windows, 0, read_known)
    assert asked == [([12, 14], 20), ([25], 30)]
    assert samples.known is not None
    seen = samples.known[1]
    assert samples.keys[seen.rows].tolist() == [10, 11, 12, 13, 15, 16, 17, 18, 19]
    assert samples.all_labels.take(pa.array(seen.label_rows)).to_pylist() == [1, 2, 7, 1, 0, 1, 2, 0, 1]


def test_without_later_labels_the_delay_alone_decides(server: EvaluationServer) -> None:
    name = server.dataset(np.arange(5), np.arange(0, 50, 10), x0=np.zeros(5, np.float32))
    samples = find(server, name, Span(0, 30), Span(0, LAST_SECOND), labels_as_known=True, label_delay=15)
    assert samples.known is not None
    assert [window.rows.tolist() for window in samples.known] == [[0, 1], [0, 1, 2, 3, 4]]
    assert [window.num_unlabelled for window in samples.known] == [1, 0]
    assert samples.known_at.tolist() == [15, 25, 35, 45, 55]
    assert samples.label_times is None


# ------------------------------------------------------------------------------------------------ roles and columns


def mixed(server: EvaluationServer, folder: Path, name: str) -> str:
    """Six samples a second apart; those of odd seconds are for tests."""
    for number, kind in enumerate(("train", "test")):
        rows = "".join(f"{number + 2 * row},{row},{kind},{number + 2 * row}\n" for row in range(3))
        (folder / f"{kind}.csv").write_text("t,label,kind,x0\n" + rows)
    source = {"format": "csv", "path": str(folder), "timestamp": "t", "label": "label", "settle_seconds": 0}
    server.peers.storage.RegisterDataset(
        RegisterDatasetRequest(name=name, source=to_value(source | {"roles": {"test*": "test"}}))
    )
    list(server.peers.storage.Ingest(IngestRequest(dataset=name)))
    return name


def test_scores_of_test_samples_alone_are_certified(server: EvaluationServer, tmp_path: Path) -> None:
    name = mixed(server, tmp_path, "roles")
    windows = [Span(0, 6), Span(3, 4), Span(2, 3), Span(20, 30)]
    samples = find(server, name, *windows)
    assert samples.is_test.tolist() == [False, True] * 3
    answers = [samples.certification(index) for index in range(4)]
    assert answers == [CROSS_VALIDATION, CERTIFIED, CROSS_VALIDATION, CERTIFICATION_UNSPECIFIED]
    tests = find(server, name, *windows, test_only=True)
    assert tests.timestamps.tolist() == [1, 3, 5]
    assert tests.certification(0) == CERTIFIED
    assert tests.data_digest(0) != samples.data_digest(0)
    assert tests.data_digest(1) == samples.data_digest(1) != ""
    assert tests.data_digest(2) == "" != samples.data_digest(2)


def test_columns_to_slice_by_are_those_of_the_samples(server: EvaluationServer, tmp_path: Path) -> None:
    name = mixed(server, tmp_path, "slices")
    samples = find(server, name, Span(1, 4), history=True, slices=["kind", "x0"])
    assert samples.slices["kind"].to_pylist() == [None, "test", "train", "test"]
    assert samples.slices["x0"].to_pylist() == [None, 1, 2, 3]
    with pytest.raises(InvalidInputError, match="region"):
        find(server, name, Span(1, 4), slices=["region"])
    nested = server.dataset(np.zeros(2, int), np.arange(2), pixels=pa.array([b"a", b"b"]), boxes=pa.array([[1], [2]]))
    for column in ("pixels", "boxes"):
        with pytest.raises(InvalidInputError, match=rf"column '{column}' of dataset '{nested}' is (binary|list)"):
            find(server, nested, ALWAYS, slices=[column])


def test_labels_as_numbers() -> None:
    assert number_labels(pa.array([1, 2]), "d").tolist() == [[1.0], [2.0]]
    assert number_labels(pa.array([True, False]), "d").tolist() == [[1.0], [0.0]]
    assert number_labels(pa.array([0.5]), "d").tolist() == [[0.5]]
    assert number_labels(pa.array([[1, 2], [3, 4]]), "d").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert number_labels(pa.array([], pa.list_(pa.int64())), "d").shape == (0, 1)
    for labels, message in (
        (pa.array([[1], [2, 3]]), "labels of 1 to 2 numbers"),
        (pa.array(["a"]), "labels of type string"),
        (pa.array([[1, None]]), "missing numbers"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            number_labels(labels, "d")
    with pytest.raises(InvalidInputError, match="integer classes"):
        class_labels(pa.array([0.5]), "d")


def test_no_labels_are_classes_whatever_their_type() -> None:
    """A label transformer may make classes of lists, and there may be nothing for it to do."""
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.string(), pa.float64(), pa.int8()):
        assert class_labels(pa.array([], kind), "d").dtype == np.int64


def test_label_bytes_tell_labels_apart() -> None:
    different = [
        pa.array([1, 2]),
        pa.array([1, 3]),
        pa.array([1, 300]),
        pa.array([1, -1]),
        pa.array([1.0, 2.0]),
        pa.array([[1], [2]]),
        pa.array([[1, 2], []]),
        pa.array([[], [1, 2]]),
        pa.array([[1, None], []]),
        pa.array([[1, 0], []]),
    ]
    assert len({tuple(bytes(part) for part in label_bytes(labels)) for labels in different}) == len(different)
    assert label_bytes(pa.array([5, 7])) == label_bytes(pa.array([5, 7], pa.int32()))


# ------------------------------------------------------------------------------------------------ digests of the data


def test_a_data_digest_goes_by_the_samples_of_its_window_alone(fresh_server: EvaluationServer) -> None:
    server = fresh_server
    rng = np.random.default_rng(3)
    times = rng.permutation(100)
    name = server.dataset(rng.integers(0, 3, 100), times, x0=rng.normal(size=100))
    window = Span(20, 50)
    first = find(server, name, window).data_digest(0)
    others = find(server, name, Span(0, 5), Span(10, 90), window, history=True, labels_as_known=True)
    assert others.data_digest(2) == first
    assert len({others.data_digest(index) for index in range(3)}) == 3

    server.extend(name, np.array([1]), np.array([200]), x0=np.array([0.5]))
    assert find(server, name, window).data_digest(0) == first
    list(server.peers.storage.CompactDataset(CompactDatasetRequest(dataset=name)))
    assert find(server, name, window).data_digest(0) == first

    inside = int(np.flatnonzero(times == 30)[0])
    outside = int(np.flatnonzero(times == 60)[0])
    set_some(server, name, "outside", [outside], [7], [100])
    assert find(server, name, window).data_digest(0) == first
    set_some(server, name, "inside", [inside], [7], [100])
    relabelled = find(server, name, window)
    assert relabelled.data_digest(0) != first
    assert find(server, name, window, labels_as_known=True).data_digest(0) == first  # it came after the window's end
    delete(server, name, inside)
    assert find(server, name, window).data_digest(0) not in {first, relabelled.data_digest(0)}

    twin = server.dataset(rng.integers(0, 3, 100), times, x0=rng.normal(size=100))
    assert find(server, twin, window).data_digest(0) != first


# ------------------------------------------------------------------------------------------------ columns kept


class Counting:
    """A stub that counts its calls."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._stub, name)


def test_columns_read_lately_are_used_until_anything_changes(server: EvaluationServer) -> None:
    rng = np.random.default_rng(5)
    name = server.dataset(rng.integers(0, 3, 50), np.arange(50), x0=rng.normal(size=50))
    stub, recent = Counting(server.peers.storage), RecentColumns()

    def reads(*windows: Span, **options: Any) -> int:
        """How often columns were read; what came is what comes without any memory."""
        before = stub.calls["ReadColumns"]
        found = find(server, name, *windows, stub=stub, recent=recent, **options)
        fresh = find(server, name, *windows, **options)
        assert found.keys.tolist() == fresh.keys.tolist()
        assert found.timestamps.tolist() == fresh.timestamps.tolist()
        assert found.labels.equals(fresh.labels)
        assert found.unlabelled_timestamps.tolist() == fresh.unlabelled_timestamps.tolist()
        assert [found.data_digest(i) for i in range(len(windows))] == [
            fresh.data_digest(i) for i in range(len(windows))
        ]
        return stub.calls["ReadColumns"] - before

    assert reads(Span(0, 20), Span(30, 40)) == 2
    assert reads(Span(0, 20), Span(30, 40)) == 0
    assert reads(Span(5, 9), Span(9, 15), Span(33, 35)) == 0
    assert reads(Span(15, 33)) == 1  # the gap was not read
    assert reads(Span(0, 40), history=True) == 1
    assert reads(Span(3, 40), Span(10, 12)) == 0
    server.extend(name, np.array([1]), np.array([100]), x0=np.array([0.5]))
    assert reads(Span(3, 40)) == 0  # other seconds
    assert reads(Span(3, 40), end_key=20) == 1  # as the dataset was when it was shorter
    assert reads(Span(3, 40)) == 1
    server.extend(name, np.array([1]), np.array([10]), x0=np.array([0.5]))
    assert reads(Span(3, 40)) == 1
    set_some(server, name, f"{name}-late", [7], [None], [100])
    assert reads(Span(3, 40)) == 1
    assert reads(Span(3, 40)) == 0
    delete(server, name, 12)
    assert reads(Span(3, 40)) == 1
    assert reads(Span(3, 40)) == 0


def test_columns_from_before_the_first_later_label_go_with_those_after_it(server: EvaluationServer) -> None:
    name = server.dataset(np.arange(1_000) % 3, np.arange(1_000), x0=np.zeros(1_000))
    server.extend(name, np.array([1, 2]), np.array([2_000, 2_001]), x0=np.zeros(2))  # a segment of its own
    recent = RecentColumns()
    find(server, name, Span(10, 20), recent=recent)
    set_some(server, name, f"{name}-late", [1_000], [0], [3_000])
    stub = Counting(server.peers.storage)
    samples = find(server, name, Span(10, 20), stub=stub, recent=recent, labels_as_known=True, label_delay=5)
    assert samples.known is not None
    assert samples.known[0].rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert samples.known_at.tolist() == list(range(15, 25))
    assert stub.calls["ReadColumns"] == 0  # nothing but the delay kept a label from being known at the end


def test_the_least_recently_used_columns_are_forgotten() -> None:
    def columns(count: int) -> Columns:
        keys = np.arange(count)
        return Columns(keys, keys, pa.array(keys), None, np.zeros(count, bool))  # 25 bytes a sample

    recent = RecentColumns(1_000)
    span = Span(0, 100)
    for name in "ab":
        recent.keep(name, "digest", [(span, columns(15))])
    assert recent.find("a", [span], lambda _: "digest") is not None
    recent.keep("c", "digest", [(span, columns(15))])
    assert [recent.find(name, [span], lambda _: "digest") is not None for name in "abc"] == [True, False, True]
    assert recent.nbytes <= 1_000
    recent.keep("a", "digest", [(span, columns(50))])
    assert recent.find("a", [span], lambda _: "digest") is None
    assert recent.find("c", [span], lambda _: "another digest") is None

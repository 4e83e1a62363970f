"""Labels are bitemporal: random histories against an oracle, the files they lie in, and what a batch may look like."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError, InvalidInputError, UnavailableError
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.storage import label_index, label_merging, label_search, labels
from modyn.storage.asof import NEWEST, AsOf
from modyn.storage.label_batches import check_label_batch, count_corrected
from modyn.storage.label_files import (
    LabelFileInfo,
    delete_label_file,
    file_path,
    open_label_file,
    verify_label_file,
    write_label_file,
)
from modyn.storage.label_index import KeyIndex
from modyn.storage.label_merging import MIN_FILES_TO_MERGE, files_to_merge, merge_label_files
from modyn.storage.label_values import corrected
from modyn.storage.labels import LabelHistory

INT = pa.int64()
TYPES = [INT, pa.float64(), pa.list_(INT), pa.list_(pa.float64())]


def ints(*values: int) -> Int64Array:
    return np.array(values, dtype=np.int64)


def write(
    parent: Path, version: int, keys: list[int], values: list[Any], times: list[int], *, kind: pa.DataType = INT
) -> LabelFileInfo:
    return write_label_file(parent, ints(*keys), pa.array(values, kind), ints(*times), version=version, arrival=version)


@dataclass
class Oracle:
    """All versions of every label: key -> [(label time, version, arrival, label)]; slow and obvious."""

    timestamps: Int64Array
    arrivals: Int64Array
    base: list[Any]
    versions: dict[int, list[tuple[int, int, int, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, label in enumerate(self.base):
            first = (int(self.timestamps[key]), 0, int(self.arrivals[key]), label)
            self.versions[key] = [] if label is None else [first]

    def known(self, key: int, as_of: AsOf) -> list[tuple[int, int, int, Any]]:
        return [
            (time, version, arrival, label)
            for time, version, arrival, label in self.versions[key]
            if (as_of.label_time is None or time <= as_of.label_time)
            and (as_of.arrival is None or arrival <= as_of.arrival)
            and (as_of.version is None or version <= as_of.version)
        ]

    def label(self, key: int, as_of: AsOf) -> Any:
        known = self.known(key, as_of)
        return max(known, key=lambda v: v[:2])[3] if known else None

    def label_time(self, key: int, as_of: AsOf) -> int | None:
        """None for a label that was ingested."""
        time, version = max((v[:2] for v in self.known(key, as_of)), default=(0, 0))
        return time if version else None


def random_label(rng: np.random.Generator, kind: pa.DataType, missing: float) -> Any:
    if rng.random() < missing:
        return None
    if pa.types.is_list(kind):
        return [random_label(rng, kind.value_type, 0) for _ in range(rng.integers(0, 3))]
    return int(rng.integers(0, 5)) if kind == INT else float(rng.integers(0, 5)) / 2


def random_as_of(rng: np.random.Generator, num_batches: int) -> AsOf:
    def maybe(value: int) -> int | None:
        return value if rng.random() < 0.5 else None

    return AsOf(
        maybe(int(rng.integers(-2, 40))), maybe(int(rng.integers(0, 40))), maybe(int(rng.integers(0, num_batches + 2)))
    )


class Story:
    """A dataset to which random labels happen, with its oracle."""

    def __init__(self, parent: Path, seed: int, *, distinct: bool = False) -> None:
        self.parent = parent
        self.rng = rng = np.random.default_rng(seed)
        self.kind = TYPES[seed % len(TYPES)]
        self.n = int(rng.integers(1, 30))
        timestamps = rng.integers(0, 30, self.n)
        self.distinct = itertools.count() if distinct else None
        base = self.random_labels(self.n, 0.5)
        self.oracle = Oracle(timestamps, np.sort(rng.integers(0, 10, self.n)), base)
        self.base = pa.array(base, self.kind)
        self.history = LabelHistory()
        self.version, self.arrival = 0, 10
        self.deleted: set[int] = set()

    def random_labels(self, length: int, missing: float) -> list[Any]:
        found = [random_label(self.rng, self.kind, missing) for _ in range(length)]
        return found if self.distinct is None else [None if x is None else next(self.distinct) for x in found]

    def set_labels(self) -> None:
        self.version += 1
        self.arrival += int(self.rng.integers(0, 4))
        low, high = sorted(self.rng.integers(0, self.n + 1, 2).tolist())
        inside = np.arange(low, high)
        keys = inside if self.rng.random() < 0.3 else inside[self.rng.random(len(inside)) < 0.4]
        values = self.random_labels(len(keys), 0.2)
        times = self.rng.integers(0, 40, len(keys))  # before, at and after event time and earlier versions
        kind = pa.null() if all(value is None for value in values) and self.rng.random() < 0.5 else self.kind
        info = write_label_file(
            self.parent, keys, pa.array(values, kind), times, version=self.version, arrival=self.arrival
        )
        self.history = self.history.plus(self.parent, info)
        for key, time, label in zip(keys.tolist(), times.tolist(), values, strict=True):
            self.oracle.versions[key].append((time, self.version, self.arrival, label))

    def merge(self) -> None:
        infos = self.history.infos
        if infos:
            first = int(self.rng.integers(0, len(infos)))
            last = int(self.rng.integers(first, len(infos))) + 1
            self.replace(infos[first:last])

    def replace(self, infos: tuple[LabelFileInfo, ...]) -> None:
        merged = merge_label_files(self.parent, infos, self.kind, self.is_deleted)
        self.history = self.history.merged(self.parent, merged)
        for info in infos:
            delete_label_file(self.parent, info.name)

    def restart(self) -> None:
        infos = [replace(info) for info in self.history.infos]
        self.rng.shuffle(infos)
        self.history = LabelHistory.open(self.parent, infos)

    def is_deleted(self, keys: Int64Array) -> npt.NDArray[np.bool_]:
        return np.isin(keys, list(self.deleted))

    def resolve(self, keys: Int64Array, as_of: AsOf) -> list[Any]:
        answer = self.history.resolve(
            keys,
            self.base.take(pa.array(keys)),
            self.oracle.timestamps[keys],
            self.oracle.arrivals[keys],
            as_of,
        )
        assert answer.type == self.kind
        answer.validate(full=True)
        values: list[Any] = answer.to_pylist()
        return values

    def label_times(self, keys: Int64Array, as_of: AsOf) -> list[Any]:
        times, arrivals = self.oracle.timestamps[keys], self.oracle.arrivals[keys]
        answer = self.history.label_times(keys, self.base.take(pa.array(keys)), times, arrivals, as_of)
        found: list[Any] = answer.to_pylist()
        return found

    def random_keys(self) -> Int64Array:
        way = self.rng.integers(0, 3)
        if way == 0:
            low, high = sorted(self.rng.integers(0, self.n + 1, 2).tolist())
            return np.arange(low, high)
        if way == 1:
            return np.flatnonzero(self.rng.random(self.n) < 0.5)
        return self.rng.integers(0, self.n, int(self.rng.integers(1, 60)))

    def step(self) -> None:
        self.rng.choice([self.set_labels, self.set_labels, self.set_labels, self.merge, self.restart])()  # type: ignore[arg-type]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which work is cut into pieces, so small that it is; thousands of files need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(label_merging, "_WINDOW_ROWS", 4)
    monkeypatch.setattr(label_search, "_EXPANDED_ROWS", 5)
    monkeypatch.setattr(label_search, "_MIN_INDEXED", 20)
    monkeypatch.setattr(label_index, "_BUILT_KEYS", 64)
    monkeypatch.setattr(labels, "_DIGEST_KEYS", 8)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seeds", [range(start, start + 60) for start in range(0, 240, 60)])
def test_random_histories_equal_the_oracle(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        story = Story(tmp_path / str(seed), seed)
        for _ in range(12):
            story.step()
            for as_of in (NEWEST, random_as_of(story.rng, story.version)):
                keys = story.random_keys()
                expected = [story.oracle.label(key, as_of) for key in keys.tolist()]
                assert story.resolve(keys, as_of) == expected, (seed, keys, as_of)
                times = [story.oracle.label_time(key, as_of) for key in keys.tolist()]
                assert story.label_times(keys, as_of) == times, (seed, keys, as_of)


@pytest.mark.usefixtures("small_pieces")
def test_no_label_is_seen_before_its_time(tmp_path: Path) -> None:
    """Asserted directly: every label is another number, which tells its times."""
    for seed in range(0, 120, len(TYPES)):
        story = Story(tmp_path / str(seed), seed, distinct=True)
        for _ in range(10):
            story.step()
        versions = {v[3]: v[:3] for of_key in story.oracle.versions.values() for v in of_key if v[3] is not None}
        for now in range(41):
            for kind, as_of in enumerate((AsOf(label_time=now), AsOf(version=now), AsOf(arrival=now))):
                seen = [label for label in story.resolve(np.arange(story.n), as_of) if label is not None]
                assert all(versions[label][kind] <= now for label in seen)


@pytest.mark.usefixtures("small_pieces")
def test_merging_and_restarting_change_no_answer_and_no_digest(tmp_path: Path) -> None:
    for seed in range(32):
        story = Story(tmp_path / str(seed), seed)
        for _ in range(8):
            story.set_labels()
        asked = [random_as_of(story.rng, story.version) for _ in range(8)]
        every = np.arange(story.n)

        def answers(story: Story = story, every: Int64Array = every, asked: list[AsOf] = asked) -> list[Any]:
            spans = [(0, story.n), (story.n // 3, story.n), (0, story.n // 2)]
            digests = [story.history.digest(*span, story.kind, as_of) for span in spans for as_of in asked]
            since = [story.history.keys_since(version).tolist() for version in range(10)]
            return [[story.resolve(every, as_of) for as_of in asked], digests, since]

        before, labels_before = answers(), story.history.num_labels
        for _ in range(3):
            story.merge()
            story.restart()
            assert answers() == before
        assert (story.history.version, story.history.num_labels) == (8, labels_before)


@pytest.mark.usefixtures("small_pieces")
def test_a_digest_tells_what_is_seen(tmp_path: Path) -> None:
    """Equal digests go with equal labels, and what is not seen does not matter."""
    for seed in range(60):
        story = Story(tmp_path / str(seed), seed)
        every = np.arange(story.n)
        by_digest: dict[str, list[Any]] = {}
        for _ in range(10):
            story.step()
            digest = story.history.digest(0, story.n, story.kind)
            assert by_digest.setdefault(digest, story.resolve(every, NEWEST)) == story.resolve(every, NEWEST)
        as_of = AsOf(label_time=20, version=story.version)
        digest = story.history.digest(0, story.n, story.kind, AsOf(version=story.version))
        known = story.history.digest(0, story.n, story.kind, as_of)
        for _ in range(3):
            story.set_labels()
        assert story.history.digest(0, story.n, story.kind, AsOf(version=as_of.version)) == digest
        assert story.history.digest(0, story.n, story.kind, as_of) == known


def test_what_a_digest_leaves_out(tmp_path: Path) -> None:
    history = LabelHistory.open(tmp_path, [write(tmp_path, 1, [2, 5], [1, 1], [10, 20])])

    def digest(history: LabelHistory, first: int = 0, end: int = 10, label_time: int | None = None) -> str:
        return history.digest(first, end, INT, AsOf(label_time=label_time))

    later = history.plus(tmp_path, write(tmp_path, 2, [2, 12], [7, 7], [30, 30]))
    assert digest(history) != digest(later)
    assert digest(history, label_time=29) == digest(later, label_time=29) == digest(history)
    assert digest(history, first=3) == digest(later, first=3) != ""  # around its keys
    assert digest(history, first=3, end=5) == digest(later, first=10, end=12) == ""
    assert digest(history, label_time=9) == ""
    # what a correction hides is gone from the content
    assert digest(later) == digest(history.plus(tmp_path, write(tmp_path, 2, [2], [7], [30])))
    # null and zero differ
    withdrawn, zero = (write(tmp_path, 2, [2], [label], [30]) for label in (None, 0))
    assert digest(history.plus(tmp_path, withdrawn)) != digest(history.plus(tmp_path, zero))
    # labels of deleted samples are no content, before and after they are removed
    gone = later.merged(tmp_path, merge_label_files(tmp_path, later.infos, INT, lambda keys: keys == 2))
    assert digest(gone) == later.digest(0, 10, INT, NEWEST, lambda keys: keys == 2) != digest(later)


@pytest.mark.usefixtures("small_pieces")
def test_labels_of_deleted_samples_are_forgotten_and_no_others(tmp_path: Path) -> None:
    for seed in range(60):
        story = Story(tmp_path / str(seed), seed)
        for _ in range(6):
            story.step()
        story.deleted = set(np.flatnonzero(story.rng.random(story.n) < 0.4).tolist())
        for info in story.history.holding(np.array(sorted(story.deleted), dtype=np.int64)):
            story.replace((info,))
        assert not set(story.history.keys_since(0).tolist()) & story.deleted
        live = np.array([key for key in range(story.n) if key not in story.deleted], dtype=np.int64)
        for as_of in (NEWEST, random_as_of(story.rng, story.version)):
            assert story.resolve(live, as_of) == [story.oracle.label(key, as_of) for key in live.tolist()]


def test_the_rules_one_by_one(tmp_path: Path) -> None:
    base, times = pa.array([1, None, 3], INT), ints(100, 100, 100)

    def newest(*infos: LabelFileInfo, as_of: AsOf = NEWEST) -> list[Any]:
        found = LabelHistory.open(tmp_path, infos).resolve(ints(0, 1, 2), base, times, 0, as_of)
        values: list[Any] = found.to_pylist()
        return values

    at_event = write(tmp_path, 1, [0, 1], [7, 7], [100, 100])
    assert newest(at_event) == [7, 7, 3]  # of equal label times the later batch
    assert newest(write(tmp_path, 1, [0, 1], [7, 7], [99, 99])) == [1, 7, 3]  # a missing base label is no version
    assert newest(write(tmp_path, 1, [0, 2], [None, None], [100, 99])) == [None, None, 3]  # withdrawn; too old
    late = write(tmp_path, 2, [0, 1], [8, 8], [150, 90])
    assert newest(at_event, late) == [8, 7, 3]
    assert newest(at_event, late, as_of=AsOf(label_time=149)) == [7, 7, 3]
    assert newest(at_event, late, as_of=AsOf(label_time=99)) == [None, 8, None]  # the base is known from its event on
    assert newest(at_event, late, as_of=AsOf(version=1)) == [7, 7, 3]
    assert newest(at_event, late, as_of=AsOf(version=0)) == [1, None, 3]
    assert newest(at_event, late, as_of=AsOf(arrival=1)) == [7, 7, 3]
    assert newest(as_of=AsOf(arrival=-1)) == [None, None, None]


def test_what_is_not_affected_is_not_touched(tmp_path: Path) -> None:
    history = LabelHistory.open(tmp_path, [write(tmp_path, 1, [100, 200], [1, 2], [0, 0])])
    base = pa.array([1, 2], INT)
    assert history.resolve(ints(1, 99), base, None) is base
    assert history.resolve(ints(201, 99), base, ints(0, 0)) is base  # by bounds it might have changed
    assert history.resolve(ints(100, 200), base, ints(5, 5)).to_pylist() == [1, 2]
    assert history.resolve(ints(100, 200), base, None, None, AsOf(version=0)) is base
    assert LabelHistory().resolve(ints(1, 2), base, None) is base
    assert history.resolve(ints(), base.slice(0, 0), ints()).to_pylist() == []
    assert [history.affects(*span) for span in [(0, 100), (0, 101), (150, 151), (201, 300)]] == [
        False,
        True,
        True,
        False,
    ]
    assert history.applies(0, 1, AsOf(label_time=1))
    assert not history.applies(0, 1, AsOf(version=0))


def test_as_of_travels() -> None:
    for as_of in (NEWEST, AsOf(0, 0, 0), AsOf(label_time=-5), AsOf(arrival=3, version=9)):
        assert AsOf.from_proto(as_of.to_proto()) == as_of
    assert AsOf.from_proto(None).is_newest
    assert not AsOf(version=0).is_newest
    assert AsOf(label_time=5).hides_base(6, 0)
    assert not AsOf(label_time=5, arrival=1).hides_base(5, 1)
    with pytest.raises(InvalidInputError, match=r"labels\.version is -1"):
        AsOf.from_proto(LabelsAsOf(version=-1))


# ------------------------------------------------------------------------------------------------- files


def test_files_of_other_label_types_are_read_as_the_datasets(tmp_path: Path) -> None:
    nulls = write(tmp_path, 1, [0], [None], [5], kind=pa.null())
    whole = write(tmp_path, 2, [1], [3], [5], kind=INT)
    history = LabelHistory.open(tmp_path, [whole, nulls])
    base = pa.array([0.5, 0.5, 0.5])
    keys, times = ints(0, 1, 2), ints(0, 0, 0)
    for _ in range(2):
        assert history.resolve(keys, base, times).to_pylist() == [None, 3.0, 0.5]
        digest = history.digest(0, 3, pa.float64())
        history = history.merged(tmp_path, merge_label_files(tmp_path, history.infos, pa.float64()))
        assert history.digest(0, 3, pa.float64()) == digest
    of_lists = LabelHistory.open(tmp_path, [replace(write(tmp_path, 1, [0], [None], [5], kind=INT))])
    assert of_lists.resolve(ints(0), pa.array([[1]]), ints(0)).to_pylist() == [None]


def test_damage_is_found_and_spoils_only_what_needs_the_file(tmp_path: Path) -> None:
    good, bad = write(tmp_path, 1, [0, 1], [1, 1], [0, 0]), write(tmp_path, 2, [5, 6], [2, 2], [0, 0])
    path = file_path(tmp_path, bad.name)
    verify_label_file(tmp_path, bad)
    whole = path.read_bytes()

    flipped = bytearray(whole)
    flipped[whole.index(ints(2, 2).tobytes())] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(CorruptDataError, match="does not match its checksum"):
        verify_label_file(tmp_path, bad)

    zeros = bytes(len(whole))
    for content, message in [(whole[:-8], "bytes; expected"), (zeros, "cannot be decoded"), (None, "cannot be read")]:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(CorruptDataError, match=message):
            open_label_file(tmp_path, bad)
        history = LabelHistory.open(tmp_path, [good, bad])
        assert len(history.damage) == 1
        assert path.name in history.damage[0]
        base, times = pa.array([None, None], INT), ints(0, 0)
        assert history.resolve(ints(0, 1), base, times).to_pylist() == [1, 1]
        assert history.resolve(ints(0, 5), base, times, None, AsOf(version=1)).to_pylist() == [1, None]
        with pytest.raises(CorruptDataError, match=message):
            history.resolve(ints(0, 5), base, times)

    path.write_bytes(file_path(tmp_path, good.name).read_bytes())
    with pytest.raises(CorruptDataError, match="keys 0 to 1; expected 2 of keys 5 to 6"):
        open_label_file(tmp_path, replace(bad, num_bytes=good.num_bytes))


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """A limit on the size of files stands for the end of the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    parent = tmp_path / "labels"
    keys = np.arange(20_000)
    info = write_label_file(parent, keys, pa.array(keys), keys, version=1, arrival=1)
    with full_disk(100_000):
        with pytest.raises(UnavailableError, match=r"nothing was committed\. Free or add disk space"):
            write_label_file(parent, keys, pa.array(keys), keys, version=2, arrival=1)
        with pytest.raises(UnavailableError, match="nothing was committed"):
            merge_label_files(parent, [info], INT)
    assert [path.stem for path in parent.iterdir()] == [info.name]


def test_readers_keep_files_that_compaction_deleted(tmp_path: Path) -> None:
    infos = [write(tmp_path, version, [3], [version], [version]) for version in range(1, 4)]
    old = LabelHistory.open(tmp_path, infos)
    new = old.merged(tmp_path, merge_label_files(tmp_path, infos, INT))
    for info in infos:
        delete_label_file(tmp_path, info.name)
        delete_label_file(tmp_path, info.name)
    for history in (old, new):
        assert history.resolve(ints(3), pa.array([0], INT), ints(0)).to_pylist() == [3]
    assert new.infos[0].first_version == 1
    assert new.version == 3


def test_empty_batches_and_files_of_deleted_samples_alone(tmp_path: Path) -> None:
    infos = [write(tmp_path, 1, [], [], []), write(tmp_path, 2, [4], [1], [0])]
    merged = merge_label_files(tmp_path, infos, INT, lambda keys: keys >= 0)
    history = LabelHistory.open(tmp_path, [merged])
    assert (history.version, history.num_labels, merged.min_key, merged.max_key) == (2, 0, 0, -1)
    assert not history.affects(0, 10)
    verify_label_file(tmp_path, merged)


def test_files_stay_few_and_labels_are_seldom_rewritten() -> None:
    rng = np.random.default_rng(0)
    cases = {
        "equal": [1000] * 3000,
        "skewed": (10 ** rng.uniform(0, 5, 3000)).astype(int).tolist(),
        "rising": list(range(1, 3000)),
        "falling": list(range(3000, 0, -1)),
        "alternating": [1, 100_000] * 100,
        "empty": [0] * 100,
        "large": [3_000_000] * 30,
    }
    for name, sizes in cases.items():
        infos: list[LabelFileInfo] = []
        rewritten = most = 0
        for size in sizes:
            infos.append(LabelFileInfo("", 0, 0, 0, 0, size, 0, 0, 0, ""))
            chosen = files_to_merge(infos)
            if chosen is not None:
                assert chosen.stop == len(infos)
                total = sum(info.num_labels for info in infos[chosen])
                assert total <= label_merging.MAX_MERGED_LABELS
                rewritten += total
                infos[chosen] = [replace(infos[-1], num_labels=total)]
            most = max(most, len(infos))
        least = sum(sizes) / (label_merging.MAX_MERGED_LABELS / 2)
        assert most <= MIN_FILES_TO_MERGE + np.log2(len(sizes)) + least, name
        assert rewritten <= np.log2(len(sizes)) * sum(sizes), name


@pytest.mark.parametrize("unique", [True, False])
def test_an_index_finds_what_a_search_finds(unique: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_index, "_BUILT_KEYS", 256)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        first, span = int(rng.integers(0, 1000)), int(rng.integers(1, 1000))
        stored = np.sort(first + rng.integers(0, span, int(rng.integers(1, 300))))
        stored = np.unique(stored) if unique else stored
        keys = rng.integers(stored[0], stored[-1] + 1, 500)
        places, rows = KeyIndex.of(stored, unique=unique).find(keys)
        last = np.searchsorted(stored, keys, side="right") - 1
        expected = np.flatnonzero(stored[last] == keys)
        assert places.tolist() == expected.tolist()
        assert rows.tolist() == last[expected].tolist()


# ------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_brought_into_order() -> None:
    batch = check_label_batch(
        pa.array([7, 3, 5], pa.uint32()),
        pa.array([1.0, float("nan"), 0.0], pa.float32()),
        pa.array([30, 10, 20]),
        end_key=8,
        label_type=INT,
        is_deleted=lambda keys: keys == 5,
    )
    assert (batch.keys.tolist(), batch.labels.to_pylist()) == ([3, 7], [None, 1])
    assert batch.label_times.tolist() == [10, 30]
    assert (batch.labels.type, batch.num_deleted) == (INT, 1)
    unknown = check_label_batch(pa.array([1]), pa.nulls(1), 5, end_key=2, label_type=None)
    assert (unknown.labels.type, unknown.label_times.tolist()) == (pa.null(), [5])
    lists = check_label_batch(pa.array([1]), pa.nulls(1), 5, end_key=2, label_type=pa.list_(INT))
    assert lists.labels.type == pa.list_(INT)
    none = check_label_batch(pa.array([], INT), pa.array([], INT), 5, end_key=0, label_type=None)
    assert len(none.keys) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": pa.array([1, 2, 1])}, r"1 key \(1\) occur more than once; send each key once"),
        ({"keys": pa.array([1, 10, 99])}, r"2 keys \(10, 99\) do not exist; expected 0 <= key < 10; nothing was"),
        ({"keys": pa.array([1, -4, 2])}, r"1 key \(-4\) do not exist"),
        ({"keys": pa.array([1, None, 2])}, r"'key' is missing in 1 row \(1\)"),
        ({"keys": pa.array(["a", "b", "c"])}, "'key' is string; expected int64"),
        ({"keys": pa.array([2**63, 0, 1], pa.uint64())}, "'key' is uint64"),
        ({"labels": pa.array(["a", "b", "c"])}, "label column 'label' is string; expected numbers"),
        ({"labels": pa.array([0.5, 1.0, 2.0])}, "labels are double; expected int64"),
        ({"labels": pa.array([[1], [2], [3]])}, "labels are list<item: int64>; expected int64"),
        ({"label_times": pa.array([1, None, None])}, r"label_time is missing for 2 keys \(1, 2\)"),
        ({"label_times": pa.array(["a", "b", "c"])}, "'label_time' is string"),
        ({"end_key": 0}, r"3 keys \(0, 1, 2\) do not exist; the dataset has no samples yet"),
    ],
)
def test_wrong_batches_are_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "keys": pa.array([0, 1, 2]), "labels": pa.array([1, 0, 1]), "label_times": pa.array([1, 2, 3]), "end_key": 10
    }  # fmt: skip
    check_label_batch(**right, label_type=INT)
    with pytest.raises(InvalidInputError, match=message):
        check_label_batch(**right | change, label_type=INT)


@pytest.mark.parametrize(
    ("kind", "old", "new", "expected"),
    [
        (INT, [1, 1, None, None, 1], [1, 2, 3, None, None], [0, 1, 0, 0, 1]),
        (pa.float64(), [0.5, 0.5], [0.5, 0.25], [0, 1]),
        (
            pa.list_(INT),
            [[], [1], [1, 2], [1, 2], None, [3], [1, None], [1, None], [4, 4]],
            [[], [], [1, 2], [2, 1], [1], None, [1, None], [1, 0], [4, 4]],
            [0, 1, 0, 1, 0, 1, 0, 1, 0],
        ),
        (pa.list_(pa.float64()), [[0.5], []], [[0.5], [0.5]], [0, 1]),
    ],
)
def test_corrections_are_told_from_new_labels(kind: pa.DataType, old: Any, new: Any, expected: list[int]) -> None:
    assert corrected(pa.array(old, kind), pa.array(new, kind)).tolist() == [bool(flag) for flag in expected]
    assert corrected(pa.nulls(2, kind), pa.array(new, kind).slice(0, 2)).tolist() == [False, False]
    assert count_corrected(pa.array(new, kind), pa.array(old, kind)) == sum(expected)
    assert count_corrected(pa.array(new, kind), pa.nulls(len(new), INT)) == 0
    assert count_corrected(pa.nulls(len(old)), pa.array(old, kind)) == len(old) - old.count(None)

"""Random histories of datasets against a plain oracle: what belongs to a sample stays together, whatever happens."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modyn.core.keysets import KeyRange, KeySet
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import InspectSamplesRequest, LabelsAsOf, Purpose, ReadColumnsRequest, Role
from modyn.storage.reader import read_columns, read_samples
from tests.storage.support import StorageServer, interval
from tests.storage.workload import numbers_of

Column, Order = ReadColumnsRequest.Column, ReadColumnsRequest.Order
COLUMNS = [Column.TIMESTAMP, Column.LABEL, Column.ARRIVAL, Column.ROLE]
FORMATS = ["csv", "jsonl", "parquet", "arrow", "binary", "numpy"]
SEQUENCES, STEPS = 5, 15


@dataclass
class Sample:
    """All that is known of a sample; its key is its place in the list of all."""

    number: int
    time: int
    label: int | None
    role: int
    arrival: int
    superseded_at: int | None = None
    """The dataset's end key since then."""
    deleted: bool = False
    later: list[tuple[int, int, int | None]] = field(default_factory=list)
    """Later labels: label time, version, label."""

    def label_as_of(self, time: int | None = None, version: int | None = None) -> int | None:
        versions = list(self.later) if self.label is None else [(self.time, 0, self.label), *self.later]
        seen = [
            each for each in versions if (time is None or each[0] <= time) and (version is None or each[1] <= version)
        ]
        return max(seen, key=lambda each: each[:2])[2] if seen else None


def write_file(kind: str, path: Path, samples: list[Sample]) -> None:
    """Renamed into place."""
    numbers, times = [s.number for s in samples], [s.time for s in samples]
    labels = [s.label for s in samples]
    temporary = path.with_name("." + path.name)
    if kind == "binary":
        rows = zip(labels, times, numbers, strict=True)
        parts = (bytes([c or 0]) + t.to_bytes(8, "little") + n.to_bytes(8, "little") * 2 for c, t, n in rows)
        temporary.write_bytes(b"".join(parts))
    elif kind == "numpy":
        records = np.zeros(len(samples), dtype=[("payload", "<i8"), ("label", "<i8"), ("timestamp", "<i8")])
        records["payload"], records["label"], records["timestamp"] = numbers, labels, times
        with temporary.open("wb") as file:
            np.save(file, records)
    else:
        columns = {"payload": numbers, "label": pa.array(labels, pa.int64()), "timestamp": times}
        table = pa.table(columns)
        if kind == "csv":
            lines = (f"{n},{'' if c is None else c},{t}\n" for n, c, t in zip(numbers, labels, times, strict=True))
            temporary.write_text("payload,label,timestamp\n" + "".join(lines))
        elif kind == "jsonl":
            temporary.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        elif kind == "parquet":
            pq.write_table(table, temporary)
        else:
            with pa.ipc.new_file(temporary, table.schema) as writer:
                writer.write_table(table, max_chunksize=4)
    temporary.rename(path)


SOURCES: dict[str, dict[str, Any]] = {
    "binary": {"record_size": 25, "label_size": 1, "timestamp_size": 8},
}
SUFFIXES = {"binary": "bin", "numpy": "npy"}


class History:
    """One dataset and its oracle."""

    def __init__(self, storage: StorageServer, kind: str, folder: Path, seed: int, clock: SimpleNamespace) -> None:
        self.storage, self.kind, self.folder, self.clock = storage, kind, folder, clock
        self.name = f"{kind} {seed}"
        self.rng = random.Random(self.name)
        self.samples: list[Sample] = []
        self.files: dict[str, list[Sample]] = {}
        self.batches: dict[str, KeyRange] = {}
        self.label_batches: dict[str, dict[str, Any]] = {}
        self.next_number = 1
        folder.mkdir()
        source = {
            "format": kind,
            "path": str(folder),
            "settle_seconds": 0,
            "roles": {"test*": "test", "train*": "train"},
        }
        source |= SOURCES.get(kind, {"label": "label", "timestamp": "timestamp"})
        storage.register(source, self.name)

    def step(self) -> None:
        often, seldom = [self.scan, self.append, self.label], [self.repeat, self.delete, self.compact, self.restart]
        act = self.rng.choice([*often, *often, *seldom])
        before = self.digest(), self.visible()
        act()
        self.check()
        same = act in (self.compact, self.restart, self.repeat)
        if same:
            assert self.visible() == before[1]
        if same or self.visible() != before[1]:
            assert (self.digest() == before[0]) == same, act.__name__

    # ------------------------------------------------------------------------------------------------ acts

    def new_samples(self, count: int, role: int, *, always_labelled: bool) -> list[Sample]:
        found = []
        for _ in range(count):
            label = self.rng.randrange(5) if always_labelled or self.rng.random() < 0.7 else None
            found.append(Sample(self.next_number, self.rng.randrange(30), label, role, 0))
            self.next_number += 1
        return found

    def scan(self) -> None:
        changed: dict[str, list[Sample]] = {}
        for _ in range(self.rng.choice((0, 1, 1, 3))):
            if self.files and self.rng.random() < 0.3:
                name = self.rng.choice(sorted(self.files))
            else:
                start = self.rng.choice(("test", "train", "some"))
                name = f"{start}{self.next_number}.{SUFFIXES.get(self.kind, self.kind)}"
            role = {"test": Role.TEST, "trai": Role.TRAIN}.get(name[:4], Role.ANY)
            always = self.kind in ("binary", "numpy")
            new = self.new_samples(self.rng.randrange(0, 12), role, always_labelled=always)
            write_file(self.kind, self.folder / name, new)
            changed[name] = new
        self.clock.now += self.rng.randrange(3)
        self.storage.ingest(self.name)
        placed = sorted(
            ((sample.time, name, place, sample) for name, new in changed.items() for place, sample in enumerate(new)),
            key=lambda each: each[:3],
        )
        end_key = len(self.samples) + len(placed)
        for name in changed:
            for old in self.files.get(name, []):
                old.superseded_at = end_key
        self.files |= changed
        self.arrived([sample for *_, sample in placed])

    def arrived(self, new: list[Sample]) -> None:
        for sample in new:
            sample.arrival = self.clock.now
        self.samples += new

    def append(self) -> None:
        new = self.new_samples(self.rng.randrange(0, 8), Role.ANY, always_labelled=False)
        self.clock.now += self.rng.randrange(3)
        numbers = [s.number for s in new]
        payload: Any = pa.array(numbers, pa.int64())
        if self.kind == "binary":
            payload = pa.array([n.to_bytes(8, "little") * 2 for n in numbers], pa.binary(16))
        columns = {"payload": payload, "label": pa.array([s.label for s in new], pa.int64())}
        columns["timestamp"] = pa.array([s.time for s in new], pa.int64())
        batch_id = f"b{self.next_number}"
        self.next_number += 1
        keys, repeated = self.storage.append(batch_id, columns, self.name)
        assert (keys, repeated) == (KeyRange(len(self.samples), len(self.samples) + len(new)), False)
        self.batches[batch_id] = keys
        self.arrived(new)

    def repeat(self) -> None:
        for batch_id, keys in self.batches.items():
            count = keys.end - keys.start
            anything = {
                "payload": pa.array([b"x" * 16] * count, pa.binary(16)) if self.kind == "binary" else [0] * count
            }
            assert self.storage.append(batch_id, anything, self.name) == (keys, True)
        for batch_id, columns in self.label_batches.items():
            assert self.storage.set_labels(batch_id, columns, self.name).repeated_batch

    def some_keys(self, most: int) -> list[int]:
        return self.rng.sample(range(len(self.samples)), min(len(self.samples), self.rng.randrange(most + 1)))

    def delete(self) -> None:
        keys = self.some_keys(4)
        if self.samples and self.rng.random() < 0.2:
            first = self.rng.randrange(len(self.samples))
            keys = list(range(first, min(len(self.samples), first + 15)))
        before = sum(self.samples[key].deleted for key in keys)
        answer = self.storage.delete(keys, self.name)
        assert (answer.num_deleted, answer.num_deleted_before) == (len(keys) - before, before)
        for key in keys:
            self.samples[key].deleted = True

    def label(self) -> None:
        if not self.samples:
            return
        keys = self.some_keys(8)
        labels = [self.rng.choice((None, 0, 1, 2, 7)) for _ in keys]
        times = [self.rng.randrange(60) for _ in keys]
        columns = {"key": pa.array(keys, pa.int64()), "label": pa.array(labels, pa.int64())}
        columns["label_time"] = pa.array(times, pa.int64())
        version = len(self.label_batches) + 1
        answer = self.storage.set_labels(f"l{version}", columns, self.name)
        assert (answer.version, answer.repeated_batch) == (version, False)
        self.label_batches[f"l{version}"] = columns
        for key, label, time in zip(keys, labels, times, strict=True):
            self.samples[key].later.append((time, version, label))

    def compact(self) -> None:
        self.storage.compact(self.name)

    def restart(self) -> None:
        self.storage.restart()

    # ---------------------------------------------------------------------------------------------- checks

    def visible(self) -> list[tuple[int, int | None]]:
        return [
            (key, sample.label_as_of())
            for key, sample in enumerate(self.samples)
            if not sample.deleted and sample.superseded_at is None
        ]

    def digest(self) -> str:
        return self.storage.stub.InspectSamples(InspectSamplesRequest(dataset=self.name)).content_digest

    def check(self) -> None:
        self.check_counts()
        self.check_samples()
        for _ in range(2):
            self.check_part()
        assert self.storage.verify(self.name) == []

    def check_counts(self) -> None:
        described = self.storage.describe(self.name)
        live = [s for s in self.samples if not s.deleted and s.superseded_at is None]
        deleted = [s for s in self.samples if s.deleted]
        times = [s.time for s in live]
        assert (described.end_key, described.num_samples) == (len(self.samples), len(live))
        assert described.num_deleted == len(deleted)
        assert described.num_superseded == len(self.samples) - len(live) - len(deleted)
        assert described.num_unlabelled == sum(s.label_as_of() is None for s in live)
        assert described.num_test == sum(s.role == Role.TEST for s in live)
        assert described.num_train == sum(s.role == Role.TRAIN for s in live)
        assert described.label_version == len(self.label_batches)
        assert described.num_files == len(self.files)
        assert [described.first_timestamp, described.last_timestamp] == ([min(times), max(times)] if times else [0, 0])

    def check_samples(self) -> None:
        if not self.samples:
            return
        keys = [self.rng.randrange(len(self.samples)) for _ in range(20)]
        left = [key for key in keys if not self.samples[key].deleted]
        time = self.rng.choice((None, self.rng.randrange(60)))
        local = self.rng.choice((False, None))
        wanted = KeySet.from_array(np.array(keys, dtype=np.int64))
        as_of = None if time is None else LabelsAsOf(label_time=time)
        batches = list(read_samples(self.storage.stub, self.name, wanted, batch_size=7, labels=as_of, local=local))
        found = [key for batch in batches for key in batch.keys.tolist()]
        assert found == left
        samples = [self.samples[key] for key in left]
        assert [n for b in batches for n in numbers_of(b.columns["payload"]).tolist()] == [s.number for s in samples]
        assert [label for b in batches for label in b.labels.to_pylist()] == [s.label_as_of(time) for s in samples]
        assert [t for b in batches for t in b.timestamps.tolist()] == [s.time for s in samples]

    def check_part(self) -> None:
        rng = self.rng
        count = len(self.samples)
        end_key = rng.choice((None, rng.randrange(count + 1)))
        end = count if end_key is None else end_key
        training = rng.random() < 0.3
        time, version = rng.choice((None, rng.randrange(60))), rng.choice((None, rng.randrange(4)))
        low, high = rng.randrange(-5, 35), rng.randrange(-5, 35)
        recent = (self.clock.now - rng.randrange(15), self.clock.now - rng.randrange(5) + 1)
        arrival = rng.choice((None, recent))
        by_time = rng.random() < 0.5
        kept = [
            (key, s)
            for key, s in enumerate(self.samples[:end])
            if not s.deleted and (s.superseded_at is None or s.superseded_at > end)
        ]
        kept = [(k, s) for k, s in kept if arrival is None or arrival[0] <= s.arrival < arrival[1]]
        kept = [(k, s) for k, s in kept if not training or s.role != Role.TEST]
        part: Any = interval(low, high)
        if count and rng.random() < 0.5:
            edges = sorted(rng.sample(range(count + 1), min(count + 1, 4)))
            ranges = tuple(KeyRange(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False))
            kept = [(k, s) for k, s in kept if any(r.start <= k < r.end for r in ranges)]
            part = KeySet(ranges=ranges)
        else:
            kept = [(k, s) for k, s in kept if low <= s.time < high]
        if by_time:
            kept.sort(key=lambda each: (each[1].time, each[0]))
        as_of = LabelsAsOf(label_time=time, version=version)
        found = read_columns(
            self.storage.stub,
            self.name,
            part,
            columns=COLUMNS,
            order=Order.EVENT_TIME if by_time else Order.KEY,
            end_key=end_key,
            arrival=None if arrival is None else interval(*arrival),
            labels=as_of,
            purpose=Purpose.TRAINING if training else Purpose.PURPOSE_UNSPECIFIED,
        )
        assert found["key"].to_pylist() == [key for key, _ in kept]
        assert found["timestamp"].to_pylist() == [s.time for _, s in kept]
        assert found["label"].to_pylist() == [s.label_as_of(time, version) for _, s in kept]
        assert found["arrival"].to_pylist() == [s.arrival for _, s in kept]
        assert found["role"].to_pylist() == [s.role for _, s in kept]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Of arrivals. Nothing here depends on what outlives a crash, and flushing takes most of the time."""
    clock = SimpleNamespace(now=2_000_000_000)
    clock.time = lambda: clock.now
    monkeypatch.setattr("modyn.storage.dataset.time", clock)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    return clock


def run(state: StateDirectory, tmp_path: Path, kind: str, clock: SimpleNamespace, seeds: range, steps: int) -> None:
    storage = StorageServer(state)
    num_in_place = 0
    try:
        for seed in seeds:
            history = History(storage, kind, tmp_path / f"{kind} {seed}", seed, clock)
            for _ in range(steps):
                history.step()
            num_in_place += storage.describe(history.name).num_in_place
    finally:
        storage.stop()
    assert (num_in_place > 0) == (kind in {"arrow", "binary", "numpy"}), "both ways of storing are tested"


@pytest.mark.parametrize("kind", FORMATS)
def test_histories(state: StateDirectory, tmp_path: Path, kind: str, clock: SimpleNamespace) -> None:
    run(state, tmp_path, kind, clock, range(SEQUENCES), STEPS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FORMATS)
def test_many_histories(state: StateDirectory, tmp_path: Path, kind: str, clock: SimpleNamespace) -> None:
    run(state, tmp_path, kind, clock, range(100, 140), 40)

"""Everything that changes datasets, at once and over and over, with a ledger of what was asked for and acknowledged.

Every sample follows from its number: event time, label and payload. Two datasets take files and appended batches: the
files of one are copied into segments, those of the other stay where they are.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.keysets import KeyRange, KeySet
from modyn.storage.reader import read_samples
from tests.storage.support import StorageServer

COPIED, PLACED = "copied", "placed"
DATASETS = (COPIED, PLACED)
FILE_SIZE = 40
FILES_FROM = 10**12
"""Numbers of samples in files are from here on; those of appended ones are below."""

Int64 = npt.NDArray[np.int64]
Event = dict[str, Any]


def labels_of(numbers: Int64) -> Int64:
    return numbers % 7


def columns_of(dataset: str, numbers: Int64) -> dict[str, Any]:
    """Samples as they are appended."""
    payload = numbers if dataset == COPIED else pa.array([_bytes(n) for n in numbers.tolist()], pa.binary(16))
    return {"payload": payload, "label": labels_of(numbers), "timestamp": numbers}


def numbers_of(payload: pa.Array) -> Int64:
    """The numbers of samples by their payload."""
    if pa.types.is_integer(payload.type):
        return np.asarray(payload.to_numpy())
    rows = [(data[:8], data[8:]) for data in payload.to_pylist()]
    assert all(first == second for first, second in rows)
    return np.array([int.from_bytes(first, "little") for first, _ in rows], dtype=np.int64)


def _bytes(number: int) -> bytes:
    return number.to_bytes(8, "little") * 2


def file_numbers(number: int) -> Int64:
    first = FILES_FROM + number * FILE_SIZE
    return np.arange(first, first + FILE_SIZE)[::-1]


def write_file(folder: Path, dataset: str, number: int) -> None:
    """Renamed into place."""
    numbers = file_numbers(number).tolist()
    if dataset == COPIED:
        name, text = f"{number}.csv", "payload,label,timestamp\n" + "".join(f"{n},{n % 7},{n}\n" for n in numbers)
        data = text.encode()
    else:
        records = ((n % 7).to_bytes(1, "little") + n.to_bytes(8, "little") + _bytes(n) for n in numbers)
        name, data = f"{number}.bin", b"".join(records)
    temporary = folder / dataset / f".{number}"
    temporary.write_bytes(data)
    temporary.rename(folder / dataset / name)


def register(storage: StorageServer, folder: Path) -> None:
    sources: dict[str, dict[str, Any]] = {
        COPIED: {"format": "csv", "label": "label", "timestamp": "timestamp"},
        PLACED: {"format": "binary", "record_size": 25, "label_size": 1, "timestamp_size": 8},
    }
    for name, source in sources.items():
        (folder / name).mkdir(exist_ok=True)
        storage.register({**source, "path": str(folder / name), "settle_seconds": 0}, name)


@dataclass
class Batch:
    """A batch of samples, by the numbers in it."""

    dataset: str
    first: int
    size: int

    @property
    def numbers(self) -> Int64:
        return np.arange(self.first, self.first + self.size)


@dataclass
class Ledger:
    """What was asked for (an event `begin`), and what was acknowledged (`done`)."""

    batches: dict[str, Batch] = field(default_factory=dict)
    keys: dict[str, KeyRange] = field(default_factory=dict)
    """Of acknowledged batches."""
    labels: dict[str, Event] = field(default_factory=dict)
    deletions: list[Event] = field(default_factory=list)
    ingested: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DATASETS, 0))
    """How many files are known to be there."""
    undone: dict[str, Event] = field(default_factory=dict)
    seen: dict[str, dict[int, int]] = field(default_factory=lambda: {name: {} for name in DATASETS})
    """Numbers by key, of all samples that were ever read."""

    def take(self, event: Event) -> None:
        key = f"{event['what']} {event.get('id', '')}"
        if event["state"] == "begin":
            self.undone[key] = event
            if event["what"] == "append":
                self.batches[event["id"]] = Batch(event["dataset"], event["first"], event["size"])
            elif event["what"] == "label":
                self.labels[event["id"]] = event
            elif event["what"] == "delete":
                self.deletions.append(event)
            return
        self.undone.pop(key)
        if event["what"] == "append":
            self.keys[event["id"]] = KeyRange(event["start"], event["end"])
        elif event["what"] == "ingest":
            self.ingested[event["dataset"]] = max(self.ingested[event["dataset"]], event["files"])

    @property
    def num_acknowledged(self) -> dict[str, int]:
        undone = [event["what"] for event in self.undone.values()]
        return {
            "append": len(self.keys),
            "label": len(self.labels) - undone.count("label"),
            "delete": len(self.deletions) - undone.count("delete"),
            "ingest": sum(self.ingested.values()),
        }

    def check(self, storage: StorageServer, folder: Path) -> None:
        """After a restart: nothing acknowledged is lost, what was not is done now, and nothing is there twice."""
        before = {name: self._read(storage, name) for name in DATASETS}
        for name, (keys, numbers, _) in before.items():
            self._check_acknowledged(name, dict(zip(keys.tolist(), numbers.tolist(), strict=True)))
        self._redo(storage)
        for name in DATASETS:
            self._check_all(storage, name, folder)
            assert storage.verify(name) == []
            self._check_files(storage, name)

    def _check_acknowledged(self, dataset: str, number_of: dict[int, int]) -> None:
        gone = {key for event in self.deletions if event["dataset"] == dataset for key in event["keys"]}
        for batch_id, keys in self.keys.items():
            batch = self.batches[batch_id]
            if batch.dataset == dataset:
                for key, number in zip(range(keys.start, keys.end), batch.numbers.tolist(), strict=True):
                    assert number_of.get(key) == number or key in gone, f"{dataset}: sample {number} is lost"
        for key, number in self.seen[dataset].items():
            assert key in gone or number_of.get(key) == number, f"{dataset}: key {key} has changed"
        held = set(number_of.values()) | {self.seen[dataset].get(key, -1) for key in gone}
        for number in range(self.ingested[dataset]):
            assert held.issuperset(file_numbers(number).tolist()), f"{dataset}: file {number} is lost"
        acknowledged = {
            key
            for event in self.deletions
            if event["dataset"] == dataset and f"delete {event['id']}" not in self.undone
            for key in event["keys"]
        }
        assert acknowledged.isdisjoint(number_of), "deleted samples are not seen"

    def _redo(self, storage: StorageServer) -> None:
        for event in list(self.undone.values()):
            done = {**event, "state": "done"}
            if event["what"] == "append":
                done.update(append(storage, event["dataset"], event["id"], self.batches[event["id"]].numbers))
            elif event["what"] == "label":
                set_labels(storage, event)
            elif event["what"] == "delete":
                storage.delete(event["keys"], event["dataset"])
            if event["what"] != "ingest":
                self.take(done)
        self.undone.clear()
        for name in DATASETS:
            storage.ingest(name)

    def _check_all(self, storage: StorageServer, dataset: str, folder: Path) -> None:
        keys, numbers, labels = self._read(storage, dataset)
        files = len(list((folder / dataset).glob("[0-9]*")))
        expected = [batch.numbers for batch in self.batches.values() if batch.dataset == dataset]
        expected += [file_numbers(number) for number in range(files)]
        gone = {key for event in self.deletions if event["dataset"] == dataset for key in event["keys"]}
        seen = self.seen[dataset]
        seen.update(zip(keys.tolist(), numbers.tolist(), strict=True))
        end_key = storage.describe(dataset).end_key
        assert end_key == sum(map(len, expected)), "every sample once"
        assert sorted(keys.tolist()) == sorted(set(range(end_key)) - gone), "keys are dense"
        assert sorted([*numbers.tolist(), *(seen[key] for key in gone)]) == sorted(np.concatenate(expected).tolist())
        late = {}
        for event in sorted(self.labels.values(), key=lambda event: event["time"]):
            if event["dataset"] == dataset:
                late.update(dict.fromkeys(event["keys"], event["label"]))
        wanted = [late.get(key, number % 7) for key, number in zip(keys.tolist(), numbers.tolist(), strict=True)]
        assert labels == wanted

    def _read(self, storage: StorageServer, dataset: str) -> tuple[Int64, Int64, list[int]]:
        """Keys, numbers and labels of all samples, read in random order; what belongs together is compared."""
        end_key = storage.describe(dataset).end_key
        shuffled = KeySet.from_array(np.random.default_rng(end_key).permutation(end_key))
        empty = np.empty(0, dtype=np.int64)
        keys, numbers, labels = [empty], [empty], []
        for batch in read_samples(storage.stub, dataset, shuffled, batch_size=1_000_000):
            keys.append(batch.keys)
            numbers.append(numbers_of(batch.columns["payload"]))
            labels += batch.labels.to_pylist()
            assert np.array_equal(batch.timestamps, numbers[-1]), "parts of a sample belong together"
        return np.concatenate(keys), np.concatenate(numbers), labels

    def _check_files(self, storage: StorageServer, name: str) -> None:
        """Once a writer has begun, nothing lies in the folders that is not committed."""
        datasets = storage.service._datasets
        dataset, writer = datasets.get(name), datasets.writer(name)
        writer.begin()
        with datasets.compactor(name)._lock, writer.lock:
            deadline = time.monotonic() + 10
            while dataset.remove_retired() and time.monotonic() < deadline:  # what compaction has replaced just now
                time.sleep(0.01)
            folders = (dataset.segments_folder, dataset.scans_folder, dataset.labels_folder, dataset.deletions_folder)
            found = {path.name for folder in folders for path in folder.iterdir()}
            assert found == dataset.file_names(), "nothing is left behind"
        assert list(dataset.folder.glob(".tmp-*")) == []


def append(storage: StorageServer, dataset: str, batch_id: str, numbers: Int64) -> Event:
    keys, _ = storage.append(batch_id, columns_of(dataset, numbers), dataset)
    return {"start": keys.start, "end": keys.end}


def set_labels(storage: StorageServer, event: Event) -> None:
    columns = {
        "key": event["keys"],
        "label": [event["label"]] * len(event["keys"]),
        "label_time": [event["time"]] * len(event["keys"]),
    }
    storage.set_labels(event["id"], columns, event["dataset"])


class Workload:
    """Threads that change both datasets until :meth:`stop`.

    Args:
        round: distinguishes this workload from earlier ones on the same state.
        say: gets every event before it is asked for, and when it is acknowledged.
    """

    def __init__(
        self, storage: StorageServer, folder: Path, round: int, say: Callable[[Event], None], pause: float = 0.0
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._round = round
        self._say = say
        self._pause = pause
        self._stop = threading.Event()
        self._known: dict[str, list[tuple[int, int]]] = {name: [] for name in DATASETS}
        self._threads = [
            threading.Thread(target=self._guarded, args=call, daemon=True)
            for call in (
                *((self._append, DATASETS[caller % 2], caller) for caller in range(4)),
                *((self._ingest, name, 0) for name in DATASETS),
                *((self._label, name, 0) for name in DATASETS),
                *((self._delete, name, 0) for name in DATASETS),
                *((self._compact, name, 0) for name in DATASETS),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[str, int, random.Random], None], dataset: str, caller: int) -> None:
        rng = random.Random(f"{self._round} {work.__name__} {dataset} {caller}")
        try:
            while not self._stop.is_set():
                work(dataset, caller, rng)
                caller += 4
                time.sleep(self._pause * rng.random())
        except Exception as error:  # noqa: BLE001 - for the report
            self._say({"what": "error", "state": "done", "text": f"{work.__name__}: {type(error).__name__}: {error}"})

    def _acknowledged(self, begin: Event, call: Callable[[], Event | None]) -> None:
        self._say({**begin, "state": "begin"})
        self._say({**begin, "state": "done", **(call() or {})})

    def _append(self, dataset: str, number: int, rng: random.Random) -> None:
        batch = Batch(dataset, (self._round * 100_000 + number) * 100, rng.choice((1, 10, 50)))
        begin = {"what": "append", "id": f"{self._round}-{number}", **asdict(batch)}

        def call() -> Event:
            answer = append(self._storage, dataset, begin["id"], batch.numbers)
            self._known[dataset].append((answer["start"], answer["end"]))
            return answer

        self._acknowledged(begin, call)

    def _ingest(self, dataset: str, _: int, rng: random.Random) -> None:
        number = len(list((self._folder / dataset).glob("[0-9]*")))
        count = rng.choice((1, 1, 3))
        for index in range(number, number + count):
            write_file(self._folder, dataset, index)
        begin = {"what": "ingest", "id": dataset, "dataset": dataset, "files": number + count}

        def call() -> None:
            before = self._storage.describe(dataset).end_key
            end_key = self._storage.ingest(dataset).end_key
            self._known[dataset].append((before, end_key))

        self._acknowledged(begin, call)

    def _keys(self, dataset: str, rng: random.Random, count: int) -> list[int]:
        known = self._known[dataset]
        keys: set[int] = set()
        for start, end in rng.sample(known, min(len(known), count)):
            if start < end:
                keys.add(rng.randrange(start, end))
        return sorted(keys)

    def _label(self, dataset: str, number: int, rng: random.Random) -> None:
        keys = self._keys(dataset, rng, 20)
        moment = self._round * 1_000_000 + number + FILES_FROM * 10  # after all labels as ingested
        identity = f"{dataset}-{self._round}-{number}"
        begin = {
            "what": "label",
            "id": identity,
            "dataset": dataset,
            "keys": keys,
            "label": 10 + number,
            "time": moment,
        }
        self._acknowledged(begin, lambda: set_labels(self._storage, begin))

    def _delete(self, dataset: str, number: int, rng: random.Random) -> None:
        keys = self._keys(dataset, rng, rng.choice((1, 3)))
        if not keys:
            return
        self._read_once(dataset, keys)
        begin = {"what": "delete", "id": f"{dataset}-{self._round}-{number}", "dataset": dataset, "keys": keys}

        def call() -> None:
            self._storage.delete(keys, dataset)

        self._acknowledged(begin, call)

    def _read_once(self, dataset: str, keys: Sequence[int]) -> None:
        """So that the ledger knows what the keys meant."""
        wanted = KeySet.from_array(np.array(keys, dtype=np.int64))
        for batch in read_samples(self._storage.stub, dataset, wanted, batch_size=100):
            numbers = numbers_of(batch.columns["payload"]).tolist()
            seen = [[key, number] for key, number in zip(batch.keys.tolist(), numbers, strict=True)]
            self._say({"what": "seen", "state": "done", "dataset": dataset, "seen": seen})

    def _compact(self, dataset: str, _: int, rng: random.Random) -> None:
        time.sleep(rng.random() / 5)
        self._storage.compact(dataset)


def take_all(ledger: Ledger, events: Sequence[Event]) -> list[str]:
    """Errors among events; the others go into the ledger."""
    errors = []
    for event in events:
        if event["what"] == "error":
            errors.append(event["text"])
        elif event["what"] == "seen":
            ledger.seen[event["dataset"]].update(dict(event["seen"]))
        else:
            ledger.take(event)
    return errors

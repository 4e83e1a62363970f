"""Sources in object stores: S3 by a real server on this machine, and fsspec's file systems."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from modyn.core.config.reader import load_pipeline_text
from modyn.core.errors import AlreadyExistsError, InvalidInputError, UnavailableError
from modyn.core.keysets import KeySet
from modyn.core.plugins.formats import FORMATS
from modyn.core.values import from_value
from modyn.proto.storage_pb2 import (
    CompactDatasetRequest,
    DeleteSamplesRequest,
    VerifyDatasetRequest,
    WatchDatasetRequest,
)
from modyn.storage import downloads, filecache
from modyn.storage.reader import read_samples
from tests.storage.object_store import CREDENTIALS, ObjectStore
from tests.storage.samples import CASES, label_of, timestamp_of, write_stream
from tests.storage.support import NAME, StorageServer


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture
def s3(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty bucket, and credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(downloads, "RETRY_PAUSES", (0.01,))
    server.clear()
    return server


PARQUET = {"format": "parquet", "timestamp": "t", "label": "y"}


def parquet(times: list[int], x: list[float] | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"t": pa.array(times, pa.int64()), "x": x or [float(t) for t in times], "y": [t % 3 for t in times]}
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def values(storage: StorageServer, keys: list[int]) -> list[float]:
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=len(keys)))
    found: list[float] = batch.columns["x"].to_pylist()
    return found


def cached_files(storage: StorageServer) -> list[str]:
    return sorted(path.name for path in storage.state.path.glob("datasets/*/cache/**/*") if path.is_file())


# ------------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("name", sorted(set(CASES) - {"delta", "SingleSampleFileWrapper"}))
def test_every_format_reads_buckets_as_it_reads_folders(
    name: str, storage: StorageServer, s3: ObjectStore, folder: Path
) -> None:
    case = CASES[name]
    write_stream(case, folder, count=60)
    s3.upload(folder, "deep/prefix")
    storage.register({"format": name, **case.source(), **s3.source("deep/prefix/")})
    progress = storage.ingest()
    assert (progress.samples, progress.quarantined, progress.end_key) == (60, 0, 60), storage.describe().quarantined
    assert storage.ingest().files_total == 0, "nothing is new"
    keys = np.random.default_rng(1).permutation(60)
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(keys), batch_size=60))
    numbers = case.numbers(batch.columns)
    assert sorted(numbers) == list(range(60))
    assert batch.labels.to_pylist() == [label_of(number, always=case.always_labelled) for number in numbers]
    if not case.file_time_only:
        assert batch.timestamps.tolist() == [timestamp_of(number) for number in numbers]


def test_buckets_are_followed(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("p/a.parquet", parquet([1, 2]))
    s3.put("p/_hidden.parquet", b"x")
    s3.put("p/x/.git/b.parquet", b"x")
    s3.put("p/half.parquet.part", b"x")
    s3.put("q/other.parquet", parquet([7]))
    storage.register({**PARQUET, **s3.source("p")})
    assert storage.ingest().end_key == 2
    s3.put("p/a.parquet", parquet([1, 2, 3]))
    s3.put("p/ü ö/b.parquet", parquet([4]))
    assert storage.ingest().end_key == 6
    described = storage.describe()
    assert (described.num_samples, described.num_superseded, described.num_files) == (4, 2, 2)
    assert values(storage, [2, 3, 4, 5]) == [1.0, 2.0, 3.0, 4.0]
    s3.delete("p/a.parquet")
    assert storage.ingest().files_done == 0
    assert storage.describe().num_samples == 4
    storage.restart()
    assert storage.ingest().files_done == 0


def test_a_whole_bucket_is_a_source_and_bad_objects_are_quarantined(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("a.parquet", parquet([1]))
    s3.put("a.parquet/b.parquet", parquet([2]))
    s3.put("bad.parquet", b"no parquet")
    s3.put("empty.parquet", b"")
    s3.put("x//c.parquet", parquet([3]))
    s3.put("n" * 260 + ".parquet", parquet([4]))
    storage.register({**PARQUET, **s3.source()})
    progress = storage.ingest()
    assert (progress.samples, progress.quarantined) == (1, 4)
    reasons = {entry.path: entry.reason for entry in storage.describe().quarantined}
    assert "that of a folder" in reasons["a.parquet"]
    assert "cannot be read as Parquet" in reasons["bad.parquet"]
    assert "a part that no file can have" in reasons["x//c.parquet"]
    assert "more than 255 bytes" in reasons["n" * 260 + ".parquet"]
    s3.put("bad.parquet", parquet([5]))
    assert storage.ingest().samples == 1


def test_fresh_objects_settle_because_their_times_are_whole_seconds(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("p/a.parquet", parquet([1]))
    storage.register({**PARQUET, **s3.source("p", settle_seconds=1.0)})
    started = time.time()
    assert storage.ingest().end_key == 1
    assert time.time() >= int(started) + 1


def test_label_files_come_along(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("p/a.dat", b"one")
    s3.put("p/a.label", b"1")
    source = {"format": "files", "file_extension": "dat", "label_file_extension": "label", **s3.source("p")}
    storage.register(source)
    storage.ingest()
    s3.put("p/a.dat", b"another")
    s3.delete("p/a.label")
    storage.ingest()
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array([0, 1]), batch_size=2))
    assert batch.columns["payload"].to_pylist() == [b"one", b"another"]
    assert batch.labels.to_pylist() == [1, None]


def test_watching_outlives_an_outage(storage: StorageServer, s3: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    s3.put("p/a.parquet", parquet([1]))
    storage.register({**PARQUET, **s3.source("p", poll_seconds=0.05)})
    stream = storage.stub.WatchDataset(WatchDatasetRequest(dataset=NAME), timeout=60)
    assert next(stream).keys.end == 1
    s3.stop()
    deadline = time.monotonic() + 30
    while "cannot be reached" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(UnavailableError, match=r"data\.source\.path s3://samples/p cannot be reached.*tried again"):
        storage.ingest()
    s3.start()
    s3.put("p/b.parquet", parquet([2]))
    assert next(stream).keys.end == 2
    stream.cancel()


def test_objects_that_change_while_they_are_read_are_read_again(
    storage: StorageServer, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("p/a.parquet", parquet([1]))
    s3.put("p/b.parquet", parquet([2]))
    storage.register({**PARQUET, **s3.source("p")})
    listed = threading.Event()
    original = filecache.FileCache.list

    def changing(cache: filecache.FileCache) -> Any:
        found = original(cache)
        if not listed.is_set():
            listed.set()
            s3.put("p/a.parquet", parquet([1, 3]))
            s3.delete("p/b.parquet")
        return found

    monkeypatch.setattr(filecache.FileCache, "list", changing)
    assert storage.ingest().end_key == 2
    assert values(storage, [0, 1]) == [1.0, 3.0]
    assert storage.describe().num_superseded == 0


def test_samples_stay_readable_without_the_cache(storage: StorageServer, s3: ObjectStore, folder: Path) -> None:
    case = CASES["binary"]
    write_stream(case, folder, count=60)
    s3.upload(folder, "p")
    storage.register({"format": "binary", **case.source(), **s3.source("p")})
    storage.ingest()
    storage.stop()
    for path in storage.state.path.glob("datasets/*/cache/**/*.bin"):
        path.unlink()
    storage.start()
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(np.arange(60)), batch_size=60))
    assert sorted(case.numbers(batch.columns)) == list(range(60))


def test_compaction_deletes_copies_of_deleted_samples(storage: StorageServer, s3: ObjectStore) -> None:
    records = np.arange(40, dtype=np.uint8).reshape(10, 4)
    s3.put("records/a.bin", records.tobytes())
    storage.register({"format": "binary", "record_size": 4, **s3.source("records")})
    storage.ingest()
    assert storage.describe().num_in_place == 10
    assert cached_files(storage)
    storage.stub.DeleteSamples(DeleteSamplesRequest(dataset=NAME, keys=KeySet.from_array([3]).to_proto()))
    list(storage.stub.CompactDataset(CompactDatasetRequest(dataset=NAME)))
    assert cached_files(storage) == []
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array([2, 3, 4]), batch_size=3, local=False))
    assert batch.keys.tolist() == [2, 4]
    assert batch.columns["payload"].to_pylist() == [bytes(records[2]), bytes(records[4])]


def test_objects_read_in_place_are_verified(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("p/a.bin", bytes(range(40)))
    storage.register({"format": "binary", "record_size": 4, **s3.source("p")})
    storage.ingest()
    damaged = [m for p in storage.stub.VerifyDataset(VerifyDatasetRequest(dataset=NAME)) for m in p.damaged]
    assert damaged == []


def test_deletion_does_not_need_objects_that_are_gone(storage: StorageServer, s3: ObjectStore) -> None:
    s3.put("p/a.bin", bytes(range(40)))
    s3.put("p/b.bin", bytes(range(40, 80)))
    storage.register({"format": "binary", "record_size": 4, **s3.source("p")})
    storage.ingest()
    s3.delete("p/a.bin")
    storage.stop()
    for path in storage.state.path.glob("datasets/*/cache/**/*.bin"):
        path.unlink()
    storage.start()
    storage.stub.DeleteSamples(DeleteSamplesRequest(dataset=NAME, keys=KeySet.from_array(range(10)).to_proto()))
    list(storage.stub.CompactDataset(CompactDatasetRequest(dataset=NAME)))
    assert storage.describe().num_deleted_stored == 0
    batch = next(read_samples(storage.stub, NAME, KeySet.from_array(range(20)), batch_size=20, local=False))
    assert batch.keys.tolist() == list(range(10, 20))
    assert b"".join(batch.columns["payload"].to_pylist()) == bytes(range(40, 80))


def test_transcoded_files_are_not_kept(storage: StorageServer, s3: ObjectStore) -> None:
    for number in range(20):
        s3.put(f"p/{number}.parquet", parquet([number]))
    storage.register({**PARQUET, **s3.source("p")})
    storage.ingest()
    assert cached_files(storage) == []


# ------------------------------------------------------------------------------------------------ registration


def test_wrong_buckets_and_services_are_named(storage: StorageServer, s3: ObjectStore) -> None:
    with pytest.raises(InvalidInputError, match=r"data\.source\.path s3://nowhere/p: the bucket.* does not exist"):
        storage.register({**PARQUET, **s3.source("p"), "path": "s3://nowhere/p"})
    with pytest.raises(InvalidInputError, match="expected a bucket, as in s3://bucket/prefix"):
        storage.register({**PARQUET, **s3.source(), "path": "s3://"})
    with pytest.raises(InvalidInputError, match="s3:// knows no option 'endpoint'; expected anonymous"):
        storage.register({**PARQUET, **s3.source("p"), "options": {"endpoint": "x"}})
    with pytest.raises(UnavailableError, match="s3://samples/p cannot be reached"):
        storage.register({**PARQUET, **s3.source("p"), "options": {"endpoint_override": "http://127.0.0.1:9"}})
    with pytest.raises(InvalidInputError, match="no file system is known for s4://; expected a local folder, s3://"):
        storage.register({**PARQUET, "path": "s4://bucket"})
    with pytest.raises(InvalidInputError, match="abfs:// needs a package where storage runs"):
        storage.register({**PARQUET, "path": "abfs://container/x"})
    with pytest.raises(InvalidInputError, match="local folder"):
        storage.register({"format": "delta", **s3.source("p")})
    storage.register({**PARQUET, **s3.source("not/yet")})
    assert storage.ingest().end_key == 0


def test_refused_credentials_are_told_from_outages(
    storage: StorageServer, s3: ObjectStore, refusing_endpoint: str
) -> None:
    options = {"endpoint_override": refusing_endpoint}
    with pytest.raises(InvalidInputError, match=r"data\.source\.path s3://samples.*check the bucket's name, .*creden"):
        storage.register({**PARQUET, **s3.source(), "options": options})


@pytest.fixture
def refusing_endpoint() -> Iterator[str]:
    """A server that knows nobody."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


SECRETS = {
    "options: {secret_key: hush}": "'secret_key' carries a secret",
    "options: {access_key: hush}": "'access_key' carries a secret",
    "options: {account_key: hush}": "'account_key' carries a secret",
    "options: {key: hush}": "'key' carries a secret",
    "options: {session_token: hush}": "'session_token' carries a secret",
    "options: {password: hush}": "'password' carries a secret",
    "options: {proxy_options: 'http://me:hush@proxy:80'}": "'proxy_options' carries a secret",
    "path: 's3://me:hush@bucket/p'": "a URI with a password is refused",
    "path: 's3://bucket/p?secret_key=hush'": "parameters after `[?]` are refused",
}


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_refused_before_they_are_stored_or_shown(line: str, storage: StorageServer) -> None:
    path = "" if line.startswith("path") else "path: s3://bucket/p\n    "
    text = f"""
pipeline: {{name: p}}
data:
  dataset_id: d
  source:
    format: parquet
    {path}{line}
model: {{id: MLP, config: {{in_features: 1, num_classes: 2}}}}
trigger: {{id: TimeTrigger, every: 1d}}
"""
    with pytest.raises(InvalidInputError, match=SECRETS[line]) as caught:
        load_pipeline_text(text, "p.yaml")
    assert "hush" not in caught.value.message
    with pytest.raises(InvalidInputError, match=SECRETS[line]) as caught:
        storage.register(yaml.safe_load(text)["data"]["source"])
    assert "hush" not in caught.value.message


def test_the_same_source_may_be_registered_again(storage: StorageServer, s3: ObjectStore) -> None:
    storage.register({**PARQUET, **s3.source("p")})
    storage.register({**PARQUET, **s3.source("p/", cache_bytes=1_000)})
    described = from_value(storage.describe().source)
    assert isinstance(described, dict)
    assert described["cache_bytes"] == 1_000
    with pytest.raises(AlreadyExistsError, match="path: s3://samples/p"):
        storage.register({**PARQUET, **s3.source("q")})


def test_local_sources_by_uri(storage: StorageServer, folder: Path) -> None:
    place = folder / "a b"
    place.mkdir()
    (place / "a.parquet").write_bytes(parquet([1]))
    storage.register({**PARQUET, "path": place.as_uri(), "settle_seconds": 0})
    assert storage.ingest().end_key == 1
    storage.register({**PARQUET, "path": str(place), "settle_seconds": 0})
    with pytest.raises(InvalidInputError, match="a local folder has none"):
        storage.register({**PARQUET, "path": str(place), "options": {"region": "x"}}, name="other")


# ------------------------------------------------------------------------------------------------------- fsspec


def test_fsspec_file_systems_are_sources(storage: StorageServer) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    top = f"/bucket-{os.getpid()}"
    try:
        with pytest.raises(InvalidInputError, match="the bucket or uppermost folder does not exist"):
            storage.register({**PARQUET, "path": f"memory:/{top}/p"})
        memory.pipe_file(f"{top}/p/sub/a.parquet", parquet([1]))
        storage.register({**PARQUET, "path": f"memory:/{top}/p/", "settle_seconds": 0})
        assert storage.ingest().end_key == 1
        assert storage.ingest().files_done == 0
        memory.pipe_file(f"{top}/p/sub/a.parquet", parquet([2]))  # as large as before
        assert storage.ingest().end_key == 2
        assert values(storage, [0, 1]) == [1.0, 2.0]
        memory.rm(f"{top}/p", recursive=True)
        assert storage.ingest().files_done == 0
    finally:
        if memory.exists(top):
            memory.rm(top, recursive=True)


def test_the_documented_sources_are_valid() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "storage_backends.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(found) >= 2
    for text in found:
        tree = yaml.safe_load(text)
        FORMATS.parse(tree.get("data", tree)["source"])

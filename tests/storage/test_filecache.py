"""Local copies of remote files: bounded, whole, and never another version."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from modyn.core.errors import CancelledError, CorruptDataError, UnavailableError
from modyn.core.plugins.formats import FORMATS
from modyn.storage import downloads, filecache, filesystems
from modyn.storage.filecache import FileCache
from modyn.storage.filesystems import RemoteFolder, RemoteObject, remote_folder
from modyn.storage.folder import SourceFile, companion_versions, list_source

TOP = f"cache-test-{os.getpid()}"
URI = f"memory://{TOP}"


class FaultyFolder(RemoteFolder):
    """A real folder whose next downloads fail, or are held up."""

    def __init__(self, inner: RemoteFolder) -> None:
        super().__init__(inner.uri)
        self.inner = inner
        self.faults: list[Exception | int] = []
        """For each coming download: raised, or after how many chunks it ends."""
        self.fetched: list[str] = []

    def list(self) -> list[RemoteObject]:
        return self.inner.list()

    def identity(self, name: str) -> tuple[int, int] | None:
        return self.inner.identity(name)

    def exists(self) -> bool:
        return self.inner.exists()

    def chunks(self, name: str) -> Iterator[bytes]:
        self.fetched.append(name)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        for index, chunk in enumerate(self.inner.chunks(name)):
            if index == fault:
                return
            yield chunk


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyFolder]:
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(downloads, "RETRY_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(filecache, "GRACE_SECONDS", 0.0)
    memory.mkdir(f"/{TOP}")
    yield FaultyFolder(remote_folder(FORMATS.parse({"format": "files", "file_extension": "bin", "path": URI})))
    memory.rm(f"/{TOP}", recursive=True)


def put(name: str, data: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(f"/{TOP}/{name}", data)


def object_of(bucket: RemoteFolder, name: str) -> RemoteObject:
    return next(found for found in bucket.list() if found.name == name)


def read(cache: FileCache, found: RemoteObject) -> bytes:
    return Path(cache.local_path(f"{URI}/{found.name}", found.size, found.mtime_ns)).read_bytes()


def copies(cache: FileCache) -> set[str]:
    return {str(path.relative_to(cache.root)) for path in cache.root.rglob("*") if path.is_file()}


def test_a_copy_is_fetched_once_and_again_after_eviction(bucket: FaultyFolder, tmp_path: Path) -> None:
    for name in "abc":
        put(f"x/{name}.bin", name.encode() * 100)
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=250)
    a, b, c = (object_of(bucket, f"x/{name}.bin") for name in "abc")
    assert [read(cache, found)[:1] for found in (a, b, a)] == [b"a", b"b", b"a"]
    assert bucket.fetched == ["x/a.bin", "x/b.bin"]
    assert read(cache, c) == b"c" * 100
    assert copies(cache) == {"x/a.bin", "x/c.bin"}, "b was used the longest ago"
    assert cache.num_bytes == 200
    assert read(cache, b) == b"b" * 100
    assert bucket.fetched == ["x/a.bin", "x/b.bin", "x/c.bin", "x/b.bin"]


def test_copies_survive_a_restart_and_halves_do_not(bucket: FaultyFolder, tmp_path: Path) -> None:
    for name in "abc":
        put(f"{name}.bin", name.encode() * 100)
    found = [object_of(bucket, f"{name}.bin") for name in "abc"]
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    for one in (*found, found[0]):
        read(cache, one)
    (tmp_path / "cache" / ".tmp-half").write_bytes(b"half")
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=200)
    assert not (tmp_path / "cache" / ".tmp-half").exists()
    assert cache.num_bytes == 300
    put("d.bin", b"d" * 50)
    read(cache, object_of(bucket, "d.bin"))
    assert copies(cache) == {"a.bin", "d.bin"}
    bucket.fetched.clear()
    (cache.root / "a.bin").write_bytes(b"a" * 99)  # cut, for example by a power failure
    assert read(cache, found[0]) == b"a" * 100
    assert bucket.fetched == ["a.bin"]


def test_another_version_is_never_answered(bucket: FaultyFolder, tmp_path: Path) -> None:
    put("a.bin", b"old")
    old = object_of(bucket, "a.bin")
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    assert read(cache, old) == b"old"
    put("a.bin", b"new")
    new = object_of(bucket, "a.bin")
    assert new.mtime_ns != old.mtime_ns
    assert read(cache, old) == b"old", "the copy is still there"
    assert read(cache, new) == b"new"
    with pytest.raises(CorruptDataError, match=rf"{URI}/a\.bin was changed or removed after it was ingested"):
        read(cache, old)
    with pytest.raises(FileNotFoundError):
        cache.fetch(*old)
    fsspec.filesystem("memory").rm(f"/{TOP}/a.bin")
    assert read(cache, new) == b"new"
    (cache.root / "a.bin").unlink()
    with pytest.raises(CorruptDataError, match="was changed or removed"):
        read(cache, new)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_transient_errors_are_retried(bucket: FaultyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modyn.storage.fsspec_folder.CHUNK_BYTES", 40)
    put("a.bin", b"a" * 100)
    found = object_of(bucket, "a.bin")
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    bucket.faults = [UnavailableError("gone"), 1]
    assert read(cache, found) == b"a" * 100
    assert len(bucket.fetched) == 3
    (cache.root / "a.bin").unlink()
    bucket.faults = [2, 2, 2]
    with pytest.raises(UnavailableError, match="the download ended after 80 of 100 bytes"):
        read(cache, found)
    bucket.faults = [filesystems.AccessRefusedError("no")]
    with pytest.raises(UnavailableError, match="no"):
        read(cache, found)
    assert not bucket.faults, "a refusal is not retried"
    cache.close()
    with pytest.raises(CancelledError, match="the storage service stops"):
        read(cache, found)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_full_disk_is_said(bucket: FaultyFolder, tmp_path: Path) -> None:
    put("a.bin", b"a")
    (tmp_path / "cache").write_text("in the way")
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    with pytest.raises(UnavailableError, match=r"the cache .* cannot be written: .*lower data\.source\.cache_bytes"):
        read(cache, object_of(bucket, "a.bin"))


def test_an_object_may_become_a_folder_and_a_folder_an_object(bucket: FaultyFolder, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    put("a.bin", b"object")
    assert read(cache, object_of(bucket, "a.bin")) == b"object"
    memory.rm(f"/{TOP}/a.bin")
    put("a.bin/deep/b.bin", b"below")
    cache.list()
    assert read(cache, object_of(bucket, "a.bin/deep/b.bin")) == b"below"
    with pytest.raises(CorruptDataError, match=r"name 'a\.bin' is that of a folder, too"):
        cache.place("a.bin")
    memory.rm(f"/{TOP}/a.bin", recursive=True)
    put("a.bin", b"object")
    cache.list()
    assert read(cache, object_of(bucket, "a.bin")) == b"object"
    assert copies(cache) == {"a.bin"}


@pytest.mark.parametrize("name", ["../a", "a//b", "/a", "a/./b", "", "nul\0", "n" * 256])
def test_names_cannot_leave_the_cache(bucket: FaultyFolder, tmp_path: Path, name: str) -> None:
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    with pytest.raises(CorruptDataError, match="rename the object"):
        cache.fetch(name, 1, 1)


def test_prefetching_stays_within_its_window_and_cleans_up(
    bucket: FaultyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filecache, "PREFETCH_BYTES", 300)
    for number in range(40):
        put(f"{number:02d}.bin", bytes([number]) * 100)
        put(f"{number:02d}.txt", b"1")
    source = FORMATS.parse(
        {
            "format": "files",
            "file_extension": "bin",
            "label_file_extension": "txt",
            "path": str(tmp_path / "cache/files"),
        }
    )
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=2_000)
    files = sorted(list_source(source, cache).files, key=lambda file: file.name)
    most = 0
    with cache.prefetching(files):
        for file in files:
            assert file.path.read_bytes() == bytes([int(file.name[:2])]) * 100
            most = max(most, cache.num_bytes)
            if file.name < "30":
                file.release(keep=file.name < "02")
    assert most <= 200 + 300 + 10 * 100, "kept ones, the window, and those that are not released"
    assert copies(cache) == {"00.bin", "01.bin"}
    assert sorted(bucket.fetched) == [file.name for file in files], "each once"


def test_an_abandoned_prefetch_ends(bucket: FaultyFolder, tmp_path: Path) -> None:
    put("a.bin", b"a")
    source = FORMATS.parse({"format": "files", "file_extension": "bin", "path": str(tmp_path / "cache/files")})
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1)
    files = list_source(source, cache).files * 5
    before = threading.active_count()

    def give_up() -> None:
        with cache.prefetching(files):
            time.sleep(0.05)
            raise RuntimeError("the reader gives up")

    with pytest.raises(RuntimeError, match="gives up"):
        give_up()
    assert threading.active_count() == before
    assert copies(cache) == set()


def test_many_threads_fetch_each_version_once(bucket: FaultyFolder, tmp_path: Path) -> None:
    for number in range(20):
        put(f"{number}.bin", bytes([number]) * 100)
    found = bucket.list()
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=100_000)
    wrong: list[str] = []

    def reader(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 20, 100).tolist():
            one = found[index]
            if read(cache, one) != bytes([int(one.name[:-4])]) * 100:
                wrong.append(one.name)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(bucket.fetched) == sorted(one.name for one in found)
    assert cache.num_bytes == 2_000


def test_companions_are_listed_and_fetched_beside_their_sample(bucket: FaultyFolder, tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    source = FORMATS.parse(
        {"format": "files", "file_extension": "bin", "label_file_extension": "txt", "path": str(cache.root)}
    )
    put("d/a.bin", b"a")
    put("d/b.bin", b"b")
    put("d/a.txt", b"1")
    listing = list_source(source, cache)
    files = sorted(listing.files, key=lambda file: file.name)
    assert list(listing.others) == ["d/a.txt"]
    [[label], none] = companion_versions(source, files, listing)
    assert (label.path, label.size, none) == ("d/a.txt", 1, ())
    file = SourceFile(*files[0][:6], companions=(("d/a.txt", listing.others["d/a.txt"]),))
    assert file.path.with_suffix(".txt").read_text() == "1"
    without = SourceFile(*files[0][:6], companions=(("d/a.txt", None),))
    assert not without.path.with_suffix(".txt").exists(), "an earlier copy is not taken for it"


def test_two_processes_may_share_a_cache(bucket: FaultyFolder, tmp_path: Path) -> None:
    put("a.bin", b"a" * 100)
    found = object_of(bucket, "a.bin")
    one = FileCache(tmp_path / "cache", bucket, limit_bytes=1_000)
    original, others = bucket.inner.chunks, []

    def meanwhile(name: str) -> Iterator[bytes]:
        others.append(FileCache(tmp_path / "cache", bucket, limit_bytes=1_000))  # takes nothing of the first's away
        yield from original(name)

    bucket.inner.chunks = meanwhile  # type: ignore[method-assign]
    assert read(one, found) == b"a" * 100
    bucket.inner.chunks = original  # type: ignore[method-assign]
    assert read(others[0], found) == b"a" * 100
    assert bucket.fetched == ["a.bin"]
    (one.root / "a.bin").unlink()  # evicted by another
    assert read(one, found) == b"a" * 100

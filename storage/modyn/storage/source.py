"""A dataset's source at work: ingest on demand, and a watcher thread while somebody watches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from modyn.core.errors import CancelledError, CorruptDataError, ModynError
from modyn.core.locations import is_uri
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.storage.catalog import QuarantineRow, StorageCatalog
from modyn.storage.filecache import FileCache
from modyn.storage.filesystems import remote_folder
from modyn.storage.folder import CompletenessTracker, SourceFile, companions_of, list_source
from modyn.storage.known import KnownFiles
from modyn.storage.notice import Notice
from modyn.storage.relabelling import relabel, supersede_missing
from modyn.storage.scan import ScanProgress, scan
from modyn.storage.writing import Writer

logger = logging.getLogger(__name__)

UNFINISHED_SECONDS = 60.0
"""How long ingest waits for files that keep changing before it sets them aside."""

LONGEST_PAUSE_SECONDS = 0.2
"""Between two looks at files that are still being written, or at whether a stop is wanted."""

LOOKING_SHARE = 0.2
"""How much of the time a watcher spends on looking at most: a huge folder is looked at less often."""


class Source:
    """Ingests the files of one dataset's source. Safe to use from many threads; one scan runs at a time."""

    def __init__(self, writer: Writer, catalog: StorageCatalog) -> None:
        self._writer = writer
        self._dataset = writer.dataset
        self._catalog = catalog
        self._scan_lock = threading.Lock()
        self._others: dict[str, SourceFile] | None = None
        """Companion files as they were when nothing was left to do about them."""
        self._watch_lock = threading.Lock()
        self._watchers = 0
        self._notice: Notice | None = None
        self._threads: list[threading.Thread] = []
        self._cache_lock = threading.Lock()
        self._cache: FileCache | None = None
        if is_uri(str((self._dataset.source or {}).get("path", ""))):
            self._dataset.fetch = self._fetch
            self._dataset.forget = self._forget

    @property
    def format(self) -> SourceFormat:
        """How files are found and read. Where they are remote, its path is that of their local copies."""
        source = FORMATS.parse(self._dataset.source or {})
        cache = self._cache_for(source)
        return source if cache is None else source.model_copy(update={"path": str(cache.root)})

    @cached_property
    def _known(self) -> KnownFiles:
        return KnownFiles(self._dataset, self._catalog)

    @cached_property
    def _tracker(self) -> CompletenessTracker:
        return CompletenessTracker()

    def _cache_for(self, source: SourceFormat) -> FileCache | None:
        if not is_uri(source.path):
            return None
        with self._cache_lock:
            if self._cache is None:
                self._cache = FileCache(self._dataset.folder / "cache", remote_folder(source), source.cache_bytes)
            self._cache.limit_bytes = source.cache_bytes
            return self._cache

    def _forget(self, uri: str) -> None:
        cache = self._cache_for(FORMATS.parse(self._dataset.source or {}))
        if cache is not None:
            cache.forget(uri)

    def _fetch(self, uri: str, size: int, mtime_ns: int) -> str:
        cache = self._cache or self._cache_for(FORMATS.parse(self._dataset.source or {}))
        if cache is None:
            raise CorruptDataError(f"{uri} cannot be fetched: the dataset's source is local")
        return cache.local_path(uri, size, mtime_ns)

    # ------------------------------------------------------------------------------------------ on demand

    def ingest(self) -> Iterator[ScanProgress]:
        """Ingests every file present now, once it is complete; all of them in one commit.

        A file that is still being written after a minute is quarantined until it has stopped changing.
        """
        with self._scan_lock:
            source = self.format
            deadline = time.monotonic() + max(UNFINISHED_SECONDS, 10 * source.settle_seconds)
            done = ScanProgress(files_total=0)
            retries = 2  # for files that change while they are read
            while True:
                complete, unfinished = self._look(source)
                if self._dataset.closed:
                    raise CancelledError(f"the storage service stops; ingest {self._dataset.name!r} again later")
                if unfinished and time.monotonic() < deadline:
                    yield replace(done, files_total=done.files_done + len(complete) + len(unfinished))
                    time.sleep(self._pause(source))
                    continue
                if unfinished:
                    self._known.quarantine([_still_written(file) for file in unfinished])
                    done.quarantined += len(unfinished)
                yield from self._scan(source, complete, done)
                retries -= 1
                if retries < 0 or not done.left:
                    return

    def _scan(self, source: SourceFormat, files: list[SourceFile], done: ScanProgress) -> Iterator[ScanProgress]:
        """Scans, adding to what was done before."""
        before = replace(done)
        done.left = 0
        progress = ScanProgress(files_total=len(files))
        for progress in self._scanned(source, files):
            done.files_total = before.files_done + progress.files_total
            done.files_done = before.files_done + progress.files_done
            done.samples = before.samples + progress.samples
            done.quarantined = before.quarantined + progress.quarantined
            done.left = progress.left
            yield done
        if not files:
            yield done

    def _scanned(self, source: SourceFormat, files: list[SourceFile]) -> Iterator[ScanProgress]:
        """Scans; remote files are fetched ahead."""
        if not files:
            return
        cache = self._cache
        with nullcontext() if cache is None else cache.prefetching(sorted(files, key=lambda file: file.name)):
            yield from scan(self._writer, source, files, self._known)

    def _look(self, source: SourceFormat) -> tuple[list[SourceFile], list[SourceFile]]:
        """New and changed files: those that are complete, and those that are not yet."""
        self._known.refresh()
        listing = list_source(source, self._cache)
        self._known.release_settled(listing.files)
        self._tracker.settle_seconds = source.settle_seconds
        complete: list[SourceFile] = []
        unfinished: list[SourceFile] = []
        new = [file for file in listing.files if self._known.is_new(file)]
        for file, companions in zip(new, companions_of(source, new, listing), strict=True):
            parts = [file, *(companion for _, companion in companions if companion is not None)]
            changing = [part for part in parts if not self._tracker.is_complete(part)]  # each is looked at
            (unfinished if changing else complete).append(file._replace(companions=companions))
        if listing.others != self._others:
            settled = relabel(self._writer, source, listing, self._known, self._tracker.is_complete) and not unfinished
            self._others = listing.others if settled and not complete else None
        supersede_missing(self._writer, source, listing, self._known)
        return complete, unfinished

    def _pause(self, source: SourceFormat) -> float:
        """Seconds until unfinished files are looked at again. Looking into a bucket costs money."""
        if self._cache is not None:
            return max(0.01, min(1.0, source.settle_seconds))
        return min(LONGEST_PAUSE_SECONDS, max(0.01, source.settle_seconds / 4))

    # ------------------------------------------------------------------------------------------ watching

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at the folder every ``poll_seconds``, and when something appears in it, while a caller is inside."""
        with self._watch_lock:
            self._watchers += 1
            if self._watchers == 1:
                self._notice = notice = Notice()
                thread = threading.Thread(
                    target=self._poll, args=(notice,), name=f"watch-{self._dataset.id}", daemon=True
                )
                thread.start()
                self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        try:
            yield
        finally:
            with self._watch_lock:
                self._watchers -= 1
                if self._watchers == 0:
                    assert self._notice is not None
                    self._notice.stop()

    def close(self) -> None:
        """Waits for the watcher to end. The dataset is closed before."""
        with self._cache_lock:
            if self._cache is not None:
                self._cache.close()
        with self._watch_lock:
            if self._notice is not None:
                self._notice.stop()
            threads = self._threads
        for thread in threads:
            thread.join()

    def _poll(self, notice: Notice) -> None:
        try:
            self._look_again_and_again(notice)
        finally:
            notice.close()

    def _look_again_and_again(self, notice: Notice) -> None:
        complaint = ""
        rest = pause = 0.0
        while notice.wait(rest, pause) and not self._dataset.closed:
            try:
                source = self.format
                pause = source.poll_seconds
                notice.observe(Path(source.path) if self._cache is None else None)
                with self._scan_lock:
                    started = time.monotonic()
                    self._tracker.moved = notice.take_moved()
                    complete, _ = self._look(source)
                    rest = (time.monotonic() - started) * (1 / LOOKING_SHARE - 1)
                    for _ in self._scanned(source, complete):
                        pass
                complaint = ""
            except ModynError as error:
                if error.message != complaint:  # once, not at every look
                    logger.warning("dataset %r: %s", self._dataset.name, error.message)
                complaint = error.message
            except Exception:  # the watcher has to outlive whatever one look trips over
                logger.exception("dataset %r: looking at its source failed", self._dataset.name)
                rest = pause = max(pause, 5.0)


def _still_written(file: SourceFile) -> QuarantineRow:
    reason = "is still being written; it is taken once it has stopped changing"
    return QuarantineRow(file.name, file.size, file.mtime_ns, file.ctime_ns, reason, at=int(time.time()))

"""A dataset's source at work: ingest on demand, and a watcher thread while somebody watches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from modyn.core.errors import CancelledError, ModynError
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.storage.catalog import QuarantineRow, StorageCatalog
from modyn.storage.dataset import Dataset
from modyn.storage.folder import CompletenessTracker, SourceFile, list_files
from modyn.storage.known import KnownFiles
from modyn.storage.scan import ScanProgress, scan

logger = logging.getLogger(__name__)

UNFINISHED_SECONDS = 60.0
"""How long ingest waits for files that keep changing before it sets them aside."""

LONGEST_PAUSE_SECONDS = 0.2
"""Between two looks at files that are still being written, or at whether a stop is wanted."""


class Source:
    """Ingests the files of one dataset's source. Safe to use from many threads; one scan runs at a time."""

    def __init__(self, dataset: Dataset, catalog: StorageCatalog) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._scan_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._watchers = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def format(self) -> SourceFormat:
        return FORMATS.parse(self._dataset.source or {})

    @cached_property
    def _known(self) -> KnownFiles:
        return KnownFiles(self._dataset, self._catalog)

    @cached_property
    def _tracker(self) -> CompletenessTracker:
        return CompletenessTracker()

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
                    time.sleep(min(LONGEST_PAUSE_SECONDS, max(0.01, source.settle_seconds / 4)))
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
        for progress in scan(self._dataset, source, files, self._known) if files else ():
            done.files_total = before.files_done + progress.files_total
            done.files_done = before.files_done + progress.files_done
            done.samples = before.samples + progress.samples
            done.quarantined = before.quarantined + progress.quarantined
            done.left = progress.left
            yield done
        if not files:
            yield done

    def _look(self, source: SourceFormat) -> tuple[list[SourceFile], list[SourceFile]]:
        """New and changed files: those that are complete, and those that are not yet."""
        self._known.refresh()
        present = list_files(Path(source.path), source.file_pattern)
        self._known.release_settled(present)
        self._tracker.settle_seconds = source.settle_seconds
        complete: list[SourceFile] = []
        unfinished: list[SourceFile] = []
        for file in present:
            if self._known.is_new(file):
                ready = self._tracker.is_complete(file) and all(
                    self._tracker.companion_is_complete(path) for path in source.companions(file.path)
                )
                (complete if ready else unfinished).append(file)
        return complete, unfinished

    # ------------------------------------------------------------------------------------------ watching

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at the folder every ``poll_seconds`` while at least one caller is inside."""
        with self._watch_lock:
            self._watchers += 1
            if self._watchers == 1:
                self._stop = threading.Event()
                thread = threading.Thread(
                    target=self._poll, args=(self._stop,), name=f"watch-{self._dataset.id}", daemon=True
                )
                thread.start()
                self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        try:
            yield
        finally:
            with self._watch_lock:
                self._watchers -= 1
                if self._watchers == 0:
                    self._stop.set()

    def close(self) -> None:
        """Waits for the watcher to end. The dataset is closed before."""
        with self._watch_lock:
            self._stop.set()
            threads = self._threads
        for thread in threads:
            thread.join()

    def _poll(self, stop: threading.Event) -> None:
        complaint = ""
        pause = 0.0
        while not stop.wait(pause) and not self._dataset.closed:
            try:
                source = self.format
                pause = source.poll_seconds
                with self._scan_lock:
                    complete, _ = self._look(source)
                    for _ in scan(self._dataset, source, complete, self._known) if complete else ():
                        pass
                complaint = ""
            except ModynError as error:
                if error.message != complaint:  # once, not at every look
                    logger.warning("dataset %r: %s", self._dataset.name, error.message)
                complaint = error.message
            except Exception:  # the watcher has to outlive whatever one look trips over
                logger.exception("dataset %r: looking at its source failed", self._dataset.name)
                pause = max(pause, 5.0)


def _still_written(file: SourceFile) -> QuarantineRow:
    reason = "is still being written; it is taken once it has stopped changing"
    return QuarantineRow(file.name, file.size, file.mtime_ns, file.ctime_ns, reason, at=int(time.time()))

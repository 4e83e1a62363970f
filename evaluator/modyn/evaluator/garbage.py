"""Stored outcomes of models that are gone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from modyn.evaluator.store import ModelFileRow, OutcomeStore
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage


def collect(store: OutcomeStore, request: CollectGarbageRequest) -> Iterator[Garbage]:
    """Removes files all of whose outcomes are of models that nobody keeps and were made so long ago, and files that no
    row names; names each, and with ``dry_run`` only that."""
    keep, before = set(request.keep), time.time() - request.older_than_seconds
    rows: defaultdict[str, list[ModelFileRow]] = defaultdict(list)
    for row in store.models():
        rows[row.file].append(row)
    for file, status in sorted(store.files().items()):
        used_at = max([status.st_mtime, *(row.created_at for row in rows[file])])
        if used_at > before or any(row.model in keep for row in rows[file]):
            continue
        if not request.dry_run:
            for row in rows[file]:
                store.forget(row)
            if not store.remove(file):
                continue
        yield Garbage(
            kind="outcomes",
            name=file,
            num_bytes=status.st_size,
            age_seconds=max(0.0, time.time() - used_at),
            reason="its models are not stored any more" if rows[file] else "nothing is known of it",
        )

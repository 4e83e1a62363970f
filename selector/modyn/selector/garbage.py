"""Training sets, key files and sample columns that nobody needs any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage
from modyn.selector.catalog import SelectorCatalog
from modyn.selector.contentfiles import ContentFiles, StoredFile
from modyn.selector.keyfiles import KeyFiles
from modyn.selector.sample_columns import SampleColumnFiles


def collect(
    catalog: SelectorCatalog, files: KeyFiles, columns: SampleColumnFiles, request: CollectGarbageRequest
) -> Iterator[Garbage]:
    """Removes what nobody keeps and nobody used for so long; names each, and with ``dry_run`` only that.

    Training sets go together with the rows of the triggers that selected them, then the files that no row names.
    """
    keep, before = set(request.keep), time.time() - request.older_than_seconds
    unused = [
        one
        for one in catalog.training_sets_unused_since(before)
        if one.digest not in keep and (request.dry_run or catalog.forget(one.digest, before))
    ]
    named = catalog.files_named(without={one.digest for one in unused})
    left = {file.name: file for file in _remove(files, named, before, dry_run=request.dry_run)}
    for one in unused:
        yield Garbage(
            kind="training set",
            name=one.digest,
            num_bytes=left.pop(one.key_file).num_bytes if one.key_file in left else 0,
            age_seconds=max(0.0, time.time() - one.last_selected),
            reason="no pipeline and no model names it",
        )
    yield from (_garbage("key file", file, "no training set refers to it") for file in left.values())
    for file in _remove(columns, keep, before, dry_run=request.dry_run):
        yield _garbage("sample columns", file, "no pipeline and no model names them")


def _remove(files: ContentFiles[Any], keep: set[str], before: float, *, dry_run: bool) -> Iterator[StoredFile]:
    for file in files.all():
        unused = file.name not in keep and file.used_at <= before
        if unused and (dry_run or files.remove(file.name, before)):
            yield file


def _garbage(kind: str, file: StoredFile, reason: str) -> Garbage:
    age = max(0.0, time.time() - file.used_at)
    return Garbage(kind=kind, name=file.name, num_bytes=file.num_bytes, age_seconds=age, reason=reason)

"""What is shown of datasets, and of the models trained on some of their samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modyn.client.costs import readable_bytes
from modyn.client.lineage import TrainedModel
from modyn.client.options import format_time
from modyn.client.tables import console, new_table
from modyn.core.values import from_value
from modyn.proto.storage_pb2 import DatasetDescription, Role

DIGEST_CHARS = 12
"""So much of a digest is shown; no two models of one installation share it."""


def print_datasets(datasets: Sequence[DatasetDescription]) -> None:
    table = new_table(None, "name", "samples", "unlabelled", "first", "last", "segments", "size", "quarantined files")
    for d in datasets:
        table.add_row(
            d.name,
            f"{d.num_samples:,}",
            f"{d.num_unlabelled:,}",
            *_span(d),
            f"{d.num_segments:,}",
            readable_bytes(d.num_bytes),
            f"{len(d.quarantined):,}",
        )
    console().print(table)


def print_dataset(d: DatasetDescription) -> None:
    out = console()
    table = new_table(None, "", "")
    for name, text in _facts(d):
        table.add_row(name, text)
    out.print(table)
    if d.quarantined:
        files = new_table("quarantined files", "path", "since", "reason")
        for file in d.quarantined:
            files.add_row(file.path, format_time(file.at), file.reason)
        out.print(files)


def print_models(title: str, models: Sequence[TrainedModel]) -> None:
    """Models that were trained on some samples, and by which pipelines; nothing if there are none."""
    if not models:
        return
    table = new_table(title, "model", "training set", "its samples", "used by", "trained")
    for m in models:
        uses = ", ".join(f"pipeline {use.pipeline_id} trigger {use.trigger_index}" for use in m.uses)
        count = "none, but made from such a model" if m.inherited else f"{len(m.keys):,}"
        table.add_row(
            m.model[:DIGEST_CHARS], m.training_set[:DIGEST_CHARS], count, uses or "-", format_time(m.trained_at)
        )
    console().print(table)


def _facts(d: DatasetDescription) -> Iterator[tuple[str, str]]:
    yield "name", d.name
    yield "source", _source(d)
    yield "samples", f"{d.num_samples:,}"
    yield "roles", _roles(d)
    yield "unlabelled", f"{d.num_unlabelled:,}"
    batches = f" in {d.label_version:,} batches" if d.label_version else ""
    yield "late labels", f"{d.num_late_labels:,}{batches}"
    yield "superseded", f"{d.num_superseded:,}"
    stored = f" ({d.num_deleted_stored:,} still stored until compaction)" if d.num_deleted_stored else ""
    yield "deleted", f"{d.num_deleted:,}{stored}"
    yield "next key", str(d.end_key)
    first, last = _span(d)
    yield "first", first
    yield "last", last
    yield "last arrival", format_time(d.last_arrival if d.HasField("last_arrival") else None)
    yield "source files", f"{d.num_files:,}"
    yield "read in place", f"{d.num_in_place:,} samples"
    yield "segments", f"{d.num_segments:,}"
    yield "size", readable_bytes(d.num_bytes)
    yield "payload", ", ".join(f"{column.name} ({column.type})" for column in d.payload) or "-"
    yield "writer", d.writer if d.HasField("writer") else "none now"
    if d.read_only:
        yield "answered by", "a replica"


def _source(d: DatasetDescription) -> str:
    source = from_value(d.source) if d.HasField("source") else None
    if not isinstance(source, dict):
        return "none (it only receives appends)"
    return f"{source.get('format')} files in {source.get('path')}"


def _roles(d: DatasetDescription) -> str:
    default = Role.Name(d.role).lower() if d.role else "any"
    counts = {"train": d.num_train, "test": d.num_test, "any": d.num_samples - d.num_train - d.num_test}
    known = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{known or '-'} (by default {default})"


def _span(d: DatasetDescription) -> tuple[str, str]:
    return (
        format_time(d.first_timestamp if d.HasField("first_timestamp") else None),
        format_time(d.last_timestamp if d.HasField("last_timestamp") else None),
    )

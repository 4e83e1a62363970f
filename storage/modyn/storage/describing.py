"""What people are told about a dataset."""

from __future__ import annotations

from modyn.core.values import to_value
from modyn.core.versions import SEGMENT_FORMAT_VERSION
from modyn.proto import storage_pb2
from modyn.proto.storage_pb2 import Role
from modyn.storage.catalog import StorageCatalog
from modyn.storage.dataset import Dataset
from modyn.storage.index import KeyRuns
from modyn.storage.inspection import inspect
from modyn.storage.manifest import paths_with
from modyn.storage.segments import IN_PLACE
from modyn.storage.view import Part


def described(dataset: Dataset, catalog: StorageCatalog, *, read_only: bool) -> storage_pb2.DatasetDescription:
    """Counts, times, columns, quarantined files and the writer of a dataset."""
    view = dataset.view()
    snapshot = view.snapshot
    live = inspect(view, Part(snapshot.end_key))
    num_deleted = len(snapshot.deleted)
    return storage_pb2.DatasetDescription(
        name=dataset.name,
        source=None if dataset.source is None else to_value(dataset.source),
        end_key=snapshot.end_key,
        num_samples=live.num_samples,
        num_unlabelled=live.num_unlabelled,
        num_superseded=snapshot.end_key - live.num_samples - num_deleted,
        first_timestamp=live.first_timestamp,
        last_timestamp=live.last_timestamp,
        num_segments=len(snapshot.segments),
        num_bytes=snapshot.num_bytes,
        num_files=snapshot.num_files,
        quarantined=[
            storage_pb2.QuarantinedFile(path=row.path, reason=row.reason, at=row.at)
            for row in catalog.quarantined(dataset.id)
        ],
        payload=[
            storage_pb2.PayloadColumn(name=field.name, type=str(field.type)) for field in snapshot.schema.payload or ()
        ],
        last_arrival=snapshot.last_arrival,
        segment_format_version=SEGMENT_FORMAT_VERSION,
        num_deleted=num_deleted,
        num_deleted_stored=sum(info.num_stored for info in dataset.deletions),
        label_version=snapshot.label_version,
        num_late_labels=snapshot.labels.num_labels,
        role=Role.ValueType(dataset.role),
        num_test=live.num_by_role.get(Role.TEST, 0),
        num_train=live.num_by_role.get(Role.TRAIN, 0),
        num_in_place=sum(info.num_samples for info in snapshot.segments if info.kind == IN_PLACE),
        writer=catalog.lease_holder(dataset.id),
        read_only=read_only,
    )


def files_with(dataset: Dataset, keys: KeyRuns) -> list[str]:
    """The source's own files that some samples came from, with their folder or URI.

    Raises:
        CorruptDataError: a manifest is damaged.
    """
    if dataset.source is None or len(keys) == 0:
        return []
    base = str(dataset.source["path"]).rstrip("/")
    found: set[str] = set()
    for scan in dataset.scans:
        near = keys.clipped(scan.first_key, scan.end_key)
        if len(near.starts):
            found.update(paths_with(dataset.scans_folder / scan.manifest, near.starts, near.ends, scan.first_key))
    return [f"{base}/{path}" for path in sorted(found)]

"""What a part of a dataset holds: counts, times and a digest of its content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.digests import checksum_bytes, digest_inputs
from modyn.proto.storage_pb2 import Role
from modyn.storage.contents import as_ingested, contents_of
from modyn.storage.gather import take
from modyn.storage.index import KeyRuns
from modyn.storage.segments import MERGED, REMOVED
from modyn.storage.view import Part, Rows, View, as_array, count, live_rows, range_arrays


@dataclass(frozen=True)
class PartInfo:
    """Counts and times are those of visible samples; what is unlabelled depends on the view's labels."""

    num_samples: int
    num_unlabelled: int
    first_timestamp: int | None
    last_timestamp: int | None
    num_by_role: dict[int, int]


def inspect(view: View, part: Part) -> PartInfo:
    """Counts and time span; segments that lie wholly inside are not opened, unless later labels concern them."""
    samples = unlabelled = 0
    first: int | None = None
    last: int | None = None
    roles: dict[int, int] = {}
    for index, rows in live_rows(view, part):
        low, high, missing = _summary(view, index, rows)
        samples += count(rows)
        unlabelled += missing
        first = low if first is None else min(first, low)
        last = high if last is None else max(last, high)
        for role, number in _roles(view, index, rows).items():
            roles[role] = roles.get(role, 0) + number
    return PartInfo(samples, unlabelled, first, last, roles)


def content_digest(view: View, part: Part) -> str:
    """Digest of all content that overlaps a part: of the segments as they were ingested, where they start, what of them
    is visible and may be used, and of the later labels that count.

    It does not change when compaction moves samples, nor with labels that do not count for the view.
    """
    snapshot = view.snapshot
    gone = _asked(part, KeyRuns.union([snapshot.superseded.at(part.end_key), snapshot.deleted]))
    made_of = contents(view, part)
    starts, ends = (made_of.column(name).to_numpy() for name in ("first_key", "end_key"))
    ends = np.minimum(ends, part.end_key)
    said: list[object] = []
    for low, high, digest, role in zip(
        starts.tolist(), ends.tolist(), *(made_of.column(name).to_pylist() for name in ("digest", "role")), strict=True
    ):
        near = gone.clipped(low, high)
        said.append([low, high, digest, np.stack((near.starts, near.ends), axis=1).tolist(), role])
    if len(said) > _MANY:  # one long list of short lists would take long to encode
        said = [checksum_bytes(repr(said).encode())]
    keys = _asked(part, KeyRuns.union([KeyRuns(starts, ends)]))
    return digest_inputs({"segments": said, "labels": _labels(view, made_of, keys)})


_MANY = 10_000


def contents(view: View, part: Part) -> pa.RecordBatch:
    """What segments that overlap a part were made of, as far as that overlaps it, in key order."""
    table = view.snapshot.table
    mask = table.first_keys < part.end_key
    mask &= _overlaps(part, table.first_keys, table.end_keys)
    infos = [table.infos[index] for index in np.flatnonzero(mask).tolist()]
    plain = [info for info in infos if info.kind not in (MERGED, REMOVED)]
    compacted = [contents_of(view.folder, info) for info in infos if info.kind in (MERGED, REMOVED)]
    batch = pa.concat_batches([as_ingested(plain), *compacted])
    starts, ends, earliest, latest, roles = (
        batch.column(name).to_numpy() for name in ("first_key", "end_key", "min_timestamp", "max_timestamp", "role")
    )
    keep = (starts < part.end_key) & (latest >= part.span.start) & (earliest < part.span.end)
    keep &= _overlaps(part, starts, ends)
    if part.training:
        keep &= roles != TEST
    kept = np.flatnonzero(keep)
    _, first = np.unique(starts[kept], return_index=True)  # one that was split is said of each of its parts
    return batch.take(pa.array(kept[first]))


def _asked(part: Part, keys: KeyRuns) -> KeyRuns:
    """Of these keys, those that a part may contain."""
    return keys if part.ranges is None else keys.intersection(KeyRuns(*range_arrays(part.ranges)))


def _overlaps(part: Part, starts: Int64Array, ends: Int64Array) -> npt.NDArray[np.bool_]:
    """Which key ranges have keys in common with a part's, bool [n]."""
    if part.ranges is None:
        return np.ones(len(starts), dtype=bool)
    low, high = range_arrays(part.ranges)
    overlaps: npt.NDArray[np.bool_] = np.searchsorted(high, starts, side="right") < np.searchsorted(
        low, ends, side="left"
    )
    return overlaps


def _role(view: View, index: int) -> int:
    return int(view.snapshot.table.roles[index])


def _labels(view: View, contents: pa.RecordBatch, keys: KeyRuns) -> list[object]:
    """What distinguishes the labels that count from those ingested."""
    if not view.has_late_labels:
        return []
    snapshot, as_of = view.snapshot, view.as_of
    said: list[object] = []
    for first, end in zip(keys.starts.tolist(), keys.ends.tolist(), strict=True):
        seen = snapshot.labels.digest(first, end, snapshot.label_type, as_of, snapshot.deleted.contains)
        if seen:
            said.append([first, seen])
    if as_of.restricts_base:
        times = zip(
            contents.column("max_timestamp").to_pylist(), contents.column("max_arrival").to_pylist(), strict=True
        )
        hides = [as_of.hides_base(*latest) for latest in times]
        hidden = contents.column("first_key").filter(pa.array(hides, pa.bool_())).to_pylist()
        if hidden:
            said.append([as_of.label_time, as_of.arrival, hidden])
    return said


def _summary(view: View, index: int, rows: Rows) -> tuple[int, int, int]:
    """Smallest and largest timestamp, and the number of missing labels."""
    table = view.snapshot.table
    whole = count(rows) == view.snapshot.segments[index].num_samples
    if whole and not _labels_differ(view, index):
        return int(table.min_timestamps[index]), int(table.max_timestamps[index]), int(table.unlabelled[index])
    keys = as_array(rows) + view.snapshot.first_keys[index]
    if not _labels_differ(view, index) and not table.unlabelled[index]:
        times = view.segment(index).timestamps[rows]
        return int(times.min()), int(times.max()), 0
    stored = take(view.columns(index), rows)
    times = stored.column(0).to_numpy()
    labels = view.resolve_labels(keys, stored.column(1), times)
    return int(times.min()), int(times.max()), labels.null_count


def _labels_differ(view: View, index: int) -> bool:
    """Whether labels of a segment may be others than those ingested."""
    if not view.has_late_labels:
        return False
    table = view.snapshot.table
    return view.snapshot.labels.affects(
        int(table.first_keys[index]), int(table.end_keys[index]), view.as_of
    ) or view.as_of.hides_base(int(table.max_timestamps[index]), int(table.max_arrivals[index]))


def _roles(view: View, index: int, rows: Rows) -> dict[int, int]:
    role = _role(view, index)
    if role != 0:
        return {role: count(rows)}
    values, numbers = np.unique(view.roles(as_array(rows) + view.snapshot.first_keys[index]), return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


TEST, TRAIN = int(Role.TEST), int(Role.TRAIN)

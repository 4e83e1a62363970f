"""What a part of a dataset holds: counts, times and a digest of its content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modyn.core.digests import digest_inputs
from modyn.storage.gather import take_column
from modyn.storage.view import Part, Rows, View, as_array, count, live_rows, segments_of


@dataclass(frozen=True)
class PartInfo:
    """Counts and times are those of live samples."""

    num_samples: int
    num_unlabelled: int
    first_timestamp: int | None
    last_timestamp: int | None


def inspect(view: View, part: Part) -> PartInfo:
    """Counts and time span; segments that lie wholly inside are not opened."""
    samples = unlabelled = 0
    first: int | None = None
    last: int | None = None
    for index, rows in live_rows(view, part):
        low, high, missing = _summary(view, index, rows)
        samples += count(rows)
        unlabelled += missing
        first = low if first is None else min(first, low)
        last = high if last is None else max(last, high)
    return PartInfo(samples, unlabelled, first, last)


def content_digest(view: View, part: Part) -> str:
    """Digest of all segments that overlap a part, of where they start, and of what of them is visible."""
    snapshot = view.snapshot
    superseded = snapshot.superseded.at(part.end_key)
    contents = []
    for index in segments_of(snapshot, part).tolist():
        first = int(snapshot.first_keys[index])
        end = min(int(snapshot.end_keys[index]), part.end_key)
        near = superseded.within(first, end)
        gone = np.stack((superseded.starts[near], superseded.ends[near]), axis=1).clip(first, end)
        contents.append([first, end, snapshot.segments[index].digest, gone.tolist()])
    return digest_inputs({"segments": contents, "label_version": 0})


def _summary(view: View, index: int, rows: Rows) -> tuple[int, int, int]:
    """Smallest and largest timestamp, and the number of missing labels."""
    snapshot = view.snapshot
    if count(rows) == snapshot.segments[index].num_samples:
        return (
            int(snapshot.min_timestamps[index]),
            int(snapshot.max_timestamps[index]),
            int(snapshot.unlabelled[index]),
        )
    segment = view.segment(index)
    times = segment.timestamps[rows]
    missing = 0
    if snapshot.unlabelled[index]:
        missing = take_column(segment.labels, as_array(rows)).null_count
    return int(times.min()), int(times.max()), missing

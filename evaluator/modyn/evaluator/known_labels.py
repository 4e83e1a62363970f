"""Labels as they were known at the end of each window.

At second e a sample shows the version of its label that storage would have answered then: of those with a label time
of at most e the newest. If that is the label which came with the sample, it is known from ``label_delay`` seconds after
the event time on; before, the sample counts as unlabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.evaluator.recent import Columns
from modyn.evaluator.request import LAST_SECOND, Span
from modyn.evaluator.samples import AS_INGESTED, BoolArray, Samples, WindowLabels

ReadAtEnd = Callable[[Span], Columns]


@dataclass(frozen=True, eq=False)
class _View:
    """What one window shows.

    Attributes:
        places: of the samples that have a label then, int64 [k], among all samples.
        labels: where each label is in the newest labels of all samples followed by the earlier ones, int64 [k].
        num_samples: in the window, labelled or not.
    """

    places: Int64Array
    labels: Int64Array
    num_samples: int


def known_labels(
    columns: Columns, windows: tuple[Span, ...], label_delay: int, read_at_end: ReadAtEnd | None
) -> Samples:
    """The samples that have a label now or had one at the end of some window.

    A label that was withdrawn since is, in :attr:`Samples.labels`, the last one that a window saw.

    Args:
        columns: of all samples, with the newest labels.
        read_at_end: reads the samples of a window with the labels that were known at its end, which is done where the
            newest label of one of them came after it; None if no label came later than its sample.
    """
    history = _History([columns.labels], [] if columns.label_times is None else [columns.label_times])
    views: list[_View] = []
    for window in windows:
        inside = slice(*(int(at) for at in np.searchsorted(columns.timestamps, [window.start, window.end])))
        seen = columns.within(window)
        places = np.arange(inside.start, inside.stop)
        if read_at_end is not None and _changed_since(seen, window.end):
            places, seen = _aligned(columns.keys[inside], read_at_end(window))
            places += inside.start
        known = _is_known(seen, window.end, label_delay)
        places, seen = places[known], seen.only(known)
        views.append(_View(places, history.rows_of(places, seen), inside.stop - inside.start))
    return _samples(columns, windows, label_delay, views, history)


@dataclass(eq=False)
class _History:
    """Labels of samples and their label times: the newest of all of them, then what windows saw instead."""

    labels: list[pa.Array]
    times: list[Int64Array]

    def rows_of(self, places: Int64Array, seen: Columns) -> Int64Array:
        """Where the labels that were seen of some samples are, int64 [k]; adds those that are not the newest."""
        if seen.label_times is None:
            return places
        rows = places.copy()
        # Of equal times the later version counts, whenever it is asked: the time alone tells which one was seen.
        differs = seen.label_times != self.times[0][places]
        rows[differs] = sum(map(len, self.labels)) + np.arange(np.count_nonzero(differs))
        self.labels.append(seen.labels.filter(pa.array(differs)))
        self.times.append(seen.label_times[differs])
        return rows


def _aligned(keys: Int64Array, seen: Columns) -> tuple[Int64Array, Columns]:
    """Which of some samples were seen, and what was; in the same order, but either may lack samples that were deleted
    between two reads."""
    if np.array_equal(keys, seen.keys):
        return np.arange(len(keys)), seen
    there = np.isin(keys, seen.keys, assume_unique=True)
    return np.flatnonzero(there), seen.only(np.isin(seen.keys, keys, assume_unique=True))


def _changed_since(newest: Columns, end: int) -> bool:
    """Whether some sample may have shown another label at a second than the newest one: of labels with a time of at
    most that second the newest is what counted, so if the newest of all is one of them, it was seen already."""
    return newest.label_times is not None and bool((newest.label_times > end).any())


def _is_known(seen: Columns, end: int, label_delay: int) -> BoolArray:
    known: BoolArray = seen.labels.is_valid().to_numpy(zero_copy_only=False)
    if end == LAST_SECOND or not label_delay:
        return known
    in_time = seen.timestamps <= max(end - label_delay, -(2**63))
    if seen.label_times is not None:
        in_time |= seen.label_times != AS_INGESTED
    return known & in_time


def _samples(
    columns: Columns,
    windows: tuple[Span, ...],
    label_delay: int,
    views: Sequence[_View],
    history: _History,
) -> Samples:
    """Numbers samples anew without those that never had a label."""
    count = len(columns)
    source = np.arange(count)  # where the label of each sample is
    has_label: BoolArray = columns.labels.is_valid().to_numpy(zero_copy_only=False)
    withdrawn = ~has_label
    for view in sorted(range(len(views)), key=lambda index: windows[index].end):
        places, labels = views[view].places, views[view].labels
        again = withdrawn[places]
        source[places[again]] = labels[again]
        has_label[places] = True
    table = pa.concat_arrays(history.labels)
    times = np.concatenate(history.times)[source[has_label]] if history.times else None
    place = np.cumsum(has_label) - 1
    size = int(np.count_nonzero(has_label))
    known = tuple(
        WindowLabels(
            place[view.places],
            np.where(view.labels < count, place[np.minimum(view.labels, count - 1)], view.labels - count + size),
            view.num_samples - len(view.places),
        )
        for view in views
    )
    return Samples(
        columns.keys[has_label],
        columns.timestamps[has_label],
        table.take(pa.array(source[has_label])),
        columns.timestamps[~has_label],
        columns.is_test[has_label],
        times,
        label_delay,
        windows,
        earlier_labels=table.slice(count),
        known=known,
    )

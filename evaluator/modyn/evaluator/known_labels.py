"""Labels as they were known at the end of each window.

At second e a sample shows the version of its label that storage would have answered then: of those with a label time
of at most e the newest. If that is the label which came with the sample, it is known from ``label_delay`` seconds after
the event time on; before, the sample counts as unlabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from modyn.core.alignment import rows_of
from modyn.core.arrow import Int64Array
from modyn.evaluator.recent import Columns
from modyn.evaluator.request import LAST_SECOND, Span
from modyn.evaluator.samples import AS_INGESTED, BoolArray, Samples, WindowLabels

ReadKnown = Callable[[Int64Array, int], Columns]


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
    columns: Columns, windows: tuple[Span, ...], label_delay: int, read_known: ReadKnown | None
) -> Samples:
    """The samples that have a label now or had one at the end of some window.

    A label that was withdrawn since is, in :attr:`Samples.labels`, the last one that a window saw.

    Args:
        columns: of all samples, with the newest labels.
        read_known: reads samples of some keys, int64 [k], with the labels that were known at a second; it is asked for
            those of each window whose newest label came after its end. None if no label came later than its sample.
    """
    history = _History([columns.labels], [] if columns.label_times is None else [columns.label_times])
    views: list[_View] = []
    for window in windows:
        inside = slice(*(int(at) for at in np.searchsorted(columns.timestamps, [window.start, window.end])))
        seen = columns.within(window)
        places = np.arange(inside.start, inside.stop)
        if read_known is not None and seen.label_times is not None:
            # Of labels with a time of at most a second the newest is what counted then: what is not newer was seen.
            changed = np.flatnonzero(seen.label_times > window.end)
            if len(changed):
                there, seen = _replaced(seen, changed, read_known(np.sort(seen.keys[changed]), window.end))
                places = places[there]
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


def _replaced(seen: Columns, changed: Int64Array, before: Columns) -> tuple[Int64Array, Columns]:
    """What was seen of samples, with what some of them showed before.

    Args:
        changed: places of these.
        before: of these, in any order; deleted ones are missing.

    Returns:
        Which samples are there, and what was seen of them.
    """
    assert seen.label_times is not None
    assert before.label_times is not None
    found = rows_of(before.keys, seen.keys[changed])
    known = found >= 0
    rows = np.arange(len(seen))
    rows[changed[known]] = len(seen) + found[known]
    there = np.delete(np.arange(len(seen)), changed[~known])
    labels = pa.concat_arrays([seen.labels, before.labels]).take(pa.array(rows[there]))
    times = np.concatenate([seen.label_times, before.label_times])[rows[there]]
    return there, replace(
        seen,
        keys=seen.keys[there],
        timestamps=seen.timestamps[there],
        labels=labels,
        label_times=times,
        is_test=seen.is_test[there],
    )


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

"""What predictions are compared with: the labelled samples of every window."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array
from modyn.evaluator.request import Span
from modyn.evaluator.samples import Samples

MAX_SLICE_VALUES = 200
"""Values of a column that samples are scored by; a column with more is none to slice by."""


@dataclass(frozen=True, eq=False)
class WindowSlices:
    """Where the labelled samples of each window are, and how many unlabelled ones it has."""

    labelled: tuple[slice, ...]
    unlabelled: tuple[int, ...]

    @staticmethod
    def of(samples: Samples, windows: Iterable[Span]) -> WindowSlices:
        spans = list(windows)
        return WindowSlices(
            tuple(samples.within(span) for span in spans), tuple(samples.num_unlabelled(span) for span in spans)
        )

    def hull(self, windows: Sequence[int]) -> slice:
        """The smallest slice that holds some windows."""
        parts = [part for part in (self.labelled[index] for index in windows) if part.stop > part.start]
        return slice(min(p.start for p in parts), max(p.stop for p in parts)) if parts else slice(0, 0)

    def needed(self, windows: Sequence[int]) -> tuple[slice, npt.NDArray[np.bool_]]:
        """The hull of some windows, and which positions in it belong to at least one of them, bool [hull]."""
        hull = self.hull(windows)
        mask = np.zeros(hull.stop - hull.start, dtype=np.bool_)
        for index in windows:
            part = self.labelled[index]
            mask[max(part.start - hull.start, 0) : max(part.stop - hull.start, 0)] = True
        return hull, mask


@dataclass(frozen=True, eq=False)
class Subset:
    """The samples with one value of a column.

    Attributes:
        name: ``column=value``.
        positions: int64, ascending.
    """

    name: str
    positions: Int64Array


def subsets_of(columns: Mapping[str, pa.Array]) -> tuple[Subset, ...]:
    """The samples by the values of each column, ordered by column and value; a missing value is called ``null``.

    Args:
        columns: of n samples each.

    Raises:
        InvalidInputError: a column has more than :data:`MAX_SLICE_VALUES` values.
    """
    return tuple(subset for column, values in columns.items() for subset in _by_value(column, values))


def _by_value(column: str, values: pa.Array) -> Iterable[Subset]:
    if not len(values):
        return
    encoded = pc.dictionary_encode(values, null_encoding="encode")
    if len(encoded.dictionary) > MAX_SLICE_VALUES:
        raise InvalidInputError(
            f"slices: column {column!r} has {len(encoded.dictionary):,} different values; expected at most "
            f"{MAX_SLICE_VALUES}, so slice by a column with few values, such as a region or a device"
        )
    distinct = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.uint8)
    order = np.argsort(codes, kind="stable").astype(np.int64, copy=False)
    groups = np.split(order, np.cumsum(np.bincount(codes, minlength=len(distinct)))[:-1])
    for code in sorted(range(len(distinct)), key=lambda i: (distinct[i] is not None, distinct[i])):
        yield Subset(f"{column}={_text(distinct[code])}", groups[code])


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return '"null"' if value == "null" else str(value)


@dataclass(frozen=True, eq=False)
class Truth:
    """n labelled samples, in windows.

    Attributes:
        windows: where those of each window are among the n.
        labels: classes, int64 [n]; None where labels are no classes.
        targets: labels as numbers, float64 [n, k]; None unless a metric asked for them.
        subsets: samples that are scored on their own, too; positions are among the n.
        rows: which sample of the request each of them is, int64 [n]; None: they are the samples of the request, each
            once.
    """

    windows: WindowSlices
    labels: Int64Array | None
    targets: Float64Array | None = None
    subsets: tuple[Subset, ...] = ()
    rows: Int64Array | None = None

    @staticmethod
    def of(samples: Samples, labels: Int64Array | None, targets: Float64Array | None = None) -> Truth:
        """The samples of a request in its windows, each with the labels that it is to be scored with.

        Args:
            labels: of ``samples.all_labels``, classes, int64; None where labels are no classes.
            targets: of the same, as numbers, float64 [·, k]; None unless a metric asks for them.

        Raises:
            InvalidInputError: a column to slice by has too many values.
        """
        if samples.known is None:
            return Truth(WindowSlices.of(samples, samples.windows), labels, targets, subsets_of(samples.slices))
        nothing = np.empty(0, dtype=np.int64)
        rows = np.concatenate([nothing, *(window.rows for window in samples.known)])
        label_rows = np.concatenate([nothing, *(window.label_rows for window in samples.known)])
        stops = np.cumsum([0, *(len(window.rows) for window in samples.known)]).tolist()
        return Truth(
            WindowSlices(
                tuple(slice(start, stop) for start, stop in itertools.pairwise(stops)),
                tuple(window.num_unlabelled for window in samples.known),
            ),
            None if labels is None else labels[label_rows],
            None if targets is None else targets[label_rows],
            subsets_of({name: column.take(pa.array(rows)) for name, column in samples.slices.items()}),
            rows,
        )

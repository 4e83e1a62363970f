"""Columns of samples that were read lately, so that asking about the same data again does not read them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.evaluator.request import Span
from modyn.evaluator.samples import BoolArray

MAX_BYTES = 512 << 20
"""Of all columns kept: 20 million samples with labels of 8 bytes. What is larger alone is not kept."""

MAX_SPARE = 1.25
"""Samples in one piece may be so many times those asked for: a piece is not copied."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Live samples in (timestamp, key) order.

    Attributes:
        keys: int64 [n].
        timestamps: int64 [n], ascending.
        labels: [n], null where missing.
        label_times: int64 [n] as :attr:`modyn.evaluator.samples.Samples.label_times`, or None.
        is_test: bool [n].
    """

    keys: Int64Array
    timestamps: Int64Array
    labels: pa.Array
    label_times: Int64Array | None
    is_test: BoolArray

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        times = 0 if self.label_times is None else self.label_times.nbytes
        return self.keys.nbytes + self.timestamps.nbytes + int(self.labels.nbytes) + times + self.is_test.nbytes

    def within(self, span: Span) -> Columns:
        """The samples of a span, without a copy."""
        start, end = (int(place) for place in np.searchsorted(self.timestamps, [span.start, span.end]))
        return Columns(
            self.keys[start:end],
            self.timestamps[start:end],
            self.labels.slice(start, end - start),
            None if self.label_times is None else self.label_times[start:end],
            self.is_test[start:end],
        )

    def only(self, kept: BoolArray) -> Columns:
        """Those of a mask, bool [n]."""
        return Columns(
            self.keys[kept],
            self.timestamps[kept],
            self.labels.filter(pa.array(kept)),
            None if self.label_times is None else self.label_times[kept],
            self.is_test[kept],
        )

    @staticmethod
    def join(parts: Sequence[Columns]) -> Columns:
        """Some that follow each other in time, at least one; either all have label times, or none has."""
        if len(parts) == 1:
            return parts[0]
        times = [part.label_times for part in parts if part.label_times is not None]
        return Columns(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
            pa.concat_arrays([part.labels for part in parts]),
            np.concatenate(times) if times else None,
            np.concatenate([part.is_test for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class _Entry:
    digest: str
    parts: tuple[tuple[Span, Columns], ...]

    @property
    def nbytes(self) -> int:
        return sum(columns.nbytes for _, columns in self.parts)

    def cut(self, spans: Sequence[Span]) -> list[Columns] | None:
        """The columns of spans, if each lies within one that was read; all in one piece if gaps hold few samples."""
        found = [self._of(span) for span in spans]
        known = [columns for columns in found if columns is not None]
        if len(known) < len(found):
            return None
        together = self._of(hull(spans))
        if together is not None and len(together) <= MAX_SPARE * sum(map(len, known)):
            return [together]
        return known

    def _of(self, span: Span) -> Columns | None:
        around = (columns for own, columns in self.parts if own.start <= span.start and span.end <= own.end)
        return next((columns.within(span) for columns in around), None)


class RecentColumns:
    """Columns by dataset, the least recently used ones forgotten first; safe to use from many threads.

    Whether they are still right is for storage to say: columns are used only if the content digest of what was read
    is the same now, which changes with every sample, role, deletion and label that counts.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Of everything kept."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def find(self, dataset: str, spans: Sequence[Span], content_digest: Callable[[Span], str]) -> list[Columns] | None:
        """Columns that hold the samples of all spans in order, if they were read lately and have not changed since;
        perhaps also some samples between the spans.

        Args:
            spans: disjoint and ascending, at least one.
            content_digest: asks storage about the content of a span, as the caller is to see it.
        """
        with self._lock:
            entry = self._entries.get(dataset)
        if entry is None:
            return None
        found = entry.cut(spans)
        if found is None or content_digest(hull([own for own, _ in entry.parts])) != entry.digest:
            return None
        with self._lock:
            if self._entries.get(dataset) is entry:
                self._entries.move_to_end(dataset)
        return found

    def keep(self, dataset: str, digest: str, parts: Sequence[tuple[Span, Columns]]) -> None:
        """Keeps what was read, in place of what was kept of the dataset.

        Args:
            digest: of the content of the hull of the spans, asked for before they were read.
        """
        entry = _Entry(digest, tuple(parts))
        with self._lock:
            self._entries.pop(dataset, None)
            if entry.nbytes > self._max_bytes:
                return
            self._entries[dataset] = entry
            while sum(kept.nbytes for kept in self._entries.values()) > self._max_bytes:
                self._entries.popitem(last=False)


def hull(spans: Sequence[Span]) -> Span:
    """The smallest span that holds some spans, at least one."""
    return Span(min(span.start for span in spans), max(span.end for span in spans))

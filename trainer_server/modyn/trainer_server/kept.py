"""Samples of a training set that fits in memory: read once, served in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from modyn.core.arrow import Int64Array, slices
from modyn.trainer_server.orders import Order

KEEP_BYTES = 256 << 20
"""Most that is kept, in bytes."""


class Rows(Protocol):
    """Samples that can be kept: as they were read, or parsed."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def take(self, rows: Int64Array, /) -> Any:
        """A copy of some of them, in this order."""


R = TypeVar("R", bound=Rows)


class Kept(Generic[R]):
    """Collects what one epoch reads and then serves it in any other order.

    Args:
        join: makes one of several.
        max_bytes: most that is kept.
    """

    def __init__(self, join: Callable[[Sequence[R]], R], max_bytes: int = KEEP_BYTES) -> None:
        self._join = join
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parts: list[R] = []
        self._collected: list[Int64Array] = []
        self._rows: R | None = None
        self._places: Int64Array | None = None
        self._row_at: Int64Array | None = None

    def add(self, samples: R, places: Int64Array | None) -> bool:
        """Keeps more samples; False, with everything let go, if that is too much.

        Args:
            places: positions of the samples in the training set, int64 [n]; None throughout if nobody will ask.
        """
        self._bytes += samples.nbytes
        if self._bytes > self._max_bytes:
            self._parts.clear()
            self._collected.clear()
            return False
        self._parts.append(samples)
        if places is not None:
            self._collected.append(places)
        return True

    def finish(self, num_samples: int) -> None:
        """Ends collecting.

        Args:
            num_samples: of the training set; some may not have been collected, because they were deleted.
        """
        if not self._parts:
            return
        rows = self._join(self._parts)
        self._parts.clear()
        if self._collected:
            places = np.concatenate(self._collected)
            self._collected.clear()
            if bool((np.diff(places) < 0).any()):
                by_place = np.argsort(places)
                rows, places = rows.take(by_place), places[by_place]
            self._places = places
            if len(places) < num_samples:
                self._row_at = np.full(num_samples, -1, dtype=np.int64)
                self._row_at[places] = np.arange(len(places))
        self._rows = rows

    @property
    def places(self) -> Int64Array | None:
        """Positions of what is kept, ascending, int64 [m]; None if they were not collected."""
        return self._places

    @property
    def bytes_per_sample(self) -> int:
        """On average."""
        return self._bytes // max(1, 0 if self._rows is None else len(self._rows))

    def blocks(self, order: Order | None, size: int, begin: int = 0) -> Iterator[tuple[Int64Array | None, R]]:
        """Copies of samples in blocks, each with their positions in the training set.

        Args:
            order: positions in the training set, also only of some; None: all as they are.
            size: samples in a block; the last may have fewer.
            begin: how many to leave out at the beginning.
        """
        if self._rows is None:  # there were none
            return
        places = self._places
        wanted = np.arange(len(self._rows)) if order is None else order.at(np.arange(len(order)))
        if order is not None:
            places = wanted
            if self._row_at is not None:
                wanted = self._row_at[wanted]
                present = wanted >= 0
                places, wanted = places[present], wanted[present]
        for part in slices(len(wanted) - begin, size):
            here = slice(part.start + begin, part.stop + begin)
            yield None if places is None else places[here], self._rows.take(wanted[here])

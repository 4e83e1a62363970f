"""Rows by sample key, kept as long as they fit: what models said of samples, and columns of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array

Rows = npt.NDArray[Any]


class KeyedRows:
    """Rows of one shape and type by key; grows at the end and forgets from the front.

    >>> rows = KeyedRows()
    >>> rows.add(np.array([7, 3]), np.array([[0.7], [0.3]]))
    >>> rows.take(rows.find(np.array([3, 7]))).tolist(), rows.find(np.array([5])).tolist()
    ([[0.3], [0.7]], [-1])
    """

    def __init__(self) -> None:
        self._keys: Int64Array = np.empty(0, dtype=np.int64)  # ascending
        self._numbers: Int64Array = np.empty(0, dtype=np.int64)  # of the row of each key, counted since the beginning
        self._forgotten = 0
        self._size = 0
        self._matrix: Rows | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def nbytes(self) -> int:
        return 0 if self._matrix is None else int(self._matrix.nbytes) + 16 * len(self._keys)

    def find(self, keys: Int64Array) -> Int64Array:
        """Where the rows of some keys are, int64 [n]; -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._numbers[places] - self._forgotten, -1)

    def take(self, places: Int64Array) -> Rows:
        """A copy of the rows at some places, none of them -1; at least one row has been added before."""
        assert self._matrix is not None, "places come from find"
        rows: Rows = self._matrix[places]
        return rows

    def add(self, keys: Int64Array, rows: Rows) -> None:
        """Adds rows [n, …] of distinct keys, int64 [n]; those of keys that are there already stay as they are."""
        new = np.flatnonzero(self.find(keys) < 0)
        end = self._size + len(new)
        if self._matrix is None or end > len(self._matrix):
            grown = np.empty((max(end, 2 * self._size), *rows.shape[1:]), dtype=rows.dtype)
            if self._matrix is not None:
                grown[: self._size] = self._matrix[: self._size]
            self._matrix = grown
        self._matrix[self._size : end] = rows[new]
        order = np.argsort(keys[new], kind="stable")
        added = keys[new][order]
        before = np.searchsorted(self._keys, added)
        self._keys = np.insert(self._keys, before, added)
        self._numbers = np.insert(self._numbers, before, order + self._size + self._forgotten)
        self._size = end

    def forget_oldest(self, count: int) -> None:
        """Forgets the rows that were added first."""
        if self._matrix is None:
            return
        count = min(count, self._size)
        self._matrix = self._matrix[count : self._size].copy()
        self._forgotten += count
        self._size -= count
        kept = self._numbers >= self._forgotten
        self._keys, self._numbers = self._keys[kept], self._numbers[kept]


class RowCache:
    """Tables of rows by kind and owner.

    Args:
        max_bytes: of all tables together. Beyond it, whole tables go first, the one that was used longest ago first,
            then the oldest rows of the last one.
        owners: how many owners, such as models, have a table of each kind.
    """

    def __init__(self, max_bytes: int, owners: int) -> None:
        self._max_bytes = max_bytes
        self._owners = owners
        self._tables: OrderedDict[tuple[str, str], KeyedRows] = OrderedDict()  # used longest ago first

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in self._tables.values())

    def find(self, kind: str, owner: str, keys: Int64Array) -> Int64Array:
        """Where rows are, as of :meth:`KeyedRows.find`."""
        table = self._tables.get((kind, owner))
        if table is None:
            return np.full(len(keys), -1, dtype=np.int64)
        self._tables.move_to_end((kind, owner))
        return table.find(keys)

    def take(self, kind: str, owner: str, places: Int64Array) -> Rows:
        """A copy of rows that :meth:`find` has just found."""
        return self._tables[kind, owner].take(places)

    def add(self, kind: str, owner: str, keys: Int64Array, rows: Rows) -> None:
        """Keeps rows as long as there is room."""
        table = self._tables.setdefault((kind, owner), KeyedRows())
        self._tables.move_to_end((kind, owner))
        table.add(keys, rows)
        same_kind = [name for name in self._tables if name[0] == kind]
        for name in same_kind[: -self._owners]:
            del self._tables[name]
        while len(self._tables) > 1 and self.nbytes > self._max_bytes:
            self._tables.popitem(last=False)
        while len(table) and table.nbytes > self._max_bytes:
            table.forget_oldest((len(table) + 1) // 2)

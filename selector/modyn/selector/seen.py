"""Which keys the triggers of a pipeline brought so far, as one bit a key."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.selector.catalog import SelectorCatalog
from modyn.selector.keyfiles import KeyFiles
from modyn.selector.sampling import pieces

PIPELINES = 4
"""Of how many pipelines the bits stay in memory; for others they are made anew from the files."""


class SeenKeys:
    """A set of keys of one dataset, which are dense: 12.5 MB for 100 million of them."""

    def __init__(self) -> None:
        self._bits = np.zeros(0, dtype=np.uint8)

    def add(self, keys: KeySet) -> None:
        """Takes in some keys, at least 0."""
        for piece in pieces(keys):
            ordered = np.unique(piece.to_array())
            places = ordered >> 3
            if places[-1] >= len(self._bits):
                self._bits = np.pad(self._bits, (0, int(places[-1]) + 1 - len(self._bits)))
            firsts = np.flatnonzero(np.diff(places, prepend=-1))
            self._bits[places[firsts]] |= np.bitwise_or.reduceat(_bit(ordered), firsts)

    def first_of(self, keys: KeySet) -> int | None:
        """The first of some keys that is in the set."""
        for piece in pieces(keys):
            wanted = piece.to_array()
            wanted = wanted[(wanted >= 0) & (wanted >> 3 < len(self._bits))]
            found = np.flatnonzero(self._bits[wanted >> 3] & _bit(wanted))
            if len(found):
                return int(wanted[found[0]])
        return None


def _bit(keys: Int64Array) -> npt.NDArray[np.uint8]:
    """Of a key's byte, the bit that is its own."""
    bits: npt.NDArray[np.uint8] = np.left_shift(1, keys & 7).astype(np.uint8)
    return bits


class PastKeys:
    """Finds keys that a pipeline brought before. Each trigger's file is read once, by the first search after it."""

    def __init__(self, catalog: SelectorCatalog, files: KeyFiles) -> None:
        self._catalog = catalog
        self._files = files
        self._seen: OrderedDict[str, tuple[SeenKeys, int]] = OrderedDict()
        self._lock = threading.Lock()

    def first_of(self, keys: KeySet, pipeline_id: str, trigger_index: int) -> int | None:
        """The first of some keys that is among the new data of an earlier trigger.

        Not to be called for one pipeline from two threads at once.
        """
        with self._lock:
            seen, num_triggers = self._seen.pop(pipeline_id, (SeenKeys(), 0))
        for digest in self._catalog.new_data(pipeline_id, num_triggers, trigger_index):
            seen.add(self._files.get(digest).keys)
        with self._lock:
            self._seen[pipeline_id] = seen, trigger_index
            while len(self._seen) > PIPELINES:
                self._seen.popitem(last=False)
        return seen.first_of(keys)

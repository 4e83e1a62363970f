"""Which training sets contain some keys. Memory is bounded by the keys asked for, whatever the sets hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array, slices
from modyn.core.keysets import KeySet, mark_members
from modyn.proto.selector_pb2 import FoundTrainingSet
from modyn.selector.catalog import SelectorCatalog
from modyn.selector.keyfiles import KeyFiles
from modyn.selector.labels import labels_of

CHUNK = 1 << 20
"""Keys of a training set looked at together."""

Mask = npt.NDArray[np.bool_]


def find_training_sets(
    catalog: SelectorCatalog, files: KeyFiles, dataset: str, wanted: Int64Array
) -> Iterator[FoundTrainingSet]:
    """The stored training sets of a dataset that contain any of some keys.

    Args:
        wanted: int64 [n], in any order, repeated ones too.

    Raises:
        CorruptDataError: the file of a set is damaged, so that nobody can tell.
    """
    wanted = np.unique(wanted)
    rows = catalog.training_sets_of(dataset) if len(wanted) else []
    for key_file, sharing in itertools.groupby(rows, key=lambda row: row.key_file):
        members = contained(wanted, files.get(key_file).keys)
        count = int(np.count_nonzero(members))
        if not count:
            continue
        packed = np.packbits(members, bitorder="little").tobytes()
        for row in sharing:
            yield FoundTrainingSet(digest=row.digest, num_keys=count, members=packed, labels=labels_of(row))


def contained(wanted: Int64Array, keys: KeySet) -> Mask:
    """Which of some distinct ascending keys a set contains, bool [n]; n > 0.

    >>> contained(np.array([1, 4, 9]), KeySet.from_array([9, 7, 1])).tolist()
    [True, False, True]
    """
    if keys.ranges is not None:
        starts = np.array([r.start for r in keys.ranges], dtype=np.int64)
        ends = np.array([r.end for r in keys.ranges], dtype=np.int64)
        # Of disjoint ascending ranges, a key lies in the last one that starts before it or in none.
        place = np.searchsorted(starts, wanted, side="right") - 1
        inside: Mask = place >= 0
        inside[inside] = wanted[inside] < ends[place[inside]]
        return inside
    members = np.zeros(len(wanted), dtype=np.bool_)
    array = keys.to_array()
    for part in slices(len(array), CHUNK):
        mark_members(members, wanted, array[part])
    return members

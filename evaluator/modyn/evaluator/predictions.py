"""What one model said of some samples, put together from outcome files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.alignment import rows_of
from modyn.core.arrow import Int64Array
from modyn.evaluator.outcomes import ModelOutcomes, Scores


class Predictions:
    """What one model said of a slice of the samples, gathered from outcome files.

    It is looked up at once, but taken out of the files only when it is asked for: an evaluation of many models need not
    hold the values of all of them at a time. Outcomes mostly come in the order of the samples. Then they are copied in
    one piece, or, where they are of all the samples, not at all.

    Args:
        keys: of the slice, int64 [n].
        missing: which of them are needed, bool [n].

    Attributes:
        keys: as given.
        missing: which of them are needed and not known yet, bool [n]; changed in place.
    """

    def __init__(self, keys: Int64Array, missing: npt.NDArray[np.bool_]) -> None:
        self.keys = keys
        self.missing = missing
        self._values: Int64Array | None = None
        self._scores: Scores | None = None
        self._found: list[_Found] = []
        self._untouched = True
        self._next = 0

    @property
    def predictions(self) -> Int64Array:
        """int64 [n]; 0 where unknown. Not to be written to."""
        self._take_found()
        if self._values is None:
            self._values = np.zeros(len(self.keys), dtype=np.int64)
        return self._values

    @property
    def scores(self) -> Scores | None:
        """float32 [n, outputs], once outcomes with scores were added. Not to be written to."""
        self._take_found()
        return self._scores

    def add(self, *parts: ModelOutcomes, keep_scores: bool) -> int:
        """Fills in what is missing; how many samples that were.

        Args:
            parts: of one model, no key in two of them. Their arrays are read later.
        """
        keys = parts[0].keys if len(parts) == 1 else np.concatenate([part.keys for part in parts])
        if not len(keys) or not len(self.keys):
            return 0
        assert parts[0].scores is not None or not keep_scores  # only files with scores are looked at then
        places: slice | Int64Array
        rows: slice | Int64Array
        run = common_run(self.keys, keys, self._next)
        if run is None:
            found = rows_of(keys, self.keys)
            places = np.flatnonzero(self.missing & (found >= 0))
            rows, count = found[places], len(places)
        else:
            places, rows = run
            self._next = places.stop
            missing = self.missing[places]
            count = int(np.count_nonzero(missing))
            if count < len(missing) and not self._untouched:
                # What is known already stays; what was never asked for may be written.
                new = np.flatnonzero(missing)
                places, rows = new + places.start, new + rows.start
        if count:
            self._found.append(_Found(places, rows, parts, keep_scores))
            self.missing[places] = False
            self._untouched = False
        return count

    def only(self, kept: npt.NDArray[np.bool_]) -> Predictions:
        """Those of a mask, bool [n]."""
        part = Predictions(self.keys[kept], self.missing[kept])
        part._values = self.predictions[kept]
        part._scores = None if self.scores is None else self.scores[kept]
        part._untouched = self._untouched
        return part

    def _take_found(self) -> None:
        found, self._found = self._found, []
        for each in found:
            self._take(each)

    def _take(self, found: _Found) -> None:
        outcomes, places, rows = ModelOutcomes.join(found.parts), found.places, found.rows
        scores = outcomes.scores if found.keep_scores else None
        if self._values is None and isinstance(rows, slice) and rows.stop - rows.start == len(self.keys):
            self._values = outcomes.predictions[rows]
            self._scores = None if scores is None else scores[rows]
            return
        if self._values is None:
            self._values = np.zeros(len(self.keys), dtype=np.int64)
        elif not self._values.flags.writeable:  # of a file
            self._values = self._values.copy()
        self._values[places] = outcomes.predictions[rows]
        if scores is None:
            return
        if self._scores is None:
            self._scores = np.zeros((len(self.keys), scores.shape[1]), dtype=np.float32)
        elif not self._scores.flags.writeable:
            self._scores = self._scores.copy()
        self._scores[places] = scores[rows]


@dataclass(frozen=True, eq=False)
class _Found:
    """Outcomes not taken yet.

    Attributes:
        places: where they belong.
        rows: which of the parts, one after the other.
    """

    places: slice | Int64Array
    rows: slice | Int64Array
    parts: Sequence[ModelOutcomes]
    keep_scores: bool


def common_run(keys: Int64Array, others: Int64Array, guess: int = 0) -> tuple[slice, slice] | None:
    """Where two lists of distinct keys have a run of keys in common, if that is all that they have in common.

    >>> common_run(np.array([7, 3, 9, 4]), np.array([9, 4, 8]))
    (slice(2, 4, None), slice(0, 2, None))

    Args:
        keys, others: int64, at least one of each.
        guess: where in ``keys`` the first of the others may be.

    Returns:
        Positions in both; None if it is not so, or takes long to find out.
    """
    start = guess if guess < len(keys) and keys[guess] == others[0] else _position(keys, int(others[0]))
    other_start = 0 if start is not None else _position(others, int(keys[0]))
    if start is None:
        start = 0
    if other_start is None:
        return None
    size = min(len(keys) - start, len(others) - other_start)
    run, other_run = slice(start, start + size), slice(other_start, other_start + size)
    if not np.array_equal(keys[run], others[other_run]):
        return None
    left = (keys[:start], keys[start + size :])
    other_left = (others[:other_start], others[other_start + size :])
    if any(_may_share(one, other) for one in left for other in other_left):
        return None
    return run, other_run


def _position(keys: Int64Array, key: int) -> int | None:
    place = int(np.argmax(keys == key))
    return place if keys[place] == key else None


def _may_share(one: Int64Array, other: Int64Array) -> bool:
    if not len(one) or not len(other):
        return False
    return bool(one.min() <= other.max()) and bool(other.min() <= one.max())

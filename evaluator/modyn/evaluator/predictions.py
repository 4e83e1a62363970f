"""What one model said of some samples, put together from outcome files."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.evaluator.outcomes import ModelOutcomes, Scores


@dataclass(eq=False)
class Predictions:
    """What one model said of a slice of the samples, gathered from outcome files.

    Outcomes mostly come in the order of the samples. Then they are copied in one piece, or, where they are of all the
    samples, not at all.

    Attributes:
        keys: of the slice, int64 [n].
        missing: which of them are needed and not known yet, bool [n]; changed in place.
        predictions: int64 [n]; 0 where unknown. Not to be written to.
        scores: float32 [n, outputs], once outcomes with scores were added. Not to be written to.
    """

    keys: Int64Array
    missing: npt.NDArray[np.bool_]
    predictions: Int64Array = field(init=False)
    scores: Scores | None = field(init=False, default=None)
    _untouched: bool = field(init=False, default=True)
    _next: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.predictions = np.zeros(len(self.keys), dtype=np.int64)

    def add(self, outcomes: ModelOutcomes, *, keep_scores: bool) -> int:
        """Fills in what is missing; how many samples that were."""
        if not len(outcomes.keys) or not len(self.keys):
            return 0
        assert outcomes.scores is not None or not keep_scores  # only files with scores are looked at then
        places: slice | Int64Array
        rows: slice | Int64Array
        run = common_run(self.keys, outcomes.keys, self._next)
        if run is None:
            found = outcomes.rows_of(self.keys)
            places = np.flatnonzero(self.missing & (found >= 0))
            rows, count = found[places], len(places)
        else:
            places, rows = run
            self._next = places.stop
            count = int(np.count_nonzero(self.missing[places]))
        if count:
            self._take(places, rows, outcomes, keep_scores=keep_scores)
            self.missing[places] = False
            self._untouched = False
        return count

    def only(self, kept: npt.NDArray[np.bool_]) -> Predictions:
        """Those of a mask, bool [n]."""
        part = Predictions(self.keys[kept], self.missing[kept])
        part.predictions = self.predictions[kept]
        part.scores = None if self.scores is None else self.scores[kept]
        part._untouched = self._untouched
        return part

    def _take(
        self, places: slice | Int64Array, rows: slice | Int64Array, outcomes: ModelOutcomes, *, keep_scores: bool
    ) -> None:
        scores = outcomes.scores if keep_scores else None
        if self._untouched and isinstance(rows, slice) and rows.stop - rows.start == len(self.keys):
            self.predictions = outcomes.predictions[rows]
            self.scores = None if scores is None else scores[rows]
            return
        if not self.predictions.flags.writeable:  # of a file
            self.predictions = self.predictions.copy()
        if scores is not None:
            if self.scores is None:
                self.scores = np.zeros((len(self.keys), scores.shape[1]), dtype=np.float32)
            elif not self.scores.flags.writeable:
                self.scores = self.scores.copy()
        if isinstance(places, slice) and not self._untouched:
            # What is known already stays; what was never asked for may be written.
            missing = self.missing[places]
            if not missing.all():
                new = np.flatnonzero(missing)
                assert isinstance(rows, slice)  # both or neither
                places, rows = new + places.start, new + rows.start
        self.predictions[places] = outcomes.predictions[rows]
        if scores is not None and self.scores is not None:
            self.scores[places] = scores[rows]


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

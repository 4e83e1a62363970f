"""What an evaluation still has to know: the samples that each model has to see, and what it said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.evaluator.plan import runs_of_mask
from modyn.evaluator.predictions import Predictions
from modyn.evaluator.samples import Samples


@dataclass(eq=False)
class Need:
    """A model, its windows, and what is known of its predictions.

    Attributes:
        windows: indices into those of the request.
        hull: positions of the labelled samples that ``predictions`` is about.
    """

    model: str
    windows: tuple[int, ...]
    hull: slice
    predictions: Predictions

    @staticmethod
    def of(model: str, windows: Sequence[int], samples: Samples) -> Need:
        """Nothing is known yet of the samples that some windows are scored on."""
        parts = [part for part in map(samples.scored, windows) if _size(part)]
        hull = slice(min(map(_first, parts)), max(map(_end, parts))) if parts else slice(0, 0)
        missing = np.zeros(hull.stop - hull.start, dtype=np.bool_)
        for part in parts:
            missing[_shifted(part, hull.start)] = True
        return Need(model, tuple(windows), hull, Predictions(samples.keys[hull], missing))

    @property
    def is_open(self) -> bool:
        """Whether some prediction is missing."""
        return bool(self.predictions.missing.any())

    @property
    def missing_keys(self) -> Int64Array:
        return self.predictions.keys[self.predictions.missing]

    def runs(self, without: Int64Array) -> Int64Array:
        """Positions of labelled samples still to be predicted, but for those of some keys, as runs [k, 2]."""
        missing = self.predictions.missing
        if len(without):
            missing = missing & ~np.isin(self.predictions.keys, without)
        runs: Int64Array = runs_of_mask(missing) + self.hull.start
        return runs

    def missing_of(self, part: slice | Int64Array) -> Int64Array:
        """Keys without prediction among labelled samples at some positions within the hull."""
        own = _shifted(part, self.hull.start) if _size(part) else slice(0, 0)
        return self.predictions.keys[own][self.predictions.missing[own]]

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Forgets all but those of the labelled samples that are kept, bool [samples]."""
        start = int(np.count_nonzero(kept[: self.hull.start]))
        within = kept[self.hull]
        self.hull = slice(start, start + int(np.count_nonzero(within)))
        self.predictions = self.predictions.only(within)


def _size(part: slice | Int64Array) -> int:
    return max(part.stop - part.start, 0) if isinstance(part, slice) else len(part)


def _first(part: slice | Int64Array) -> int:
    return int(part.start) if isinstance(part, slice) else int(part[0])


def _end(part: slice | Int64Array) -> int:
    return int(part.stop) if isinstance(part, slice) else int(part[-1]) + 1


def _shifted(part: slice | Int64Array, by: int) -> slice | Int64Array:
    return slice(part.start - by, part.stop - by) if isinstance(part, slice) else part - by

"""What a model or a baseline said of the samples of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import Outcomes
from modyn.evaluator.outcomes import Scores
from modyn.evaluator.truth import Truth
from modyn.evaluator.window_values import WindowedOutcomes, taken


@dataclass(frozen=True, eq=False)
class Subset:
    """Outcomes that are scored on their own.

    Attributes:
        name: ``column=value``; empty for all outcomes.
        places: of the windows that have some of them, among those asked for; int64 [filled], ascending.
        windowed: those windows.
    """

    name: str
    places: Int64Array
    windowed: WindowedOutcomes


@dataclass(frozen=True, eq=False)
class Subject:
    """What was said, laid beside the truth.

    Attributes:
        outcomes: of the samples from the first to the last window, n of them.
        starts, stops: of each window asked for, positions among the outcomes, int64 [windows].
        positions: of the samples of each subset, int64, ascending, by its name.
    """

    outcomes: Outcomes
    starts: Int64Array
    stops: Int64Array
    positions: tuple[tuple[str, Int64Array], ...]

    @staticmethod
    def of(
        truth: Truth,
        windows: Sequence[int],
        predictions: Int64Array,
        scores: Scores | None,
        *,
        first: int,
        defined: npt.NDArray[np.bool_] | None = None,
    ) -> Subject:
        """From what was said of the samples of the request.

        Args:
            windows: indices into those of the truth.
            predictions: of the samples from ``first`` on, int64.
            scores: of the same samples.
            defined: which of them something was said of; None: all. Others are left out.
        """
        hull = truth.windows.hull(windows)
        rows: slice | Int64Array = slice(hull.start - first, hull.stop - first)
        if truth.rows is not None:
            # Windows that were not asked for may lie between these; what is taken for them, nobody looks at.
            rows = np.clip(truth.rows[hull] - first, 0, max(len(predictions) - 1, 0))
        outcomes = Outcomes(
            np.zeros(hull.stop - hull.start, dtype=np.int64) if truth.labels is None else truth.labels[hull],
            predictions[rows],
            None if scores is None else scores[rows],
            None if truth.targets is None else truth.targets[hull],
        )
        parts = [truth.windows.labelled[index] for index in windows]
        starts = np.array([part.start - hull.start if part.stop > part.start else 0 for part in parts], dtype=np.int64)
        stops = starts + [max(part.stop - part.start, 0) for part in parts]
        positions = [
            (subset.name, subset.positions[slice(*np.searchsorted(subset.positions, [hull.start, hull.stop]))])
            for subset in truth.subsets
        ]
        positions = [(name, own - hull.start) for name, own in positions]
        if defined is not None:
            kept = defined[rows]
            moved = np.concatenate(([0], np.cumsum(kept)))
            outcomes, starts, stops = taken(outcomes, np.flatnonzero(kept)), moved[starts], moved[stops]
            positions = [(name, moved[own[kept[own]]]) for name, own in positions]
        return Subject(outcomes, starts, stops, tuple(positions))

    @property
    def whole(self) -> Subset:
        """All outcomes."""
        return self._subset("", self.outcomes, self.starts, self.stops)

    def subsets(self) -> Iterator[Subset]:
        """All outcomes, and then each subset of them."""
        yield self.whole
        for name, own in self.positions:
            starts, stops = np.searchsorted(own, self.starts), np.searchsorted(own, self.stops)
            yield self._subset(name, taken(self.outcomes, own), starts, stops)

    @staticmethod
    def _subset(name: str, outcomes: Outcomes, starts: Int64Array, stops: Int64Array) -> Subset:
        filled = np.flatnonzero(stops > starts)
        return Subset(name, filled, WindowedOutcomes(outcomes, starts[filled], stops[filled]).covered())

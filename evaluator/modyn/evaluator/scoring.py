"""Scoring: metrics over outcomes. A step of its own that never sees a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import Metric, Outcomes
from modyn.evaluator.baselines import BASELINES
from modyn.evaluator.outcomes import ModelOutcomes, Scores
from modyn.evaluator.request import Span
from modyn.evaluator.samples import Samples
from modyn.proto.evaluator_pb2 import MetricValue, WindowScores


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


@dataclass(eq=False)
class Predictions:
    """What one model said of a slice of the samples, gathered from outcome files.

    Attributes:
        keys: of the slice, int64 [n].
        missing: which of them are needed and not known yet, bool [n].
        predictions: int64 [n]; 0 where unknown.
        scores: float32 [n, outputs], once outcomes with scores were added.
    """

    keys: Int64Array
    missing: npt.NDArray[np.bool_]
    predictions: Int64Array = field(init=False)
    scores: Scores | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.predictions = np.zeros(len(self.keys), dtype=np.int64)

    def add(self, outcomes: ModelOutcomes, *, keep_scores: bool) -> int:
        """Fills in what is missing; how many samples that were."""
        rows = outcomes.rows_of(self.keys)
        new = self.missing & (rows >= 0)
        rows = rows[new]
        if len(rows):
            self.missing = self.missing & ~new
            self.predictions[new] = outcomes.predictions[rows]
            if keep_scores:
                assert outcomes.scores is not None  # only files with scores are looked at then
                if self.scores is None:
                    self.scores = np.zeros((len(self.keys), outcomes.scores.shape[1]), dtype=np.float32)
                self.scores[new] = outcomes.scores[rows]
        return len(rows)

    def only(self, kept: npt.NDArray[np.bool_]) -> Predictions:
        """Those of a mask, bool [n]."""
        part = Predictions(self.keys[kept], self.missing[kept])
        part.predictions = self.predictions[kept]
        part.scores = None if self.scores is None else self.scores[kept]
        return part


def score_model(
    model: str,
    windows: Sequence[int],
    *,
    slices: WindowSlices,
    labels: Int64Array,
    hull: slice,
    predictions: Predictions,
    metrics: Sequence[Metric],
) -> Iterator[WindowScores]:
    """The scores of one model on its windows.

    Args:
        labels: of all labelled samples, int64 [n].
        hull: the part of them that ``predictions`` is about.

    Raises:
        InvalidInputError: a metric cannot take these labels or outputs.
    """
    for index in windows:
        part = slices.labelled[index]
        own = slice(part.start - hull.start, part.stop - hull.start)
        size = part.stop - part.start
        values: list[MetricValue] = []
        if size:
            scores = None if predictions.scores is None else predictions.scores[own]
            values = _values(metrics, Outcomes(labels[part], predictions.predictions[own], scores))
        yield WindowScores(
            model=model, window=index, num_samples=size, num_unlabelled=slices.unlabelled[index], metrics=values
        )


def score_baselines(
    samples: Samples, labels: Int64Array, slices: WindowSlices, metrics: Sequence[Metric]
) -> Iterator[WindowScores]:
    """The scores of every no-model baseline on every window; undefined for metrics of scores.

    Args:
        samples: those of the windows and all earlier ones.
        labels: of its labelled samples, int64 [n].
    """
    for name, baseline in BASELINES.items():
        said = baseline(samples.timestamps, labels)
        for index, part in enumerate(slices.labelled):
            defined = said.defined[part]
            outcomes = Outcomes(labels[part][defined], said.predictions[part][defined])
            yield WindowScores(
                baseline=name,
                window=index,
                num_samples=part.stop - part.start,
                num_unlabelled=slices.unlabelled[index],
                num_undefined=part.stop - part.start - len(outcomes),
                metrics=_values(metrics, outcomes) if len(outcomes) else [],
            )


def _values(metrics: Sequence[Metric], outcomes: Outcomes) -> list[MetricValue]:
    return [
        MetricValue(
            name=metric.result_name,
            value=None if metric.needs_scores and outcomes.scores is None else metric.score(outcomes),
        )
        for metric in metrics
    ]

"""Scoring: metrics over outcomes. A step of its own that never sees a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import InternalError
from modyn.core.plugins.evaluation import Metric
from modyn.core.scores import ScoreName
from modyn.evaluator.baselines import BASELINES, Labelled
from modyn.evaluator.predictions import Predictions
from modyn.evaluator.subjects import Subject
from modyn.evaluator.truth import Truth
from modyn.evaluator.window_values import Confidence, MetricResults, confusions, score_windows
from modyn.proto.evaluator_pb2 import Confusion, EvaluateFailure, MetricValue, WindowScores

Elsewhere = Callable[[Subject, Sequence[Metric]], Mapping[tuple[str, str], MetricResults]]
"""Scores metrics with code of the user: their results by result name and name of the subset."""


@dataclass(frozen=True)
class ScoringOptions:
    """What is reported beside the scores.

    Attributes:
        confidence: level of confidence intervals, such as 0.95; None: there are none.
        confusion: how often labels met predictions of models.
        seed: of what the intervals draw.
    """

    confidence: float | None = None
    confusion: bool = False
    seed: int = 0


def score_model(
    model: str,
    windows: Sequence[int],
    *,
    truth: Truth,
    hull: slice,
    predictions: Predictions,
    metrics: Sequence[Metric],
    options: ScoringOptions,
    elsewhere: Elsewhere | None = None,
) -> Iterator[WindowScores | EvaluateFailure]:
    """The scores of one model on its windows, in order; then what failed. A metric that fails on a window has no value
    there, and everything else is scored.

    Args:
        windows: indices into the windows of ``truth``.
        hull: the samples of the request that ``predictions`` is about.
        elsewhere: scores the metrics with code of the user, which does not run here.
    """
    subject = Subject.of(truth, windows, predictions.predictions, predictions.scores, first=hull.start)
    scored = _Scored(subject, metrics, options, elsewhere)
    counted = _confusions(subject) if options.confusion and truth.labels is not None else {}
    for place, index in enumerate(windows):
        yield WindowScores(
            model=model,
            window=index,
            num_samples=int(subject.stops[place] - subject.starts[place]),
            num_unlabelled=truth.windows.unlabelled[index],
            metrics=scored.values[place],
            confusion=counted.get(place),
        )
    yield from scored.failures(windows, model, "")


def score_baselines(
    data: Labelled,
    windows: Sequence[int],
    *,
    truth: Truth,
    metrics: Sequence[Metric],
    options: ScoringOptions,
    elsewhere: Elsewhere | None = None,
) -> Iterator[WindowScores | EvaluateFailure]:
    """The scores of every no-model baseline on windows; undefined for metrics of scores. Nothing where labels are no
    classes.

    Args:
        data: all labelled samples of the request: those of the windows and all earlier ones.
        windows: indices into the windows of ``truth``.
        elsewhere: as for :func:`score_model`.
    """
    if truth.labels is None:
        return
    for name, baseline in BASELINES.items():
        said = baseline(data)
        subject = Subject.of(truth, windows, said.predictions, None, first=0, defined=said.defined)
        scored = _Scored(subject, metrics, options, elsewhere)
        for place, index in enumerate(windows):
            part = truth.windows.labelled[index]
            size = max(part.stop - part.start, 0)
            yield WindowScores(
                baseline=name,
                window=index,
                num_samples=size,
                num_unlabelled=truth.windows.unlabelled[index],
                num_undefined=size - int(subject.stops[place] - subject.starts[place]),
                metrics=scored.values[place],
            )
        yield from scored.failures(windows, "", f"baseline {name}: ")


class _Scored:
    """The values of one subject.

    Attributes:
        values: of each window asked for.
    """

    def __init__(
        self, subject: Subject, metrics: Sequence[Metric], options: ScoringOptions, elsewhere: Elsewhere | None
    ) -> None:
        self.values: list[list[MetricValue]] = [[] for _ in subject.starts]
        self._filled = 0
        self._failed: dict[str, dict[int, str]] = {}
        no_scores = subject.outcomes.scores is None  # of a baseline
        others = [m for m in metrics if m.user_code is not None and not (m.needs_scores and no_scores)]
        if others and elsewhere is None:
            raise InternalError(f"metric {others[0].result_name} is code of the user, which does not run here")
        found = elsewhere(subject, others) if others and elsewhere is not None else {}
        confidence = None if options.confidence is None else Confidence(options.confidence, options.seed)
        for subset in subject.subsets():
            if not subset.name:
                self._filled = len(subset.places)
            for metric in metrics:
                if (metric.result_name, subset.name) in found:
                    results = found[metric.result_name, subset.name]
                elif metric.needs_scores and no_scores:
                    results = MetricResults.nothing(len(subset.places))
                else:
                    results = score_windows(metric, subset.windowed, confidence)
                self._add(metric.result_name, subset.name, subset.places, results)

    def _add(self, metric: str, subset: str, places: Int64Array, results: MetricResults) -> None:
        failed = self._failed.setdefault(metric, {})
        for own, place in enumerate(places.tolist()):
            if own in results.failures:
                where = f" (where {subset})" if subset else ""
                failed.setdefault(place, results.failures[own] + where)
                continue
            self.values[place].append(
                MetricValue(
                    name=str(ScoreName(metric, subset)),
                    value=_optional(results.values[own]),
                    low=_optional(results.low[own]),
                    high=_optional(results.high[own]),
                )
            )
            self.values[place].extend(
                MetricValue(name=str(ScoreName(metric, subset, label)), value=value)
                for label, value in results.classes[own].items()
            )

    def failures(self, windows: Sequence[int], model: str, prefix: str) -> Iterator[EvaluateFailure]:
        """What failed; once for all windows if all of them failed for the same reason."""
        for metric, failed in self._failed.items():
            if len(failed) == self._filled and len(set(failed.values())) == 1:
                yield EvaluateFailure(model=model, metric=metric, message=prefix + next(iter(failed.values())))
                continue
            for place, message in sorted(failed.items()):
                yield EvaluateFailure(model=model, metric=metric, window=windows[place], message=prefix + message)


def _confusions(subject: Subject) -> dict[int, Confusion]:
    """By the place of the window."""
    whole = subject.whole
    counted = confusions(whole.windowed)
    if counted is None:
        return {}
    return {
        place: Confusion(labels=labels, predictions=predictions, counts=counts)
        for place, (labels, predictions, counts) in zip(whole.places.tolist(), counted, strict=True)
    }


def _optional(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

"""A pipeline's scores from its journal: window by window, and composed over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from modyn.core.config.evaluation import TrainingCost
from modyn.core.config.pipeline import PipelineConfig, evaluation_datasets
from modyn.core.plugins.evaluation import Float64Array, Window
from modyn.core.report import CompositeScore, DifferencePart, IntervalPart, ModelScore, WindowPart, WindowScore
from modyn.core.scores import ScoreName
from modyn.evaluator.composite import CompositeSummary, active_and_trained, live_from, summarise
from modyn.evaluator.uncertainty import interval_part, mean_interval, paired_interval
from modyn.supervisor.handlers import Known
from modyn.supervisor.journal import BASELINE_PREFIX, Journal, TriggerRow, WindowRow
from modyn.supervisor.rows import MetricRow, baseline_subject, trigger_of, trigger_subject


class Score(NamedTuple):
    """A value, and its interval where there is one."""

    value: float | None
    low: float | None
    high: float | None


_UNKNOWN = Score(None, None, None)


@dataclass
class Cell:
    """What is known of one window of one handler on one dataset.

    Attributes:
        active, trained: trigger whose model is in charge at the anchor; None if there is none, and where windows belong
            to models.
        asked_for: the handler's ``models``: a score that it did not ask for is not given, even where it happens to be
            known.
        level: of the intervals.
        scores: by subject and metric.
    """

    row: WindowRow
    active: int | None
    trained: int | None
    asked_for: str
    level: float | None
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)

    def of_active(self, metric: str) -> Score:
        return _UNKNOWN if self.asked_for == "training" else self.of_trigger(self.active, metric)

    def of_trained(self, metric: str) -> Score:
        return _UNKNOWN if self.asked_for == "active" else self.of_trigger(self.trained, metric)

    def of_trigger(self, index: int | None, metric: str) -> Score:
        return _UNKNOWN if index is None else self.of_subject(trigger_subject(index), metric)

    def of_baseline(self, name: str, metric: str) -> float | None:
        return self.of_subject(baseline_subject(name), metric).value

    def of_subject(self, subject: str, metric: str) -> Score:
        return self.scores.get(subject, {}).get(metric, _UNKNOWN)

    def interval(self, score: Score) -> IntervalPart | None:
        """As it stands in the report."""
        if self.level is None or score.low is None or score.high is None:
            return None
        return IntervalPart(low=score.low, high=score.high, level=self.level)

    def metrics(self) -> list[str]:
        return sorted({metric for scores in self.scores.values() for metric in scores})

    def baselines(self) -> list[str]:
        return sorted(s.removeprefix(BASELINE_PREFIX) for s in self.scores if s.startswith(BASELINE_PREFIX))


CellGroups: TypeAlias = dict[tuple[str, str], list[Cell]]
"""Cells by (handler, dataset), in time order."""

Better: TypeAlias = Mapping[tuple[str, str, str], bool]
"""Whether more is better, by handler, dataset and metric."""


def trained_triggers(triggers: Sequence[TriggerRow]) -> list[TriggerRow]:
    """Those that have a model."""
    return [trigger for trigger in triggers if trigger.model is not None]


def moments_live(latency: str | TrainingCost, trained: Sequence[TriggerRow]) -> list[float] | None:
    """When each model could have been live on the clock of the data, Unix seconds; None: at once.

    Args:
        latency: ``evaluation.training_latency``.
        trained: triggers that have a model, in order.
    """
    if latency == "zero":
        return None
    fired = np.array([trigger.timestamp for trigger in trained], dtype=np.int64)
    if isinstance(latency, TrainingCost):
        seconds = [
            latency.seconds_per_training + latency.seconds_per_sample * trigger.samples_trained for trigger in trained
        ]
    else:
        seconds = [trigger.latency_seconds for trigger in trained]
    return [float(moment) for moment in live_from(fired, np.array(seconds, dtype=np.float64))]


def cells_of(
    journal: Journal, pipeline_id: int, known: Mapping[str, Known], trained: Sequence[TriggerRow]
) -> CellGroups:
    """All windows of a pipeline with their scores.

    Args:
        journal: has them.
        pipeline_id: of the pipeline.
        known: its handlers by name.
        trained: its triggers that have a model, in order.
    """
    scores = journal.scores(pipeline_id)  # first: a pipeline that still runs adds a score with its window
    windows = journal.windows(pipeline_id)
    by_handler: dict[str, list[WindowRow]] = defaultdict(list)
    for row in windows:
        by_handler[row.handler].append(row)
    cells: dict[tuple[str, str, Window], Cell] = {}
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for name, rows in by_handler.items():
        if name not in known:  # added after we had looked
            continue
        handler, section = known[name].handler, known[name].section
        for row, active, current in zip(rows, *_in_charge(rows, known[name], trained), strict=True):
            cell = Cell(row, active, current, handler.models, section.confidence)
            cells[name, row.dataset, row.window] = cell
            groups[name, row.dataset].append(cell)
    models = {trigger_subject(trigger.trigger_index) for trigger in trained}
    for score in scores:
        found = cells.get((score.handler, score.dataset, score.window))
        # A model that is scored right after its training is journaled, with its trigger, only when that is done.
        if found is not None and (score.subject in models or score.subject.startswith(BASELINE_PREFIX)):
            metrics = found.scores.setdefault(score.subject, {})
            metrics[score.metric] = Score(score.value, score.low, score.high)
    return dict(groups)


def _in_charge(
    rows: Sequence[WindowRow], known: Known, trained: Sequence[TriggerRow]
) -> tuple[list[int | None], list[int | None]]:
    """The triggers whose models are active and trained at each window."""
    if known.handler.strategy.belongs_to_models:
        return [None] * len(rows), [None] * len(rows)
    anchors = np.array([row.window.anchor for row in rows], dtype=np.int64)
    ends = np.array([trigger.last_timestamp for trigger in trained], dtype=np.int64)
    live = moments_live(known.section.training_latency, trained)
    active, current = active_and_trained(anchors, ends, None if live is None else np.array(live))
    return (
        [None if a is None else trained[a].trigger_index for a in active],
        [None if t is None else trained[t].trigger_index for t in current],
    )


def directions(rows: Sequence[MetricRow]) -> dict[tuple[str, str, str], bool]:
    """Whether more is better, by handler, dataset and metric."""
    return {(row.handler, row.dataset, row.metric): row.greater_is_better for row in rows}


def is_greater_better(better: Better, handler: str, dataset: str, metric: str) -> bool:
    """Also of one class or slice of a metric; yes if nobody noted it, as of all metrics that there were then."""
    return better.get((handler, dataset, ScoreName.parse(metric).metric), True)


def bounds_of(config: PipelineConfig, dataset: str, metric: str) -> tuple[float, float] | None:
    """Smallest and largest value of a metric, also of one class or slice of it; None: any."""
    name = ScoreName.parse(metric).metric
    metrics = (known for part in evaluation_datasets(config) if part.dataset_id == dataset for known in part.metrics)
    return next((known.bounds for known in metrics if known.result_name == name), None)


def composite_scores(
    groups: CellGroups, known: Mapping[str, Known], better: Better
) -> dict[str, dict[str, dict[str, CompositeScore]]]:
    """By handler, dataset and metric; handlers whose windows belong to models have none."""
    scores: dict[str, dict[str, dict[str, CompositeScore]]] = {}
    for (handler, dataset), cells in groups.items():
        if known[handler].handler.strategy.belongs_to_models:
            continue
        scores.setdefault(handler, {})[dataset] = {
            metric: _composite(
                cells,
                metric,
                greater_is_better=is_greater_better(better, handler, dataset, metric),
                bounds=bounds_of(known[handler].config, dataset, metric),
            )
            for metric in metrics_of(cells)
        }
    return scores


def metrics_of(cells: Sequence[Cell]) -> list[str]:
    """All that were scored on any window."""
    return sorted({metric for cell in cells for scores in cell.scores.values() for metric in scores})


def _composite(
    cells: Sequence[Cell], metric: str, *, greater_is_better: bool, bounds: tuple[float, float] | None
) -> CompositeScore:
    level = cells[0].level
    of_active = [cell.of_active(metric).value for cell in cells]
    of_trained = [cell.of_trained(metric).value for cell in cells]
    active = _summary(cells, of_active, [cell.active is not None for cell in cells])
    trained = _summary(cells, of_trained, [cell.trained is not None for cell in cells])
    names = sorted({name for cell in cells for name in cell.baselines()})
    of_baselines = {name: [cell.of_baseline(name, metric) for cell in cells] for name in names}
    # Scores of single classes and slices are many: only what is read of them is estimated.
    whole = ScoreName.parse(metric).is_whole
    return CompositeScore(
        currently_active=active.mean,
        currently_trained=trained.mean,
        currently_active_time_weighted=active.time_weighted,
        currently_trained_time_weighted=trained.time_weighted,
        windows_scored=active.scored,
        windows_empty=active.empty,
        windows_without_model=active.without_model,
        windows_undefined=active.undefined,
        baselines={name: _summary(cells, values, active.counted).mean for name, values in of_baselines.items()},
        greater_is_better=greater_is_better,
        bounds=bounds,
        interval=interval_of_mean(_counted(of_active, active), level, bounds),
        trained_interval=interval_of_mean(_counted(of_trained, trained), level, bounds) if whole else None,
        over_baselines=_over_baselines(of_active, of_baselines, active, level) if whole else {},
    )


def _summary(cells: Sequence[Cell], values: Sequence[float | None], has_model: Sequence[bool]) -> CompositeSummary:
    windows, samples = [cell.row.window for cell in cells], [cell.row.samples for cell in cells]
    return summarise(windows, values, samples=samples, has_model=has_model)


def _counted(values: Sequence[float | None], summary: CompositeSummary) -> Float64Array:
    return np.array([value for value, counts in zip(values, summary.counted, strict=True) if counts], dtype=np.float64)


def _over_baselines(
    ours: Sequence[float | None],
    baselines: Mapping[str, Sequence[float | None]],
    active: CompositeSummary,
    level: float | None,
) -> dict[str, DifferencePart]:
    parts: dict[str, DifferencePart] = {}
    for name, theirs in baselines.items():
        both = [
            (a, b)
            for a, b, counts in zip(ours, theirs, active.counted, strict=True)
            if counts and a is not None and b is not None
        ]
        if both:
            a, b = np.array(both, dtype=np.float64).T
            found = None if level is None else paired_interval(a, b, level=level)
            parts[name] = DifferencePart(mean=float((a - b).mean()), interval=interval_part(found), windows=len(both))
    return parts


def interval_of_mean(
    values: Float64Array, level: float | None, bounds: tuple[float, float] | None = None
) -> IntervalPart | None:
    """Of the mean of scores in time order; None if there are too few, or nobody asked for it."""
    return None if level is None else interval_part(mean_interval(values, level=level, bounds=bounds))


def window_part(cell: Cell) -> WindowPart:
    """The window as it stands in the report."""
    row = cell.row
    baselines = cell.baselines()
    scores: dict[str, WindowScore] = {}
    for metric in cell.metrics():
        active = cell.of_active(metric)
        scores[metric] = WindowScore(
            currently_active=active.value,
            currently_trained=cell.of_trained(metric).value,
            baselines={name: cell.of_baseline(name, metric) for name in baselines},
            interval=cell.interval(active),
        )
    return WindowPart(
        handler=row.handler,
        dataset=row.dataset,
        start=row.window.start,
        end=row.window.end,
        anchor=row.window.anchor,
        samples=row.samples,
        unlabelled=row.unlabelled,
        active_trigger=cell.active,
        trained_trigger=cell.trained,
        scores=scores,
        certification=row.certification,
        data_digest=row.data_digest,
    )


def model_scores(cell: Cell) -> list[ModelScore]:
    """The window's row of the model x window matrix, as far as it was asked for; by trigger."""
    found: list[ModelScore] = []
    by_trigger = ((trigger_of(subject), scores) for subject, scores in cell.scores.items())
    models = [(index, scores) for index, scores in by_trigger if index is not None]
    for index, scores in sorted(models, key=lambda model: model[0]):
        intervals = {metric: cell.interval(score) for metric, score in sorted(scores.items())}
        found.append(
            ModelScore(
                handler=cell.row.handler,
                dataset=cell.row.dataset,
                trigger=index,
                start=cell.row.window.start,
                end=cell.row.window.end,
                samples=cell.row.samples,
                metrics={metric: score.value for metric, score in sorted(scores.items())},
                intervals={metric: interval for metric, interval in intervals.items() if interval is not None},
            )
        )
    return found

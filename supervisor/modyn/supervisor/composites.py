"""A pipeline's scores from its journal: window by window, and composed over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.plugins.evaluation import Window
from modyn.core.report import CompositeScore, ModelScore, WindowPart, WindowScore
from modyn.evaluator.composite import active_and_trained, summarise
from modyn.supervisor.journal import (
    BASELINE_PREFIX,
    Journal,
    TriggerRow,
    WindowRow,
    baseline_subject,
    trigger_subject,
)


@dataclass
class Cell:
    """What is known of one window of one handler on one dataset."""

    row: WindowRow
    active: int | None
    trained: int | None
    asked_for: str
    """The handler's ``models``: a score that it did not ask for is not given, even where it happens to be known."""
    values: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """By (subject, metric)."""

    def of_active(self, metric: str) -> float | None:
        return None if self.asked_for == "training" else self._of_trigger(self.active, metric)

    def of_trained(self, metric: str) -> float | None:
        return None if self.asked_for == "active" else self._of_trigger(self.trained, metric)

    def _of_trigger(self, index: int | None, metric: str) -> float | None:
        return None if index is None else self.values.get((trigger_subject(index), metric))


CellGroups: TypeAlias = dict[tuple[str, str], list[Cell]]
"""Cells by (handler, dataset), in time order."""


def trained_triggers(triggers: Sequence[TriggerRow]) -> list[TriggerRow]:
    """Those that have a model."""
    return [trigger for trigger in triggers if trigger.model is not None]


def cells_of(journal: Journal, pipeline_id: int, config: PipelineConfig, trained: Sequence[TriggerRow]) -> CellGroups:
    """All windows of a pipeline with their scores.

    Args:
        journal: has them.
        pipeline_id: of the pipeline.
        config: of it; says which models each handler asked for.
        trained: its triggers that have a model, in order.
    """
    models = {handler.name: handler.models for handler in config.evaluation.handlers} if config.evaluation else {}
    scores = journal.scores(pipeline_id)  # first: a pipeline that still runs adds a score with its window
    windows = journal.windows(pipeline_id)
    anchors = np.array([window.window.anchor for window in windows], dtype=np.int64)
    ends = np.array([trigger.last_timestamp for trigger in trained], dtype=np.int64)
    active, current = active_and_trained(anchors, ends)
    cells: dict[tuple[str, str, Window], Cell] = {}
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for window, a, t in zip(windows, active, current, strict=True):
        cell = Cell(
            window,
            active=None if a is None else trained[a].trigger_index,
            trained=None if t is None else trained[t].trigger_index,
            asked_for=models[window.handler],
        )
        cells[window.handler, window.dataset, window.window] = cell
        groups[window.handler, window.dataset].append(cell)
    for score in scores:
        cells[score.handler, score.dataset, score.window].values[score.subject, score.metric] = score.value
    return dict(groups)


def composite_scores(groups: CellGroups) -> dict[str, dict[str, dict[str, CompositeScore]]]:
    """By handler, dataset and metric."""
    scores: dict[str, dict[str, dict[str, CompositeScore]]] = {}
    for (handler, dataset), cells in groups.items():
        scores.setdefault(handler, {})[dataset] = {metric: _composite(cells, metric) for metric in _metrics(cells)}
    return scores


def _metrics(cells: Sequence[Cell]) -> list[str]:
    return sorted({metric for cell in cells for _, metric in cell.values})


def _baselines(cells: Sequence[Cell]) -> list[str]:
    subjects = {subject for cell in cells for subject, _ in cell.values}
    return sorted(s.removeprefix(BASELINE_PREFIX) for s in subjects if s.startswith(BASELINE_PREFIX))


def _composite(cells: Sequence[Cell], metric: str) -> CompositeScore:
    windows = [cell.row.window for cell in cells]
    samples = [cell.row.samples for cell in cells]

    def summary_of(values: list[float | None], has_model: Sequence[bool]) -> tuple[float | None, float | None]:
        result = summarise(windows, values, samples=samples, has_model=has_model)
        return result.mean, result.time_weighted

    active = summarise(
        windows,
        [cell.of_active(metric) for cell in cells],
        samples=samples,
        has_model=[cell.active is not None for cell in cells],
    )
    trained, trained_weighted = summary_of(
        [cell.of_trained(metric) for cell in cells], [cell.trained is not None for cell in cells]
    )
    baselines = {
        name: summary_of([cell.values.get((baseline_subject(name), metric)) for cell in cells], active.counted)[0]
        for name in _baselines(cells)
    }
    return CompositeScore(
        currently_active=active.mean,
        currently_trained=trained,
        currently_active_time_weighted=active.time_weighted,
        currently_trained_time_weighted=trained_weighted,
        windows_scored=active.scored,
        windows_empty=active.empty,
        windows_without_model=active.without_model,
        windows_undefined=active.undefined,
        baselines=baselines,
    )


def window_part(cell: Cell) -> WindowPart:
    """The window as it stands in the report."""
    row = cell.row
    baselines = _baselines([cell])
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
        scores={
            metric: WindowScore(
                currently_active=cell.of_active(metric),
                currently_trained=cell.of_trained(metric),
                baselines={name: cell.values.get((baseline_subject(name), metric)) for name in baselines},
            )
            for metric in _metrics([cell])
        },
    )


def model_scores(cell: Cell, trained: Sequence[TriggerRow]) -> list[ModelScore]:
    """The window's row of the model x window matrix, as far as it was asked for."""
    metrics = _metrics([cell])
    scores: list[ModelScore] = []
    for trigger in trained:
        subject = trigger_subject(trigger.trigger_index)
        values = {metric: cell.values[subject, metric] for metric in metrics if (subject, metric) in cell.values}
        if values:
            scores.append(
                ModelScore(
                    handler=cell.row.handler,
                    dataset=cell.row.dataset,
                    trigger=trigger.trigger_index,
                    start=cell.row.window.start,
                    end=cell.row.window.end,
                    samples=cell.row.samples,
                    metrics=values,
                )
            )
    return scores

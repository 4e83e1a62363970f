"""Builds the report of a pipeline from the journal alone, so that it is there after any restart."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

import numpy as np

from modyn.core.config.reader import load_pipeline_text
from modyn.core.plugins.evaluation import Window
from modyn.core.report import (
    CompositeScore,
    CostPart,
    FindingPart,
    FixedCostPart,
    ModelScore,
    PipelinePart,
    Report,
    RunPart,
    TriggerEvaluationPart,
    TriggerPart,
    TriggerSeconds,
    WindowPart,
    WindowScore,
)
from modyn.core.versions import package_version
from modyn.evaluator.composite import active_and_trained, summarise
from modyn.supervisor.journal import (
    BASELINE_PREFIX,
    EvaluationRow,
    Journal,
    PipelineRow,
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


def build_report(journal: Journal, row: PipelineRow) -> Report:
    """The report of a pipeline; of what is done so far while it runs."""
    triggers = journal.triggers(row.id)
    trained = [trigger for trigger in triggers if trigger.model is not None]
    config = load_pipeline_text(row.resolved_yaml, row.name).require_runnable()
    handlers = config.evaluation.handlers if config.evaluation else []
    groups = _groups(journal, row.id, trained, {handler.name: handler.models for handler in handlers})
    composite: dict[str, dict[str, dict[str, CompositeScore]]] = {}
    for (handler, dataset), cells in groups.items():
        scores = {metric: _composite(cells, metric) for metric in _metrics(cells)}
        composite.setdefault(handler, {})[dataset] = scores
    return Report(
        modyn_version=package_version(),
        pipeline=PipelinePart(
            id=str(row.id),
            name=row.name,
            description=config.pipeline.description,
            version=config.pipeline.version,
            dataset=row.dataset,
            status=row.status,
            error=row.error,
            notices=row.notices,
            created_at=row.created_at,
            ended_at=row.ended_at,
        ),
        run=_run_part(row, config.training.seed),
        triggers=[_trigger_part(trigger) for trigger in triggers],
        trigger_evaluations=[_evaluation_part(evaluation) for evaluation in journal.evaluations(row.id)],
        composite=composite,
        windows=[part for cells in groups.values() for part in map(_window_part, cells)],
        evaluations=[part for cells in groups.values() for cell in cells for part in _model_scores(cell, trained)],
        failures=journal.failures(row.id),
        cost=_cost(row, triggers, trained),
        fixed_cost=_fixed_cost(row, trained),
    )


def _groups(
    journal: Journal, pipeline_id: int, trained: Sequence[TriggerRow], models: Mapping[str, str]
) -> dict[tuple[str, str], list[Cell]]:
    """Cells by (handler, dataset), in time order; ``models`` says which models each handler asked for."""
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


def _window_part(cell: Cell) -> WindowPart:
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


def _model_scores(cell: Cell, trained: Sequence[TriggerRow]) -> list[ModelScore]:
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


def _run_part(row: PipelineRow, seed: int) -> RunPart:
    return RunPart(
        mode="live" if row.live else "replay",
        order=row.replay_order,
        simulated=row.simulated,
        start=row.start_time,
        stop=row.stop_time,
        start_key=row.start_key,
        end_key=row.end_key,
        maximum_triggers=row.maximum_triggers,
        seed=seed,
        samples_seen=row.samples_seen,
        first_timestamp=row.first_timestamp,
        last_timestamp=row.last_timestamp,
    )


def _trigger_part(row: TriggerRow) -> TriggerPart:
    return TriggerPart(
        index=row.trigger_index,
        timestamp=row.timestamp,
        reason=row.reason,
        new_samples=row.new_samples,
        samples=row.samples,
        unlabelled=row.unlabelled,
        first_timestamp=row.first_timestamp,
        last_timestamp=row.last_timestamp,
        training_set=row.training_set,
        model=row.model,
        samples_trained=row.samples_trained,
        batches=row.batches,
        final_loss=row.final_loss,
        reused=row.reused,
        first_batch_ms=row.first_batch_ms,
        seconds=TriggerSeconds(
            select=row.select_seconds,
            start=row.start_seconds,
            train=row.train_seconds,
            store=row.store_seconds,
            evaluate=row.evaluate_seconds,
            total=row.total_seconds,
        ),
    )


def _evaluation_part(row: EvaluationRow) -> TriggerEvaluationPart:
    evaluation = row.evaluation
    return TriggerEvaluationPart(
        number=row.number,
        trigger=row.trigger_index,
        first_timestamp=evaluation.first_timestamp,
        last_timestamp=evaluation.last_timestamp,
        num_samples=evaluation.num_samples,
        decision=evaluation.decision,
        reason=evaluation.reason,
        findings=[FindingPart(**asdict(finding)) for finding in evaluation.findings],
        seconds=evaluation.seconds,
    )


def _cost(row: PipelineRow, triggers: Sequence[TriggerRow], trained: Sequence[TriggerRow]) -> CostPart:
    return CostPart(
        trainings=len(trained),
        trainings_reused=sum(trigger.reused for trigger in trained),
        samples_trained=sum(trigger.samples_trained for trigger in trained),
        train_seconds=sum(trigger.train_seconds for trigger in trained),
        evaluate_seconds=row.evaluate_seconds + row.evaluate_reused_seconds,
        select_seconds=sum(trigger.select_seconds for trigger in triggers),
        trigger_seconds=row.trigger_seconds,
        trigger_samples_embedded=row.trigger_embedded,
        trigger_samples_predicted=row.trigger_predicted,
        ingest_seconds=row.ingest_seconds,
        wall_seconds=_wall_seconds(row),
    )


def _fixed_cost(row: PipelineRow, trained: Sequence[TriggerRow]) -> FixedCostPart:
    first_batches = [trigger.first_batch_ms for trigger in trained if trigger.first_batch_ms is not None]
    computed = sum(trigger.train_seconds for trigger in trained if not trigger.reused) + row.evaluate_seconds
    return FixedCostPart(
        first_batch_ms_median=median(first_batches) if first_batches else None,
        overhead_seconds=_wall_seconds(row) - computed,
    )


def _wall_seconds(row: PipelineRow) -> float:
    return (time.time() if row.ended_at is None else row.ended_at) - row.created_at

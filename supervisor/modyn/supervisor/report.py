"""Builds the report of a pipeline from the journal alone, so that it is there after any restart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from modyn.core.config.reader import load_pipeline_text
from modyn.core.report import (
    CostPart,
    FindingPart,
    FixedCostPart,
    PipelinePart,
    Report,
    RunPart,
    TriggerEvaluationPart,
    TriggerPart,
    TriggerSeconds,
)
from modyn.core.versions import package_version
from modyn.supervisor.composites import cells_of, composite_scores, model_scores, trained_triggers, window_part
from modyn.supervisor.downsampling import downsampling_part, trigger_downsampling_part
from modyn.supervisor.journal import EvaluationRow, Journal, PipelineRow, TriggerRow


def build_report(journal: Journal, row: PipelineRow) -> Report:
    """The report of a pipeline; of what is done so far while it runs."""
    triggers = journal.triggers(row.id)
    trained = trained_triggers(triggers)
    config = load_pipeline_text(row.resolved_yaml, row.name).require_runnable()
    groups = cells_of(journal, row.id, config, trained)
    composite = composite_scores(groups)
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
            baseline=row.baseline,
            baseline_of=None if row.baseline_of is None else str(row.baseline_of),
            notices=row.notices,
            created_at=row.created_at,
            ended_at=row.ended_at,
        ),
        run=_run_part(row, config.training.seed),
        triggers=[_trigger_part(trigger) for trigger in triggers],
        trigger_evaluations=[_evaluation_part(evaluation) for evaluation in journal.evaluations(row.id)],
        composite=composite,
        windows=[part for cells in groups.values() for part in map(window_part, cells)],
        evaluations=[part for cells in groups.values() for cell in cells for part in model_scores(cell, trained)],
        failures=journal.failures(row.id),
        cost=_cost(row, triggers, trained),
        fixed_cost=_fixed_cost(row, trained),
        downsampling=downsampling_part(journal, row, triggers, composite),
    )


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
        downsampling=trigger_downsampling_part(row),
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

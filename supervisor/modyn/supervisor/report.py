"""Builds the report of a pipeline from the journal alone, so that it is there after any restart."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median

from modyn.core.config.evaluation import EvaluationSection, TrainingCost
from modyn.core.config.reader import load_pipeline_text
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES
from modyn.core.report import (
    CostPart,
    EvaluationPart,
    FindingPart,
    FixedCostPart,
    HandlerPart,
    MetricPart,
    PipelinePart,
    Report,
    RunPart,
    TriggerEvaluationPart,
    TriggerPart,
    TriggerSeconds,
)
from modyn.core.versions import package_version
from modyn.supervisor.composites import (
    cells_of,
    composite_scores,
    directions,
    model_scores,
    moments_live,
    trained_triggers,
    window_part,
)
from modyn.supervisor.downsampling import downsampling_part, trigger_downsampling_part
from modyn.supervisor.failures import failure_messages
from modyn.supervisor.handlers import Known, known_handlers
from modyn.supervisor.journal import EvaluationRow, Journal, PipelineRow, TriggerRow
from modyn.supervisor.matrices import confusion_parts, offset_parts, transfer_parts
from modyn.supervisor.rows import MetricRow


def build_report(journal: Journal, row: PipelineRow) -> Report:
    """The report of a pipeline; of what is done so far while it runs."""
    triggers = journal.triggers(row.id)
    trained = trained_triggers(triggers)
    config = load_pipeline_text(row.resolved_yaml, row.name).require_runnable()
    known = known_handlers(config, row.evaluated_extents, journal.handlers(row.id))
    metrics = journal.metrics(row.id)
    groups = cells_of(journal, row.id, known, trained)
    composite = composite_scores(groups, known, directions(metrics))
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
        triggers=_trigger_parts(triggers, trained, _main_section(known)),
        trigger_evaluations=[_look_part(evaluation) for evaluation in journal.evaluations(row.id)],
        composite=composite,
        windows=[part for cells in groups.values() for part in map(window_part, cells)],
        evaluations=[part for cells in groups.values() for cell in cells for part in model_scores(cell)],
        failures=failure_messages(journal.failure_rows(row.id)),
        evaluation=_evaluation_part(known, metrics),
        transfer=transfer_parts(groups, known, directions(metrics), trained),
        offsets=offset_parts(groups, journal.offsets(row.id)),
        confusion=confusion_parts(groups, journal.confusions(row.id)),
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


def _main_section(known: Mapping[str, Known]) -> EvaluationSection | None:
    """That of the YAML; without one, of the handler that was added first."""
    return next(iter(known.values())).section if known else None


def _evaluation_part(known: Mapping[str, Known], metrics: Sequence[MetricRow]) -> EvaluationPart | None:
    section = _main_section(known)
    if section is None:
        return None
    distinct = sorted({(row.dataset, row.metric, row.digest, row.greater_is_better) for row in metrics})
    return EvaluationPart(
        handlers=[
            HandlerPart(
                name=name,
                execution_time=one.handler.execution_time,
                models=one.handler.models,
                strategy=WINDOW_STRATEGIES.dump(one.handler.strategy),
                added_at=one.added_at,
                training_latency=_latency(one.section),
                labels=one.section.labels,
                label_delay=one.section.label_delay,
                confidence=one.section.confidence,
            )
            for name, one in known.items()
        ],
        metrics=[
            MetricPart(dataset=dataset, name=name, digest=digest, greater_is_better=better)
            for dataset, name, digest, better in distinct
        ],
        training_latency=_latency(section),
        labels=section.labels,
        label_delay=section.label_delay,
        confidence=section.confidence,
    )


def _latency(section: EvaluationSection) -> str:
    return "modelled" if isinstance(section.training_latency, TrainingCost) else section.training_latency


def _trigger_parts(
    triggers: Sequence[TriggerRow], trained: Sequence[TriggerRow], section: EvaluationSection | None
) -> list[TriggerPart]:
    moments = moments_live("zero" if section is None else section.training_latency, trained)
    live = [float(trigger.timestamp) for trigger in trained] if moments is None else moments
    by_index = {trigger.trigger_index: moment for trigger, moment in zip(trained, live, strict=True)}
    return [_trigger_part(trigger, by_index.get(trigger.trigger_index)) for trigger in triggers]


def _trigger_part(row: TriggerRow, live_from: float | None) -> TriggerPart:
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
        input_digest=row.input_digest,
        live_from=live_from,
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
        error=row.error,
    )


def _look_part(row: EvaluationRow) -> TriggerEvaluationPart:
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
        start_seconds=sum(trigger.start_seconds for trigger in trained),
        store_seconds=sum(trigger.store_seconds for trigger in trained),
        train_seconds_reused=sum(trigger.train_seconds for trigger in trained if trigger.reused),
        evaluate_seconds_reused=row.evaluate_reused_seconds,
        gpu_seconds=sum(trigger.gpu_seconds for trigger in trained),
        bytes_read=sum(trigger.bytes_read for trigger in trained) + row.evaluate_bytes,
        model_bytes=sum({trigger.model: trigger.model_bytes for trigger in trained}.values()),
        samples_scored=row.evaluate_samples,
        samples_scored_reused=row.evaluate_samples_reused,
        samples_scored_for_training=sum(trigger.samples_scored for trigger in trained),
        ingest_seconds=row.ingest_seconds,
        wall_seconds=_wall_seconds(row),
    )


def _fixed_cost(row: PipelineRow, trained: Sequence[TriggerRow]) -> FixedCostPart:
    first_batches = [trigger.first_batch_ms for trigger in trained if trigger.first_batch_ms is not None]
    computed = sum(trigger.train_seconds for trigger in trained if not trigger.reused)
    computed += row.evaluate_seconds - row.evaluate_later_seconds
    return FixedCostPart(
        first_batch_ms_median=median(first_batches) if first_batches else None,
        overhead_seconds=_wall_seconds(row) - computed,
    )


def _wall_seconds(row: PipelineRow) -> float:
    return (time.time() if row.ended_at is None else row.ended_at) - row.created_at

"""Reports for tests, as the supervisor would build them."""

from __future__ import annotations

from modyn.core.report import (
    CompositeScore,
    CostPart,
    FixedCostPart,
    ModelScore,
    PipelinePart,
    Report,
    RunPart,
    TriggerPart,
    TriggerSeconds,
    WindowPart,
    WindowScore,
)

DAY = 86_400


def composite(active: float | None, *, scored: int = 3, **baselines: float | None) -> CompositeScore:
    return CompositeScore(
        currently_active=active,
        currently_trained=active,
        currently_active_time_weighted=active,
        currently_trained_time_weighted=active,
        windows_scored=scored,
        windows_empty=1,
        windows_without_model=2,
        windows_undefined=0,
        baselines=baselines,
    )


def window(index: int, active: float | None, **baselines: float | None) -> WindowPart:
    return WindowPart(
        handler="weekly",
        dataset="d",
        start=index * DAY,
        end=(index + 1) * DAY,
        anchor=index * DAY,
        samples=10,
        unlabelled=1,
        active_trigger=None if active is None else 0,
        trained_trigger=0,
        scores={"Accuracy": WindowScore(currently_active=active, currently_trained=0.5, baselines=baselines)},
    )


def trigger(index: int) -> TriggerPart:
    return TriggerPart(
        index=index,
        timestamp=index * DAY,
        reason="1d of data time passed",
        new_samples=100,
        samples=100,
        unlabelled=0,
        first_timestamp=0,
        last_timestamp=index * DAY,
        training_set="set",
        model="model",
        samples_trained=200,
        batches=4,
        final_loss=0.5,
        reused=False,
        first_batch_ms=12.0,
        seconds=TriggerSeconds(select=0.1, start=0.01, train=0.2, store=0.01, evaluate=0.1, total=0.5),
    )


def report(
    *,
    name: str = "demo",
    pipeline_id: str = "1",
    status: str = "completed",
    windows: list[WindowPart] | None = None,
    score: CompositeScore | None = None,
) -> Report:
    """A report with two triggers and one handler, dataset and metric."""
    return Report(
        modyn_version="0",
        pipeline=PipelinePart(id=pipeline_id, name=name, dataset="d", status=status, created_at=0.0),
        run=RunPart(mode="replay", order="event", seed=0, samples_seen=300, first_timestamp=0, last_timestamp=3 * DAY),
        triggers=[trigger(0), trigger(1)],
        composite={"weekly": {"d": {"Accuracy": score or composite(0.75, majority_class=0.5, last_label=0.9)}}},
        windows=windows if windows is not None else [window(1, 0.75, majority_class=0.5, last_label=0.9)],
        evaluations=[
            ModelScore(
                handler="weekly", dataset="d", trigger=0, start=0, end=DAY, samples=10, metrics={"Accuracy": 0.75}
            )
        ],
        failures=[],
        cost=CostPart(
            trainings=2,
            trainings_reused=0,
            samples_trained=400,
            train_seconds=0.4,
            evaluate_seconds=0.2,
            select_seconds=0.2,
            trigger_seconds=0.0,
            ingest_seconds=0.1,
            wall_seconds=1.5,
        ),
        fixed_cost=FixedCostPart(first_batch_ms_median=12.0, overhead_seconds=0.9),
    )

"""Reports for tests, as the supervisor would build them."""

from __future__ import annotations

from modyn.core.report import (
    BaselineKind,
    BaselinePart,
    CompositeScore,
    CostPart,
    DownsamplingPart,
    DownsamplingSeconds,
    FindingPart,
    FixedCostPart,
    ModelScore,
    PipelinePart,
    Report,
    RunPart,
    TriggerDownsamplingPart,
    TriggerEvaluationPart,
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


def downsampled(index: int, *, samples: int = 100, trained: int = 200, offered: int = 400) -> TriggerPart:
    """A trigger with a downsampling strategy."""
    part = TriggerDownsamplingPart(
        strategy="Loss",
        samples_offered=offered,
        samples_scored=offered,
        scores_reused=0,
        auxiliary_samples=0,
        trained="trained",
        seconds=DownsamplingSeconds(score=0.05, choose=0.01, auxiliary=0.0),
    )
    return trigger(index).model_copy(update={"samples": samples, "samples_trained": trained, "downsampling": part})


def downsampling(*baselines: BaselinePart, **changes: object) -> DownsamplingPart:
    part = DownsamplingPart(
        strategies=["Loss"],
        triggers=2,
        samples_offered=800,
        samples_trained=400,
        samples_scored=800,
        scores_reused=0,
        auxiliary_samples=0,
        train_seconds=0.4,
        score_seconds=0.1,
        choose_seconds=0.02,
        auxiliary_seconds=0.0,
        seconds_saved=0.28,
        seconds_net=0.16,
        total_seconds=0.62,
        verdict="It saved an estimated 0.2 s.",
        baselines=list(baselines),
    )
    return part.model_copy(update=changes)


def baseline(kind: BaselineKind, accuracy: float | None, *, status: str = "completed") -> BaselinePart:
    return BaselinePart(
        kind=kind,
        id="2" if kind == "uniform" else "3",
        status=status,
        trainings=2,
        trainings_reused=0,
        samples_trained=401,
        train_seconds=0.25,
        total_seconds=0.47,
        composite={} if accuracy is None else {"weekly": {"d": {"Accuracy": accuracy}}},
    )


def finding(
    name: str = "",
    statistic: float | None = None,
    threshold: float | None = None,
    p_value: float | None = None,
    *,
    decision: bool = False,
    note: str = "",
) -> FindingPart:
    return FindingPart(
        name=name, statistic=statistic, threshold=threshold, p_value=p_value, decision=decision, note=note
    )


def trigger_evaluation(
    number: int, trigger: int | None, *findings: FindingPart, reason: str = "no drift", start: int = 0, every: int = DAY
) -> TriggerEvaluationPart:
    """Of the interval ``number``, counted from ``start``."""
    return TriggerEvaluationPart(
        number=number,
        trigger=trigger,
        first_timestamp=start + number * every,
        last_timestamp=start + (number + 1) * every - 1,
        num_samples=100,
        decision=trigger is not None,
        reason=reason,
        findings=list(findings),
        seconds=0.25,
    )


def drifting(count: int = 8, *, start: int = 831_945_600, every: int = DAY) -> list[TriggerEvaluationPart]:
    """Nothing to measure at first, which fires; then no drift but for a firing held back and one that fires."""
    looked = [
        trigger_evaluation(0, 0, finding("mmd", note="empty window"), reason="no model yet", start=start, every=every)
    ]
    for number in range(1, count):
        drifts = number >= count - 2
        findings = (
            finding("mmd", 0.75 if drifts else 0.125, 0.5, 0.01 if drifts else 0.5, decision=drifts),
            finding("ks", 0.25, None if number == 1 else 0.5, note="window too short" if number == 1 else ""),
        )
        reason = "drift: mmd 0.75 > 0.5" if drifts else "no drift"
        if number == count - 2:
            reason = f"held back: {reason}, cooldown"
        fired = 1 if number == count - 1 else None
        looked.append(trigger_evaluation(number, fired, *findings, reason=reason, start=start, every=every))
    return looked


def report(
    *,
    name: str = "demo",
    pipeline_id: str = "1",
    status: str = "completed",
    windows: list[WindowPart] | None = None,
    score: CompositeScore | None = None,
    looked: list[TriggerEvaluationPart] | None = None,
    simulated: bool = False,
    triggers: list[TriggerPart] | None = None,
    part: DownsamplingPart | None = None,
) -> Report:
    """A report with two triggers and one handler, dataset and metric.

    Args:
        looked: evaluations of the trigger; by default it looked only when it fired.
        part: whether downsampling paid; by default nothing was downsampled.
    """
    return Report(
        modyn_version="0",
        pipeline=PipelinePart(id=pipeline_id, name=name, dataset="d", status=status, created_at=0.0),
        run=RunPart(
            mode="replay",
            order="event",
            simulated=simulated,
            seed=0,
            samples_seen=300,
            first_timestamp=0,
            last_timestamp=3 * DAY,
        ),
        triggers=[trigger(0), trigger(1)] if triggers is None else triggers,
        trigger_evaluations=[trigger_evaluation(0, 0), trigger_evaluation(1, 1)] if looked is None else looked,
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
            trigger_samples_embedded=0,
            trigger_samples_predicted=0,
            ingest_seconds=0.1,
            wall_seconds=1.5,
        ),
        fixed_cost=FixedCostPart(first_batch_ms_median=12.0, overhead_seconds=0.9),
        downsampling=part,
    )

"""Reports in which every part is filled, from random numbers."""

from __future__ import annotations

import numpy as np

from modyn.core.report import (
    CompositeScore,
    ConfusionPart,
    DifferencePart,
    EvaluationPart,
    HandlerPart,
    IntervalPart,
    MetricPart,
    ModelScore,
    OffsetPart,
    Report,
    TransferPart,
    TriggerPart,
    WindowPart,
    WindowScore,
)
from tests.client import reports

START = 831_945_600
"""A Monday in May 1996."""

WEEK = 7 * reports.DAY

SLICES = ("[region=NSW]", "[region=VIC]", "#0", "#1")


def full_report(
    *,
    name: str = "weekly retraining",
    pipeline_id: str = "1",
    windows: int = 60,
    models: int = 12,
    level: float = 0.7,
    seed: int = 0,
    metric: str = "Accuracy",
    handler: str = "weekly",
    dataset: str = "prices",
) -> Report:
    """Weekly windows, the models of which were trained every few weeks.

    Args:
        name, metric, handler, dataset: of its parts.
        pipeline_id: of the pipeline.
        windows, models: how many; the first window has no active model.
        level: about which the scores lie.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    scores = np.clip(level + np.cumsum(rng.normal(0, 0.01, windows)) + rng.normal(0, 0.03, windows), 0.05, 0.98)
    every = max(1, windows // max(models, 1))
    parts = [
        _window(i, None if i == 0 or not models else min(models, -(-i // every)) - 1, float(scores[i]), rng)
        for i in range(windows)
    ]
    parts = [
        part.model_copy(
            update={"handler": handler, "dataset": dataset, "scores": _scores(metric, part.scores["Accuracy"])}
        )
        for part in parts
    ]
    mean = float(scores[1:].mean()) if windows > 1 and models else None
    base = reports.report(name=name, pipeline_id=pipeline_id, windows=parts, triggers=_triggers(models, every))
    where = {"handler": handler, "dataset": dataset, "metric": metric}
    return base.model_copy(
        update={
            "composite": {handler: {dataset: {metric + part: _composite(mean, windows - 1) for part in ("", *SLICES)}}},
            "evaluations": _matrix(parts, models, every, rng, metric),
            "trigger_evaluations": reports.drifting(max(3, windows), start=START, every=WEEK),
            "evaluation": _settings(handler, dataset, metric),
            "transfer": [
                TransferPart(
                    **where, forgetting=0.03, backward_transfer=-0.02, forward_transfer=0.1, windows_backward=windows,
                    windows_forward=windows,
                )
            ],
            "offsets": [
                OffsetPart(**where, offset=o, models=models, mean=0.7 - 0.02 * i, interval=_interval(0.7 - 0.02 * i))
                for i, o in enumerate(("-inf", "+1w", "+2w", "+1d; +2d", "inf"))
            ],
            "confusion": [
                ConfusionPart(
                    handler=handler, dataset=dataset, classes=[0, 1, 2], counts=[[90, 5, 5], [9, 70, 1], [0, 0, 7]],
                    windows=windows,
                )
            ],
            "failures": ["model of trigger 3 on prices: its weights cannot be read"],
            "pipeline": base.pipeline.model_copy(
                update={"notices": ["`training.device` has no effect"], "description": "A test."}
            ),
        }
    )  # fmt: skip


def _interval(value: float, half: float = 0.02) -> IntervalPart:
    return IntervalPart(low=value - half, high=value + half, level=0.95)


def _window(index: int, active: int | None, value: float, rng: np.random.Generator) -> WindowPart:
    part = reports.window(index, None if active is None else value, majority_class=0.55, last_label=0.8)
    score = WindowScore(
        currently_active=None if active is None else value,
        currently_trained=value + 0.05,
        baselines={"majority_class": float(rng.uniform(0.5, 0.6)), "last_label": float(rng.uniform(0.75, 0.85))},
        interval=None if active is None else _interval(value, 0.05),
    )
    start = START + index * WEEK
    return part.model_copy(
        update={
            "start": start, "end": start + WEEK, "anchor": start, "active_trigger": active,
            "certification": "certified" if index % 2 else "cross_validation", "data_digest": f"{index:064x}",
            "scores": {"Accuracy": score},
        }
    )  # fmt: skip


def _scores(metric: str, score: WindowScore) -> dict[str, WindowScore]:
    of_parts = score.model_copy(update={"baselines": {}, "interval": None})
    return {metric: score} | {metric + part: of_parts for part in SLICES}


def _triggers(models: int, every: int) -> list[TriggerPart]:
    return [
        reports.trigger(i).model_copy(
            update={
                "timestamp": START + (i * every + 1) * WEEK, "first_timestamp": START + (i - 1) * every * WEEK,
                "last_timestamp": START + i * every * WEEK + WEEK - 1, "reused": i % 4 == 3,
                "training_set": f"{i + 1:064x}", "model": f"{i + 2:064x}", "input_digest": f"{i + 3:064x}",
            }
        )
        for i in range(models)
    ]  # fmt: skip


def _matrix(
    windows: list[WindowPart], models: int, every: int, rng: np.random.Generator, metric: str
) -> list[ModelScore]:
    return [
        ModelScore(
            handler=w.handler, dataset=w.dataset, trigger=model, start=w.start, end=w.end, samples=10,
            metrics={metric: float(0.8 - 0.004 * abs(column - model * every) + rng.normal(0, 0.02))},
        )
        for model in range(models)
        for column, w in enumerate(windows)
    ]  # fmt: skip


def _composite(mean: float | None, scored: int) -> CompositeScore:
    score = reports.composite(mean, scored=scored, majority_class=0.55, last_label=0.8)
    if mean is None:
        return score
    over = {
        name: DifferencePart(mean=mean - value, interval=_interval(mean - value), windows=scored)
        for name, value in (("majority_class", 0.55), ("last_label", 0.8))
    }
    return score.model_copy(update={"interval": _interval(mean), "over_baselines": over})


def _settings(handler: str, dataset: str, metric: str) -> EvaluationPart:
    return EvaluationPart(
        handlers=[
            HandlerPart(
                name=handler, execution_time="after_pipeline", models="matrix",
                strategy={"type": "SlicingEvalStrategy", "eval_every": WEEK},
            )
        ],
        metrics=[MetricPart(dataset=dataset, name=metric, digest="ab" * 32, greater_is_better=True)],
        training_latency="measured",
        labels="known",
        label_delay=reports.DAY,
        confidence=0.95,
    )  # fmt: skip


HOSTILE = (
    "</script><img src=x onerror=alert(1)>\"'&<b>\x1b[1m \u202eesrever\u202c $x_1^2$ שלום 東京 " + "very-long" * 40
)
"""Markup, control characters, changes of direction, mathematics, other scripts, and no end."""


def hostile_report() -> Report:
    """Whatever a user can name is :data:`HOSTILE`."""
    document = full_report(name=HOSTILE, metric=HOSTILE, handler=HOSTILE, dataset=HOSTILE, windows=12, models=3)
    pipeline = document.pipeline.model_copy(
        update={"description": HOSTILE, "version": HOSTILE, "error": HOSTILE, "notices": [HOSTILE], "status": "failed"}
    )
    looked = [
        e.model_copy(
            update={
                "reason": HOSTILE,
                "findings": [f.model_copy(update={"name": HOSTILE, "note": HOSTILE}) for f in e.findings[:1]],
            }
        )
        for e in document.trigger_evaluations
    ]
    triggers = [trigger.model_copy(update={"reason": HOSTILE}) for trigger in document.triggers]
    changes = {"pipeline": pipeline, "failures": [HOSTILE], "trigger_evaluations": looked, "triggers": triggers}
    return document.model_copy(update=changes)


def empty_report(status: str = "failed") -> Report:
    """A run that ended before its first trigger."""
    document = reports.report(status=status, windows=[], triggers=[], looked=[])
    pipeline = document.pipeline.model_copy(update={"error": "storage: the disk is full\nFree some space."})
    return document.model_copy(update={"pipeline": pipeline, "composite": {}, "evaluations": []})

"""A stream, a small real model, and a trigger that decides when it is retrained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.triggers import Arrivals, Evaluation, Observer, TrainingOutcome, Trigger
from tests.helpers.observing import ArrayObserver

Rows = npt.NDArray[np.float32]


def fit_logistic(features: Rows, labels: npt.NDArray[np.int64], *, steps: int = 8) -> npt.NDArray[np.float64]:
    """Weights of a logistic regression with a little ridge, float64 [d + 1], by Newton's method."""
    inputs = _with_bias(features)
    weights = np.zeros(inputs.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (labels - chance) - 1e-2 * weights
        curve = inputs.T @ (inputs * (chance * (1 - chance))[:, None]) + 1e-2 * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    return weights


@dataclass
class Run:
    """Firings as numbers of samples seen, evaluations, and what the trigger remembers."""

    fired: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    state: Any = None

    @property
    def explained(self) -> list[tuple[Any, ...]]:
        """Evaluations without the time they took."""
        return [(*astuple(replace(evaluation, seconds=0.0)),) for evaluation in self.evaluations]


def trained_for_nothing(index: int, start: int, end: int) -> TrainingOutcome:
    """A new model, which took a millisecond a sample."""
    return TrainingOutcome(index, f"model-{index}", end - start, 0.001 * (end - start))


def drive(
    trigger: Trigger,
    timestamps: npt.NDArray[np.int64],
    observer: Observer,
    *,
    train: Callable[[int, int, int], TrainingOutcome] = trained_for_nothing,
    cuts: tuple[int, ...] = (),
) -> Run:
    """Feeds a stream, the state through JSON after each step.

    Args:
        train: (trigger index, first sample, sample after the last) -> outcome, called whenever the trigger fires.
        cuts: where pieces end, besides the stream's end.
    """
    run, start = Run(state=trigger.initial_state()), 0
    arrivals = Arrivals(np.arange(len(timestamps)), timestamps)
    for first, last in pairwise([0, *sorted(cuts), len(timestamps)]):
        seen = first
        while seen < last:
            step = trigger.next_firing(run.state, arrivals.slice(seen, last), observer)
            run.evaluations.extend(step.evaluations)
            run.state = step.state
            seen = last if step.firing is None else seen + step.firing.position
            if step.firing is not None:
                run.fired.append(seen)
                run.state = trigger.after_training(run.state, train(len(run.fired) - 1, start, seen))
                start = seen
            run.state = trigger.state_type.model_validate_json(run.state.model_dump_json())
    return run


class Retrained:
    """Retrains a logistic regression on the last ``memory`` samples (all since the last training if None) whenever a
    trigger fires."""

    def __init__(self, features: Rows, labels: npt.NDArray[np.int64], *, memory: int | None = 1000) -> None:
        self.features, self.labels, self.memory = features, labels, memory
        self.models: dict[str, npt.NDArray[np.float64]] = {}
        self.observer = ArrayObserver(features, labels, predict=self._predict)

    def run(self, trigger: Trigger, timestamps: npt.NDArray[np.int64]) -> Run:
        """Feeds the whole stream."""
        return drive(
            trigger, timestamps, self.observer, train=self._train, cuts=tuple(range(7_777, len(timestamps), 7_777))
        )

    def _train(self, index: int, start: int, end: int) -> TrainingOutcome:
        first = start if self.memory is None else max(0, end - self.memory)
        self.models[f"model-{index}"] = fit_logistic(self.features[first:end], self.labels[first:end])
        return TrainingOutcome(index, f"model-{index}", end - first, 0.001 * (end - first))

    def _predict(self, model: str, rows: Rows) -> npt.NDArray[np.float32]:
        margin = _with_bias(rows) @ self.models[model]
        return np.stack((-margin, margin), axis=1).astype(np.float32)


def _with_bias(features: Rows) -> npt.NDArray[np.float64]:
    return np.column_stack((features, np.ones(len(features)))).astype(np.float64)


def observer_of(labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], **options: Any) -> ArrayObserver:
    """Answers from a column of predictions that all models share; the key of a sample is its row."""
    rows = np.asarray(predictions, dtype=np.float32)[:, None]
    return ArrayObserver(rows, labels, predict=lambda model, shown: shown[:, 0].astype(np.int64), **options)

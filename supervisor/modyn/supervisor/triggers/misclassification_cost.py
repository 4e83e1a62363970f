"""Retrain when avoidable mistakes have gone on for so long that a training is worth it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, FiniteFloat

from modyn.core.plugins.performance import Measured
from modyn.core.plugins.triggers import TRIGGERS, Observer
from modyn.supervisor.performance.criteria.misclassifications import (
    avoidable_misclassifications,
    upcoming_misclassifications,
)
from modyn.supervisor.triggers.costs import CostState, CostTrigger
from modyn.supervisor.triggers.intervals import Interval, Verdict
from modyn.supervisor.triggers.label_aware import LabelAwareState, LabelAwareTrigger


class MisclassificationCostState(LabelAwareState, CostState):
    """What both kinds remember."""


@TRIGGERS.register("AvoidableMisclassificationCostTrigger")
class AvoidableMisclassificationCostTrigger(LabelAwareTrigger, CostTrigger):
    """Fires when the mistakes that a newly trained model would have avoided are worth a training.

    ``avoidable_misclassification_latency_per_training_second`` is how many seconds for which an avoidable mistake has
    been known, added up over mistakes, you would accept to save one second of training: with 3600, ten avoidable
    mistakes known for an hour are worth 10 s of training.

    R is the number of avoidable misclassifications since the last training: of the n labels that became known in an
    interval, wrong - (1 - expected accuracy) · n, or nothing if that is negative and not ``allow_reduction``. C is the
    area under R over the data clock: an interval of ``duration`` seconds adds R · duration for those before it and half
    of ``duration`` for each of its own. The trigger fires when C /
    ``avoidable_misclassification_latency_per_training_second`` is at least the forecast seconds of training. With
    ``mode: lookahead`` the area that is forecast until the next evaluation counts too.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> from modyn.core.plugins.triggers import Arrivals, KnownOutcomes, TrainingOutcome
    >>> def outcomes(keys, model, *, known_at, scores, newest_key):  # the model is right until sample 20, then never
    ...     return KnownOutcomes(keys, Outcomes(labels=np.ones(len(keys)), predictions=keys < 20), gone=keys[:0])
    >>> trigger = AvoidableMisclassificationCostTrigger(
    ...     avoidable_misclassification_latency_per_training_second=5,
    ...     evaluation_interval_data_points=10,
    ...     expected_accuracy=1,
    ... )
    >>> arrivals, observe = Arrivals(np.arange(40), np.arange(40)), SimpleNamespace(outcomes=outcomes)
    >>> first = trigger.next_firing(trigger.initial_state(), arrivals, observe)
    >>> state = trigger.after_training(first.state, TrainingOutcome(0, "model", num_samples=10, seconds=8.0))
    >>> trigger.next_firing(state, arrivals.from_position(10), observe).firing.reason
    '10 avoidable misclassifications, 50 seconds of them: worth 10 s of training, at least the forecast 8 s'
    """

    state_type = MisclassificationCostState

    avoidable_misclassification_latency_per_training_second: FiniteFloat = Field(
        gt=0,
        description="Seconds for which an avoidable mistake has been known, added up over mistakes, that are worth one "
        "second of training.",
    )
    expected_accuracy: float | None = Field(
        None, ge=0, le=1, description="Of a newly trained model; by default forecast from the models so far."
    )
    allow_reduction: bool = Field(
        False, description="Whether intervals in which the model is better than expected make up for others."
    )

    @property
    def exchange_rate(self) -> float:
        return self.avoidable_misclassification_latency_per_training_second

    def evaluate(self, state: Any, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        measurement = self.measure(state, interval, observe, warming_up=warming_up)
        state, measured = measurement.state, measurement.measured
        expected = self._expected(measured)
        new = ahead = 0.0
        if measured is not None and expected is not None:
            new = avoidable_misclassifications(measured.errors, expected, allow_reduction=self.allow_reduction)
        state = self.accumulated(state, interval, new=new, new_area=new * self.elapsed(state, interval) / 2)
        if measured is not None and measured.outlook is not None and expected is not None:
            upcoming = upcoming_misclassifications(measured, expected)
            ahead = (state.regret + upcoming / 2) * measured.outlook.seconds
        note = f" ({measurement.note})" if measurement.note else ""
        return self.weigh(state, f"avoidable misclassifications{note}", upcoming_area=ahead)

    def _expected(self, measured: Measured | None) -> float | None:
        if self.expected_accuracy is not None or measured is None:
            return self.expected_accuracy
        return measured.expected_accuracy

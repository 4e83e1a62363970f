"""Misclassifications that a newly trained model would have avoided."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.plugins.performance import (
    PERFORMANCE_CRITERIA,
    CriterionState,
    Errors,
    Judgement,
    Measured,
    PerformanceCriterion,
)


class MisclassificationsState(CriterionState):
    """``avoidable``: misclassifications since the last training that a new model would have avoided."""

    avoidable: int = 0


def avoidable_misclassifications(errors: Errors, expected_accuracy: float, *, allow_reduction: bool) -> float:
    """How many more of the samples were misclassified than a newly trained model would have.

    wrong - (1 - expected_accuracy) · n; 0 where that is negative, unless ``allow_reduction``.

    >>> wrong = np.array([True, True, True, False, False])
    >>> round(avoidable_misclassifications(wrong, 0.8, allow_reduction=False), 6)
    2.0
    """
    surplus = int(np.count_nonzero(errors)) - (1 - expected_accuracy) * len(errors)
    return surplus if allow_reduction else max(0.0, surplus)


def upcoming_misclassifications(measured: Measured, expected_accuracy: float) -> float:
    """The avoidable misclassifications forecast until the next evaluation; 0 with ``mode: hindsight``."""
    outlook = measured.outlook
    return 0.0 if outlook is None else max(0.0, expected_accuracy - outlook.accuracy) * outlook.num_samples


@PERFORMANCE_CRITERIA.register(
    "StaticNumberAvoidableMisclassificationCriterion", aliases=("StaticNumberMisclassificationCriterion",)
)
class StaticNumberAvoidableMisclassificationCriterion(PerformanceCriterion):
    """Fires when the model has made ``avoidable_misclassification_threshold`` more mistakes since its training than a
    newly trained one would have.

    An evaluation adds round(wrong - (1 - expected accuracy) · n), or nothing if that is negative and not
    ``allow_reduction``. The expected accuracy is given, or forecast from the accuracy that each model had when it was
    first evaluated. With ``mode: lookahead`` what is forecast until the next evaluation counts too, once.

    >>> criterion = StaticNumberAvoidableMisclassificationCriterion(
    ...     avoidable_misclassification_threshold=2, expected_accuracy=0.8
    ... )
    >>> measured = Measured(scores={}, errors=np.array([True, True, True, False, False]))
    >>> criterion.judge(criterion.initial_state(), measured)[1:4]
    (True, 2.0, 2.0)
    """

    state_type = MisclassificationsState

    expected_accuracy: float | None = Field(
        None, ge=0, le=1, description="Of a newly trained model; by default forecast from the models so far."
    )
    allow_reduction: bool = Field(
        False, description="Whether intervals in which the model is better than expected make up for others."
    )
    avoidable_misclassification_threshold: PositiveInt = Field(description="Avoidable misclassifications it takes.")

    def judge(self, state: Any, measured: Measured) -> Judgement:
        threshold = float(self.avoidable_misclassification_threshold)
        expected = measured.expected_accuracy if self.expected_accuracy is None else self.expected_accuracy
        if not len(measured.errors) or expected is None:
            note = "no label of the newest model's predictions became known"
            return Judgement(state, decision=False, statistic=float(state.avoidable), threshold=threshold, note=note)
        new = avoidable_misclassifications(measured.errors, expected, allow_reduction=self.allow_reduction)
        total = state.avoidable + round(new)
        reached = total + round(upcoming_misclassifications(measured, expected))
        state = state.model_copy(update={"avoidable": total})
        note = f"expected accuracy {expected:.4g}"
        return Judgement(state, reached >= threshold, float(reached), threshold, note)

    def trained(self, state: Any) -> Any:
        return self.initial_state()

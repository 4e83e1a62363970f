"""Performance criteria: what known outcomes of the newest model say about retraining."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.triggers import TriggerState
from modyn.core.registry import Plugin, Registry

Errors = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outlook:
    """What is forecast of the next evaluation.

    Attributes:
        scores: metric -> its next value, under every name that a criterion may use for it; without metrics that were
            undefined so far.
        accuracy: the next share of right predictions.
        num_samples: whose labels will become known.
        seconds: of data time until then.
    """

    scores: Mapping[str, float]
    accuracy: float
    num_samples: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Measured:
    """What one evaluation knows that the ones before it did not.

    Attributes:
        scores: metric -> its value over the samples whose labels became known, under every name that a criterion may
            use for it; None where the metric is undefined on them. Of the newest model alone, except in the warm-up,
            when earlier models count too so that criteria are calibrated.
        errors: whether the newest model was wrong, bool [k], in the order in which the labels became known.
        expected_accuracy: what a newly trained model would score, forecast from the first evaluation of each model;
            None if there was none yet.
        outlook: only with ``mode: lookahead``.
    """

    scores: Mapping[str, float | None]
    errors: Errors
    expected_accuracy: float | None = None
    outlook: Outlook | None = None


class Judgement(NamedTuple):
    """What a criterion says of an evaluation.

    Attributes:
        state: the new one.
        decision: whether it speaks for a trigger.
        statistic: what was measured; None if nothing was.
        threshold: what it was compared with; None if there was nothing.
        note: for people; may be empty.
    """

    state: Any
    decision: bool
    statistic: float | None = None
    threshold: float | None = None
    note: str = ""


class CriterionState(TriggerState):
    """What a criterion remembers between evaluations; plain data."""


class PerformanceCriterion(Plugin, ABC):
    """Turns what becomes known of a model into decisions; pure, with its memory in a state."""

    state_type: ClassVar[type[CriterionState]] = CriterionState

    def initial_state(self) -> Any:
        """The state before the first evaluation."""
        return self.state_type()

    @property
    def metric_name(self) -> str | None:
        """The metric it looks at, by result name or plug-in name; None: only whether predictions are right."""
        return None

    @property
    def needs_calibration(self) -> bool:
        """Whether it can decide nothing before it has seen some evaluations."""
        return False

    @abstractmethod
    def judge(self, state: Any, measured: Measured) -> Judgement:
        """Looks at one evaluation, in which at least one label became known.

        Args:
            state: of :attr:`state_type`; not modified.
        """

    def trained(self, state: Any) -> Any:
        """The state after a training; by default unchanged."""
        return state


PERFORMANCE_CRITERIA: Registry[PerformanceCriterion] = Registry(
    "performance criterion",
    key="id",
    package="modyn.supervisor.performance.criteria",
    group="modyn.performance_criteria",
)

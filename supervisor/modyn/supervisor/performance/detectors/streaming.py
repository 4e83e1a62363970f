"""What detectors on the stream of errors share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, NamedTuple

from modyn.core.plugins.performance import (
    CriterionState,
    Errors,
    Judgement,
    Measured,
    PerformanceCriterion,
)

Mode = Literal["up", "down", "both"]


class DetectorState(CriterionState):
    """``detected``: a change was detected that no training has answered yet."""

    detected: bool = False


class Detections(NamedTuple):
    """What came of feeding errors.

    Attributes:
        state: the new one.
        positions: of the errors at which a change was detected, ascending.
        statistic: at the last detection, or where the errors end; None if there was nothing to compare yet.
        threshold: what it was compared with.
    """

    state: Any
    positions: tuple[int, ...]
    statistic: float | None
    threshold: float | None


class StreamingDetector(PerformanceCriterion):
    """A detector that reads whether predictions were wrong, one after the other.

    It fires if it detects a change among the labels that became known since the last evaluation, and starts afresh
    after each detection. It goes on to fire until there was a training: to a detector that started afresh what is bad
    by now is normal, so a firing that a guard held back would never come again. It also starts afresh after every
    training, whoever caused it: the errors of another model are another stream, and the step between the two would look
    like a change. What becomes known later of earlier models is not fed.
    """

    @abstractmethod
    def feed(self, state: Any, errors: Errors) -> Detections:
        """Reads errors in their order.

        Args:
            state: of :attr:`state_type`; not modified.
            errors: whether each prediction was wrong, bool [k].
        """

    def judge(self, state: Any, measured: Measured) -> Judgement:
        found = self.feed(state, measured.errors)
        note = ""
        if not len(measured.errors):
            note = "no label of the newest model's predictions became known"
        elif found.positions:
            note = f"detected after {found.positions[0] + 1:,} of {len(measured.errors):,} new labels"
        elif state.detected:
            note = "detected before, and not trained since"
        detected = state.detected or bool(found.positions)
        new = found.state.model_copy(update={"detected": detected})
        return Judgement(new, detected, found.statistic, found.threshold, note)

    def trained(self, state: Any) -> Any:
        return self.initial_state()

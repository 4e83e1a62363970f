"""What criteria on a metric's value share: they ask a decision criterion, as drift does, but higher is better."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import Field

from modyn.core.plugins.drift import DecisionCriterion
from modyn.core.plugins.performance import CriterionState, Judgement, Measured, PerformanceCriterion

HIGHER_IS_WORSE = False
"""All metrics there are so far are better when higher."""


class ScoresState(CriterionState):
    """``earlier``: the last values of the metric, oldest first, as many as the rule looks at."""

    earlier: tuple[float, ...] = ()


class ScoreCriterion(PerformanceCriterion):
    """Applies a rule to each value of a metric. With ``mode: lookahead`` it also fires if the rule would fire on the
    value that is forecast for the next evaluation."""

    state_type = ScoresState

    metric: str = Field(description="One of `metrics`: its name, or the name under which its values are reported.")

    @property
    @abstractmethod
    def rule(self) -> DecisionCriterion:
        """What decides."""

    @property
    def metric_name(self) -> str | None:
        return self.metric

    @property
    def needs_calibration(self) -> bool:
        return self.rule.needs_calibration

    def judge(self, state: Any, measured: Measured) -> Judgement:
        score = measured.scores[self.metric]
        if score is None:
            return Judgement(state, decision=False, note=f"{self.metric} is undefined on these samples")
        rule = self.rule
        said = rule.decide(score, state.earlier, higher_is_worse=HIGHER_IS_WORSE)
        decision, note = said.decision, said.note
        if not decision and measured.outlook is not None and self.metric in measured.outlook.scores:
            ahead = measured.outlook.scores[self.metric]
            decision = rule.decide(ahead, state.earlier, higher_is_worse=HIGHER_IS_WORSE).decision
            note = f"forecast of the next evaluation: {ahead:.4g}"
        earlier = (*state.earlier, score)[-rule.memory :] if rule.memory else ()
        return Judgement(state.model_copy(update={"earlier": earlier}), decision, score, said.threshold, note)

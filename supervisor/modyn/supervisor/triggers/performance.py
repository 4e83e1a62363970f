"""Retrain when the model has become worse."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from modyn.core.config.problems import nearest, relation_error
from modyn.core.plugins.performance import PERFORMANCE_CRITERIA, Judgement, Measured, PerformanceCriterion
from modyn.core.plugins.triggers import TRIGGERS, Finding, Observer, TrainingOutcome
from modyn.supervisor.triggers.intervals import Interval, Verdict
from modyn.supervisor.triggers.label_aware import LabelAwareState, LabelAwareTrigger

DEFAULT_CRITERIA = {"adwin": {"id": "ADWIN", "delta": 0.02}}
"""Needs no warm-up and no threshold that depends on the data: the error rate of every model is its own standard. With
ADWIN's own delta of 0.002 it finds a rise of the error rate by six points half as fast, and hardly raises fewer false
alarms (at either, less than one in 100,000 predictions)."""


class PerformanceState(LabelAwareState):
    """``criteria``: what each criterion remembers, by its name in `decision_criteria`."""

    criteria: dict[str, dict[str, Any]] = Field(default_factory=dict)


@TRIGGERS.register("PerformanceTrigger")
class PerformanceTrigger(LabelAwareTrigger):
    """Fires when one of its criteria finds that the newest model has become worse.

    At the end of every evaluation interval the predictions whose labels became known are scored, each once, with the
    model that was live when its interval was complete; every criterion looks at them, and one is enough to fire. An
    interval in which no label of the newest model's predictions became known decides nothing.

    By default ADWIN watches the stream of errors. It compares a model with itself, so it cannot find a change that the
    model has never known otherwise: after a change, train on recent data (a selection policy that leaves old data out),
    or the next model starts with the errors of the old concept and stays with them.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from modyn.core.plugins.evaluation import Outcomes
    >>> from modyn.core.plugins.triggers import Arrivals, KnownOutcomes
    >>> def outcomes(keys, model, *, known_at, scores, newest_key):  # the model is right until sample 800, then never
    ...     return KnownOutcomes(keys, Outcomes(labels=np.ones(len(keys)), predictions=keys < 800), gone=keys[:0])
    >>> trigger, observe = PerformanceTrigger(evaluation_interval_data_points=200), SimpleNamespace(outcomes=outcomes)
    >>> arrivals = Arrivals(keys=np.arange(1000), timestamps=np.arange(1000))
    >>> first = trigger.next_firing(trigger.initial_state(), arrivals, observe)
    >>> first.firing.position, first.firing.reason
    (200, 'there is no model yet')
    >>> state = trigger.after_training(first.state, TrainingOutcome(0, "model", num_samples=200, seconds=1.0))
    >>> second = trigger.next_firing(state, arrivals.from_position(200), observe)
    >>> second.firing.position, second.firing.reason
    (800, 'performance: adwin 0.3333 (threshold 0.316), detected after 8 of 200 new labels')
    """

    state_type = PerformanceState

    decision_criteria: dict[str, Annotated[PerformanceCriterion, PERFORMANCE_CRITERIA.field()]] = Field(
        DEFAULT_CRITERIA,
        min_length=1,
        validate_default=True,
        description="When to fire, by names of your choice; one that says so is enough. By default ADWIN with `delta` "
        "0.02.",
    )

    @field_validator("decision_criteria")
    @classmethod
    def _check_names(cls, criteria: dict[str, PerformanceCriterion]) -> dict[str, PerformanceCriterion]:
        wrong = [name for name in criteria if not name or "/" in name]
        if wrong:
            raise relation_error(((name,), f"name {name!r}: expected a name without '/'") for name in wrong)
        return criteria

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        known = self.metrics_by_name()
        unknown = [
            (("decision_criteria", name, "metric"), _unknown_metric(criterion.metric_name, list(known)))
            for name, criterion in self.decision_criteria.items()
            if criterion.metric_name is not None and criterion.metric_name not in known
        ]
        if unknown:
            raise relation_error(unknown)
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        names = [name for name, criterion in self.decision_criteria.items() if criterion.needs_calibration]
        if names and not (self.warmup_policy and self.warmup_intervals):
            raise ValueError(
                f"the criteria {', '.join(names)} compare with earlier evaluations, which the warm-up makes; expected "
                "warmup_intervals of at least 1 and a warmup_policy, or criteria that need no earlier ones"
            )
        return self

    def evaluate(self, state: PerformanceState, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        measurement = self.measure(state, interval, observe, warming_up=warming_up)
        state, measured = measurement.state, measurement.measured
        if measured is None:
            findings = tuple(Finding(name, note=measurement.note) for name in self.decision_criteria)
            return Verdict(state, False, f"no decision: {measurement.note}", findings)
        judgements = {name: self._judge(state, name, measured) for name in self.decision_criteria}
        memory = {name: said.state.model_dump(mode="json") for name, said in judgements.items()}
        findings = tuple(
            Finding(name, said.statistic, said.threshold, decision=said.decision, note=said.note)
            for name, said in judgements.items()
        )
        decision = any(said.decision for said in judgements.values())
        return Verdict(state.but(criteria=memory), decision, _reason(judgements), findings)

    def trained(self, state: PerformanceState, outcome: TrainingOutcome) -> PerformanceState:
        state = super().trained(state, outcome)
        if outcome.model is None:
            return state
        memory = {
            name: criterion.trained(self._state_of(state, name)).model_dump(mode="json")
            for name, criterion in self.decision_criteria.items()
        }
        return state.but(criteria=memory)

    def _judge(self, state: PerformanceState, name: str, measured: Measured) -> Judgement:
        return self.decision_criteria[name].judge(self._state_of(state, name), measured)

    def _state_of(self, state: PerformanceState, name: str) -> Any:
        criterion = self.decision_criteria[name]
        known = state.criteria.get(name)
        return criterion.initial_state() if known is None else criterion.state_type.model_validate(known)


def _unknown_metric(name: str | None, known: list[str]) -> str:
    choices = ", ".join(sorted(known))
    return f"no metric is named {name!r}{nearest(str(name), known)}; expected one of {choices}, or add it to `metrics`"


def _reason(judgements: dict[str, Judgement]) -> str:
    """The criteria that fire, or all of them if none does, with their numbers."""
    firing = {name: said for name, said in judgements.items() if said.decision}
    parts = []
    for name, said in (firing or judgements).items():
        numbers = "" if said.statistic is None else f" {said.statistic:.4g}"
        if said.statistic is not None and said.threshold is not None:
            numbers += f" (threshold {said.threshold:.4g})"
        parts.append(f"{name}{numbers}{', ' + said.note if said.note else ''}")
    return f"{'performance' if firing else 'performance holds'}: {'; '.join(parts)}"

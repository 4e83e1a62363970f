"""Retrain when the data look different from those that the model was trained on."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.plugins.drift import (
    AGGREGATION_STRATEGIES,
    DRIFT_METRICS,
    WINDOWING_STRATEGIES,
    AggregationStrategy,
    DriftMetric,
    Samples,
    TestResult,
    WindowingStrategy,
    Windows,
)
from modyn.core.plugins.triggers import TRIGGERS, Features, Finding, Observer, TrainingOutcome
from modyn.supervisor.drift.aggregation import MajorityVote
from modyn.supervisor.drift.sampling import steady_sample
from modyn.supervisor.drift.windows import AmountWindowingStrategy
from modyn.supervisor.triggers.intervals import Interval, IntervalState, IntervalTrigger, Verdict

Measured = dict[str, tuple[float, ...]]


class DriftState(IntervalState):
    """``windows``: which samples are compared; ``measured``: the last measurements of each metric, oldest first."""

    windows: Windows = Windows()
    measured: Measured = Field(default_factory=dict)


class Compared(NamedTuple):
    """Features of both windows, float32 [n, d] and [m, d], n, m >= 1, each in the order of time."""

    reference: Features
    current: Features


@TRIGGERS.register("DataDriftTrigger")
class DataDriftTrigger(IntervalTrigger):
    """Fires when samples of a current window differ from those of a reference window.

    At the end of every evaluation interval its samples join the current window, and every metric compares the two
    windows; its criterion decides whether what it measured is drift, and the aggregation counts the decisions. After a
    training, whoever caused it, and after every interval of the warm-up the new samples join the reference window.
    As long as a window is empty, or all its samples are deleted, there is nothing to compare and no drift.

    What is compared are embeddings of the samples by the newest model, or numeric columns of the samples. At most
    ``sample_size`` samples of each window are looked at, those with the smallest hash of their key: the choice is as
    good as a random one, but it stays as the windows slide, so that a model has to be shown every sample only once.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from modyn.core.plugins.triggers import Arrivals
    >>> rows = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    >>> rows[400:] += 0.5
    >>> observe = SimpleNamespace(columns=lambda keys, names: rows[keys], generator=np.random.default_rng)
    >>> trigger = DataDriftTrigger(
    ...     evaluation_interval_data_points=200,
    ...     features="columns",
    ...     windowing_strategy={"id": "AmountWindowingStrategy", "amount_ref": 200, "amount_cur": 200},
    ...     metrics={"mmd": {"id": "MMD", "decision_criterion": {"id": "HypothesisTestCriterion"}}},
    ... )
    >>> arrivals = Arrivals(keys=np.arange(600), timestamps=np.arange(600))
    >>> first = trigger.next_firing(trigger.initial_state(), arrivals, observe)
    >>> first.firing.position, first.firing.reason
    (200, 'there is no model yet')
    >>> state = trigger.after_training(first.state, TrainingOutcome(0, "digest of the model", 200, 1.5))
    >>> for evaluation in trigger.next_firing(state, arrivals.from_position(200), observe).evaluations:
    ...     print(evaluation.reason)
    no drift: mmd -0.00... < 0.00... (p = 0.8...); 0 of 1 votes
    drift: mmd 0.06... > 0.00... (p = 0.0099); 1 of 1 votes
    """

    state_type = DriftState

    windowing_strategy: Annotated[WindowingStrategy, WINDOWING_STRATEGIES.field()] = Field(
        AmountWindowingStrategy(), description="Which samples are compared."
    )
    sample_size: PositiveInt | None = Field(5000, description="Samples looked at in each window; all of them if empty.")
    metrics: dict[str, Annotated[DriftMetric, DRIFT_METRICS.field()]] = Field(
        min_length=1, description="How the windows are compared, by names of your choice."
    )
    aggregation_strategy: Annotated[AggregationStrategy, AGGREGATION_STRATEGIES.field()] = Field(
        MajorityVote(), description="How the decisions of the metrics are counted."
    )
    features: Literal["embeddings", "columns"] | tuple[str, ...] = Field(
        "embeddings",
        description="What of the samples is compared: `embeddings` by the newest model, all numeric `columns`, or the "
        "columns of a list.",
    )

    @model_validator(mode="after")
    def _check_features(self) -> Self:
        if isinstance(self.features, tuple) and not self.features:
            raise ValueError("features: the list is empty; expected names of columns, or `columns` for all of them")
        return self

    @model_validator(mode="after")
    def _check_votes(self) -> Self:
        try:
            self.aggregation_strategy.check(len(self.metrics))
        except ValueError as error:
            raise ValueError(f"aggregation_strategy: {error}") from error
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        names = [name for name, metric in self.metrics.items() if metric.decision_criterion.needs_calibration]
        if names and not (self.warmup_policy and self.warmup_intervals):
            raise ValueError(
                f"the criteria of {', '.join(names)} compare with earlier measurements, which the warm-up makes; "
                "expected warmup_intervals of at least 1 and a warmup_policy, or criteria that need no earlier ones"
            )
        return self

    @property
    def needs_model(self) -> bool:
        return self.features == "embeddings"

    def evaluate(self, state: DriftState, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        if not self.needs_model and interval.number == 0:
            self._features(interval.keys[:1], None, observe)  # a wrong column is better known before the first training
        windows = self.windowing_strategy.add(state.windows, Samples(interval.keys, interval.timestamps))
        measured = state.measured
        compared, note = self._compared(windows, state.model, observe)
        if compared is None:
            findings = tuple(Finding(name, note=note) for name in self.metrics)
        else:
            results = self._judge(compared, measured, interval.number, observe)
            measured = self._remembered(measured, results)
            findings = tuple(_finding(name, result, note, warming_up=warming_up) for name, result in results.items())
        if warming_up:
            windows = self.windowing_strategy.after_training(windows)
        decision = self.aggregation_strategy.decide([finding.decision for finding in findings])
        reason = f"no drift: {note}" if compared is None else _reason(decision, findings)
        return Verdict(state.but(windows=windows, measured=measured), decision, reason, findings)

    def trained(self, state: DriftState, outcome: TrainingOutcome) -> DriftState:
        return state.but(windows=self.windowing_strategy.after_training(state.windows))

    def _compared(self, windows: Windows, model: str | None, observe: Observer) -> tuple[Compared | None, str]:
        """Features of both windows, or None and the reason why there are none; a note if some are left out."""
        if self.needs_model and model is None:
            return None, "there is no model yet"
        keys = {
            name: steady_sample(samples, self.sample_size)
            for name, samples in (
                ("reference", windows.reference),
                ("current", self.windowing_strategy.current(windows)),
            )
        }
        for name, chosen in keys.items():
            if not len(chosen):
                return None, f"the {name} window is empty"
        features = {name: self._features(chosen, model, observe) for name, chosen in keys.items()}
        for name, rows in features.items():
            if not len(rows):
                return None, f"all samples of the {name} window are deleted"
        finite = {name: rows[np.isfinite(rows).all(axis=1)] for name, rows in features.items()}
        for name, rows in finite.items():
            if not len(rows):
                return None, f"all samples of the {name} window hold missing or infinite numbers"
        left_out = sum(map(len, features.values())) - sum(map(len, finite.values()))
        note = f"{left_out:,} samples with missing or infinite numbers are left out" if left_out else ""
        return Compared(**finite), note

    def _features(self, keys: Int64Array, model: str | None, observe: Observer) -> Features:
        if self.needs_model:
            assert model is not None
            return observe.embeddings(keys, model)
        names = self.features if isinstance(self.features, tuple) else ()
        return observe.columns(keys, names)

    def _judge(self, compared: Compared, measured: Measured, number: int, observe: Observer) -> dict[str, TestResult]:
        return {
            name: metric.decision_criterion.judge(
                metric,
                compared.reference,
                compared.current,
                earlier=measured.get(name, ()),
                rng=observe.generator(number),  # each metric the same: none depends on which others there are
            )
            for name, metric in self.metrics.items()
        }

    def _remembered(self, measured: Measured, results: dict[str, TestResult]) -> Measured:
        """The last measurements of each metric, as many as its criterion wants."""
        remembered = {}
        for name, metric in self.metrics.items():
            if memory := metric.decision_criterion.memory:
                statistic = results[name].statistic
                new = (statistic,) if isfinite(statistic) else ()
                remembered[name] = (*measured.get(name, ()), *new)[-memory:]
        return remembered


def _finding(name: str, result: TestResult, note: str, *, warming_up: bool) -> Finding:
    """What a metric says; during the warm-up it has no vote."""
    statistic = result.statistic if isfinite(result.statistic) else None
    notes = ("warm-up" if warming_up else "", result.note, note)
    decision = result.rejects and not warming_up
    return Finding(name, statistic, result.threshold, result.p_value, decision, "; ".join(filter(None, notes)))


def _reason(decision: bool, findings: tuple[Finding, ...]) -> str:
    """Such as ``drift: mmd 0.0123 > 0.0087 (p = 0.01); 1 of 1 votes``."""
    votes = f"{sum(finding.decision for finding in findings)} of {len(findings)} votes"
    return f"{'drift' if decision else 'no drift'}: {', '.join(map(_explained, findings))}; {votes}"


def _explained(finding: Finding) -> str:
    words = [finding.name]
    if finding.statistic is not None:
        words.append(f"{finding.statistic:.4g}")
        if finding.threshold is not None:
            words.append(f"{_relation(finding.statistic, finding.threshold)} {finding.threshold:.4g}")
    brackets = [] if finding.p_value is None else [f"p = {finding.p_value:.3g}"]
    if finding.statistic is None and finding.note:
        brackets.append(finding.note)
    elif finding.threshold is None:
        brackets.append("undecided")  # the finding's note says why
    return " ".join(words) + (f" ({'; '.join(brackets)})" if brackets else "")


def _relation(left: float, right: float) -> str:
    if left == right:
        return "="
    return ">" if left > right else "<"

"""Triggers that look at outcomes as labels become known: what they share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator, model_validator

from modyn.core.config.problems import relation_error
from modyn.core.durations import Duration
from modyn.core.plugins.evaluation import METRICS, Metric, Outcomes
from modyn.core.plugins.performance import Errors, Measured, Outlook
from modyn.core.plugins.triggers import Observer, TrainingOutcome
from modyn.supervisor.performance.evaluation import PublishedEvaluation
from modyn.supervisor.performance.forecasting import ForecastingMethod, appended, forecast
from modyn.supervisor.performance.labels import Learned, PendingLabels, joined
from modyn.supervisor.triggers.interruption import InterruptibleState, InterruptibleTrigger
from modyn.supervisor.triggers.intervals import DEFAULT_DATA_POINTS, Interval

Series = tuple[float, ...]
Scores = dict[str, float | None]


class LabelAwareState(InterruptibleState):
    """What it takes to score predictions when their labels come.

    Attributes:
        pending: samples that wait for labels.
        live: the model that makes predictions.
        scores: metric -> its values since the last training, oldest first, of the newest model.
        accuracies: the same of accuracy.
        first_accuracies: of each model, over the first labels of its predictions, about an interval of them.
        first_scored: number of the newest model among them.
        first_right, first_known: how many of its predictions were right of those that are counted in that.
        densities: samples per second of data time in each interval.
        density_clock: largest event time when the last density was measured.
    """

    pending: PendingLabels = PendingLabels()
    live: str | None = None
    scores: dict[str, Series] = Field(default_factory=dict)
    accuracies: Series = ()
    first_accuracies: Series = ()
    first_scored: int = -1
    first_right: int = 0
    first_known: int = 0
    densities: Series = ()
    density_clock: int | None = None


class Measurement(NamedTuple):
    """What an interval brought.

    Attributes:
        state: the new one.
        measured: None if no label became known that counts.
        note: why nothing was measured, for people; may be empty.
    """

    state: Any
    measured: Measured | None
    note: str = ""


_OF_EARLIER_MODELS = "the labels that became known are of earlier models' predictions"


class LabelAwareTrigger(InterruptibleTrigger):
    """A trigger that scores predictions once, when their labels become known.

    The samples of an interval are remembered with the model that is live when the interval is complete, so that no
    model is judged by samples that it was trained on; before there is a model they are not. At each evaluation the
    labels known by then, on the data clock, are scored. Decisions are about the newest model alone: what earlier models
    did wrong has been answered by a training, and once such a model was scored, it is asked no more. During the warm-up
    their outcomes count too, so that criteria are calibrated.
    """

    state_type = LabelAwareState

    data_density_window_size: PositiveInt = Field(
        20, description="Intervals from which the number of samples to come is forecast (`mode: lookahead`)."
    )
    performance_triggers_window_size: PositiveInt = Field(
        10, description="Evaluations from which scores are forecast, and models from which the expected accuracy is."
    )
    evaluation: PublishedEvaluation | None = Field(
        None, description="The published way to write `metrics`: its `dataset.metrics`."
    )
    metrics: list[Annotated[Metric, METRICS.field()]] | None = Field(
        None, min_length=1, description="What predictions are scored with; by default accuracy."
    )
    mode: Literal["hindsight", "lookahead"] = Field(
        "hindsight",
        description="Whether only what happened counts, or also what is forecast until the next evaluation.",
    )
    forecasting_method: ForecastingMethod = Field(
        "ridge_regression", description="How series are continued; with fewer than 5 values by their mean."
    )
    label_delay: Duration | None = Field(
        None,
        description="Simulates labels that come late: one counts only when so much data time has passed since the "
        "sample's event time. By default labels count from when storage has them.",
    )
    label_timeout: Duration | None = Field(
        None,
        description="A sample whose label is not known when so much data time has passed since its event time is "
        "forgotten. By default it is waited for for ever.",
    )

    @field_validator("metrics")
    @classmethod
    def _check_names_differ(cls, metrics: list[Metric] | None) -> list[Metric] | None:
        names = [metric.result_name for metric in metrics or ()]
        repeated = [i for i, name in enumerate(names) if name in names[:i]]
        if repeated:
            raise relation_error(((i,), f"another metric already reports {names[i]!r}; remove one") for i in repeated)
        return metrics

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.metrics is not None and self.evaluation is not None:
            raise ValueError("metrics and evaluation.dataset.metrics say the same; keep metrics")
        own = [metric for metric in self.scored_metrics if metric.user_code is not None]
        if own:
            raise ValueError(
                f"metric {own[0].result_name} runs code of your own, which only evaluations do; name a built-in "
                "metric, without evaluation_transformer_function"
            )
        if self.label_timeout is not None and self.label_timeout <= (self.label_delay or 0):
            raise ValueError("label_timeout has to be longer than label_delay, or no label would ever count")
        return self

    @property
    def needs_model(self) -> bool:
        return True

    @property
    def scored_metrics(self) -> list[Metric]:
        """What predictions are scored with."""
        if self.evaluation is not None:
            return self.evaluation.dataset.metrics
        return self.metrics or [METRICS.get("Accuracy")()]

    def metrics_by_name(self) -> dict[str, Metric]:
        """Metrics under the names that criteria may use: result names, and plug-in names that belong to one."""
        metrics = self.scored_metrics
        plugins = [metric.plugin_name for metric in metrics]
        unique = {metric.plugin_name: metric for metric in metrics if plugins.count(metric.plugin_name) == 1}
        return unique | {metric.result_name: metric for metric in metrics}

    def measure(self, state: Any, interval: Interval, observe: Observer, *, warming_up: bool) -> Measurement:
        """Remembers an interval's samples and scores what became known; ``state`` is a :class:`LabelAwareState`."""
        state = self._with_density(state, interval)
        if state.model is None:
            return Measurement(state, None, "there is no model yet")
        fresh = self.not_trained_on(state, interval)
        pending = state.pending.remember(fresh.keys, fresh.timestamps, state.model)
        if not warming_up:  # of earlier models only the first scores count, for the expected accuracy
            counted = state.first_known >= len(interval.keys)
            pending = pending.forget_models_before(min(pending.newest, state.first_scored + counted))
        forgotten = len(state.pending.keys) + len(fresh.keys) - len(pending.keys)
        needs_scores = any(metric.needs_scores for metric in self.scored_metrics)
        pending, learned = pending.learn(
            observe,
            clock=interval.data_clock,
            delay=self.label_delay,
            scores=needs_scores,
            newest_key=int(interval.keys.max()),
        )
        if self.label_timeout is not None:
            pending = pending.forget_before(interval.data_clock - self.label_timeout)
        state = self._with_first_accuracies(
            state.but(pending=pending, live=state.model), learned, enough=len(interval.keys)
        )
        if not learned:
            return Measurement(state, None, _OF_EARLIER_MODELS if forgotten else "no label became known")
        errors, scores = np.empty(0, dtype=np.bool_), None
        if learned[-1].number == pending.newest:
            newest = learned[-1].outcomes
            errors, scores = _errors(newest), self._scores(newest)
            state = self._with_scores(state, scores, _accuracy(newest))
        if warming_up and (scores is None or len(learned) > 1):
            scores = self._scores(joined(learned))
        if scores is None:
            return Measurement(state, None, _OF_EARLIER_MODELS)
        named = {name: scores[metric.result_name] for name, metric in self.metrics_by_name().items()}
        return Measurement(state, Measured(named, errors, self._expected_accuracy(state), self._outlook(state)))

    def trained(self, state: Any, outcome: TrainingOutcome) -> Any:
        """Gives samples that the training took to the model before it, and starts the series of scores afresh: the
        break that a new model makes costs forecasts more than a short series does."""
        seen = self.already_trained_on(state)
        state = super().trained(state, outcome)
        if state.live is not None and len(state.keys) > seen:
            pending = state.pending.remember(state.keys[seen:], state.timestamps[seen:], state.live)
            state = state.but(pending=pending)
        return state if outcome.model is None else state.but(live=outcome.model, scores={}, accuracies=())

    def _scores(self, outcomes: Outcomes) -> Scores:
        return {metric.result_name: metric.score(outcomes) for metric in self.scored_metrics}

    def _with_scores(self, state: Any, scores: Scores, accuracy: float) -> Any:
        size = self.performance_triggers_window_size
        series = dict(state.scores)
        for name, score in scores.items():
            if score is not None:
                series[name] = appended(series.get(name, ()), score, size)
        return state.but(scores=series, accuracies=appended(state.accuracies, accuracy, size))

    def _with_first_accuracies(self, state: Any, learned: tuple[Learned, ...], *, enough: int) -> Any:
        """Counts the first labels of each model's predictions until there are enough: a handful says little."""
        for part in learned:
            series, right, known = state.first_accuracies, state.first_right, state.first_known
            if part.number > state.first_scored:
                series, right, known = (*series, 0.0), 0, 0
            elif part.number < state.first_scored or known >= enough:
                continue
            right += len(part.outcomes) - int(np.count_nonzero(_errors(part.outcomes)))
            known += len(part.outcomes)
            series = (*series[:-1], right / known)[-self.performance_triggers_window_size :]
            state = state.but(first_accuracies=series, first_scored=part.number, first_right=right, first_known=known)
        return state

    def _with_density(self, state: Any, interval: Interval) -> Any:
        """Densities go on across trainings: how fast data comes has nothing to do with the model."""
        clock, before = interval.data_clock, state.density_clock
        if before is None or clock <= before:
            return state.but(density_clock=clock)
        densities = appended(state.densities, len(interval.keys) / (clock - before), self.data_density_window_size)
        return state.but(densities=densities, density_clock=clock)

    def _expected_accuracy(self, state: Any) -> float | None:
        if not state.first_accuracies:
            return None
        return min(1.0, max(0.0, forecast(state.first_accuracies, self.forecasting_method)))

    def _outlook(self, state: Any) -> Outlook | None:
        if self.mode == "hindsight" or not state.accuracies:
            return None
        method = self.forecasting_method
        names = self.metrics_by_name().items()
        scores = {
            name: forecast(state.scores[metric.result_name], method)
            for name, metric in names
            if metric.result_name in state.scores
        }
        density = max(0.0, forecast(state.densities, method)) if state.densities else 0.0
        if self.evaluation_interval is not None:
            samples, seconds = density * self.evaluation_interval, float(self.evaluation_interval)
        else:
            samples = float(self.evaluation_interval_data_points or DEFAULT_DATA_POINTS)
            seconds = samples / density if density else 0.0
        return Outlook(scores, forecast(state.accuracies, method), samples, seconds)


def _errors(outcomes: Outcomes) -> Errors:
    errors: Errors = outcomes.labels != outcomes.predictions
    return errors


def _accuracy(outcomes: Outcomes) -> float:
    return 1.0 - float(np.count_nonzero(_errors(outcomes))) / len(outcomes)

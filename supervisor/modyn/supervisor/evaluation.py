"""Decides which models are scored on which windows, asks the evaluator, and journals what it says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modyn.core.config.pipeline import EvaluationDataset, EvaluationHandler, evaluation_datasets
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import METRICS, TrainedInterval, Window, WindowContext
from modyn.core.values import to_value
from modyn.evaluator.composite import active_and_trained
from modyn.proto import evaluator_pb2 as evaluator_pb
from modyn.proto import supervisor_pb2 as pb
from modyn.proto.common_pb2 import CodeOrigin, Interval
from modyn.supervisor.context import RunContext
from modyn.supervisor.datasets import Datasets
from modyn.supervisor.journal import ScoreRow, TriggerRow, WindowRow, baseline_subject, trigger_subject


@dataclass(frozen=True)
class Target:
    """A window of a handler, and the triggers whose models are to be scored on it."""

    handler: str
    window: Window
    triggers: frozenset[int]


class Evaluations:
    """The evaluations of one pipeline. Every (model, window) pair is asked for once."""

    def __init__(self, run: RunContext) -> None:
        self._pipeline_id = run.pipeline_id
        self._config = config = run.config
        self._options = run.options
        self._peers = run.peers
        self._journal = run.journal
        self._events = run.events
        self._stop = run.stop
        self._datasets = {dataset.dataset_id: dataset for dataset in evaluation_datasets(config)}
        self._handlers = list(config.evaluation.handlers) if config.evaluation else []
        self._end_keys: dict[str, int] = {}
        self._origins: dict[str, int] = {}
        self._done: set[tuple[str, str, Window, int]] = set()
        self._with_baselines: set[tuple[str, str, Window]] = set()
        self.compute_seconds = 0.0
        """Spent predicting and scoring, waiting and bookkeeping excluded."""
        self.reused_seconds = 0.0
        """What the predictions that were reused once took."""

    def prepare(self, datasets: Datasets, run_end_key: int | None) -> None:
        """Makes the evaluation datasets ready, so that a wrong one is reported before anything is trained."""
        for position, dataset in enumerate(self._datasets.values()):
            end_key = datasets.ensure(dataset, f"evaluation.datasets[{position}]")
            same = dataset.dataset_id == self._config.data.dataset_id
            self._end_keys[dataset.dataset_id] = run_end_key if same and run_end_key is not None else end_key
        self._inventory = datasets
        for handler in self._handlers:
            if handler.execution_time == "manual":
                self._events.add(notice=f"evaluation handler {handler.name!r} is manual and not run by the pipeline")

    def after_training(self, triggers: Sequence[TriggerRow], data_clock: int) -> float:
        """Scores what became possible by a training; answers wall seconds.

        In a replay all windows lie before us; live, only those complete by now (their end has passed).
        """
        handlers = [handler for handler in self._handlers if handler.execution_time == "after_training"]
        return self._evaluate(handlers, triggers, complete_until=data_clock if self._options.live else None)

    def after_pipeline(self, triggers: Sequence[TriggerRow]) -> float:
        """Scores everything that is still missing; answers wall seconds."""
        handlers = [handler for handler in self._handlers if handler.execution_time != "manual"]
        return self._evaluate(handlers, triggers, complete_until=None)

    def _evaluate(
        self, handlers: Sequence[EvaluationHandler], triggers: Sequence[TriggerRow], complete_until: int | None
    ) -> float:
        started = time.perf_counter()
        trained = [trigger for trigger in triggers if trigger.model is not None]
        for name, dataset in self._datasets.items():
            wanted = [handler for handler in handlers if handler.datasets is None or name in handler.datasets]
            if wanted:
                if self._options.live:
                    self._end_keys[name] = self._inventory.end_key(name)
                targets = self._targets(wanted, name, trained, complete_until)
                if targets:
                    self._request(dataset, targets, {t.trigger_index: str(t.model) for t in trained})
        return time.perf_counter() - started

    def _targets(
        self,
        handlers: Sequence[EvaluationHandler],
        dataset: str,
        trained: Sequence[TriggerRow],
        complete_until: int | None,
    ) -> list[Target]:
        span = self._inventory.span(dataset, self._end_keys[dataset])
        if span is None:
            return []
        # Windows are counted from where the data began when they were first laid; a late sample must not move them.
        span = (self._origins.setdefault(dataset, span[0]), span[1])
        context = WindowContext(*span, triggers=_trained_intervals(trained))
        targets: list[Target] = []
        for handler in handlers:
            windows = handler.strategy.windows(context)
            if complete_until is not None:
                # Where the data end, a window is cut short and not complete, however late it is elsewhere.
                windows = [window for window in windows if window.end <= min(complete_until, span[1])]
            for window, wanted in zip(windows, _wanted_models(handler, windows, trained), strict=True):
                missing = frozenset(i for i in wanted if (handler.name, dataset, window, i) not in self._done)
                if missing or (handler.name, dataset, window) not in self._with_baselines:
                    targets.append(Target(handler.name, window, missing))
        return targets

    def _request(self, dataset: EvaluationDataset, targets: Sequence[Target], models: dict[int, str]) -> None:
        intervals = sorted({(target.window.start, target.window.end) for target in targets})
        position = {interval: index for index, interval in enumerate(intervals)}
        windows_of: dict[str, set[int]] = {}
        for target in targets:
            for trigger in target.triggers:
                windows_of.setdefault(models[trigger], set()).add(position[target.window.start, target.window.end])
        evaluation = self._config.evaluation
        assert evaluation is not None, "there are no handlers without an evaluation section"
        name = dataset.dataset_id
        request = evaluator_pb.EvaluateRequest(
            pipeline_id=str(self._pipeline_id),
            dataset=name,
            data=to_value(dataset.model_dump(mode="json", exclude={"metrics", "batch_size"})),
            model=to_value(self._config.model.model_dump(mode="json")),
            metrics=[to_value(METRICS.dump(metric)) for metric in dataset.metrics],
            windows=[evaluator_pb.EvaluationWindow(interval=Interval(start=s, end=e)) for s, e in intervals],
            models=[evaluator_pb.ModelWindows(model=m, windows=sorted(w)) for m, w in sorted(windows_of.items())],
            batch_size=dataset.batch_size,
            device=evaluation.device,
            threads=self._config.training.threads,
            reuse=self._options.reuse,
            # Once a window: they do not depend on models.
            baselines=any((target.handler, name, target.window) not in self._with_baselines for target in targets),
            code=CodeOrigin(root=self._options.code_root),
            end_key=self._end_keys[name],
            seed=self._config.training.seed,
        )
        self._collect(name, request, targets, models, intervals)

    def _collect(
        self,
        dataset: str,
        request: evaluator_pb.EvaluateRequest,
        targets: Sequence[Target],
        models: dict[int, str],
        intervals: Sequence[tuple[int, int]],
    ) -> None:
        at: dict[tuple[int, int], list[Target]] = {}
        for target in targets:
            at.setdefault((target.window.start, target.window.end), []).append(target)
        windows: list[WindowRow] = []
        scores: list[ScoreRow] = []
        handlers = ", ".join(sorted({target.handler for target in targets}))
        status = pb.EvaluationStatus(handler=handlers, dataset=dataset)
        stream = self._peers.evaluator.Evaluate(request)
        with self._stop.cancellable(stream, on_stop=False):
            for event in stream:
                match event.WhichOneof("kind"):
                    case "progress":
                        status.predictions, status.total = event.progress.samples, event.progress.total
                        self._events.add(progress=True, evaluation=status)
                    case "scores":
                        said = event.scores
                        for target in at[intervals[said.window]]:
                            counts = (said.num_samples, said.num_unlabelled)
                            windows.append(WindowRow(target.handler, dataset, target.window, *counts))
                            scores += _score_rows(dataset, target, said, models)
                    case "failure":
                        self._fail(dataset, event.failure, models)
                    case "notice":
                        self._events.add(notice=event.notice)
                    case "done":
                        self.compute_seconds += event.done.predict_seconds + event.done.score_seconds
                        self.reused_seconds += event.done.reused_seconds
                        status.predictions = status.total = event.done.predictions + event.done.reused_predictions
        status.done = True
        self._events.add(evaluation=status)
        self._journal.add_scores(self._pipeline_id, windows, scores)
        for target in targets:
            self._done.update((target.handler, dataset, target.window, index) for index in target.triggers)
            self._with_baselines.add((target.handler, dataset, target.window))

    def _fail(self, dataset: str, failure: evaluator_pb.EvaluateFailure, models: dict[int, str]) -> None:
        indices = [str(index) for index, model in models.items() if model == failure.model]
        message = f"evaluation of the model of trigger {', '.join(indices)} on {dataset!r} failed: {failure.message}"
        self._journal.add_failure(self._pipeline_id, message)
        self._events.add(notice=message)


def _score_rows(
    dataset: str, target: Target, said: evaluator_pb.WindowScores, models: dict[int, str]
) -> list[ScoreRow]:
    if said.WhichOneof("subject") == "baseline":
        subjects = [baseline_subject(said.baseline)]
    else:  # two triggers may have trained the same model
        subjects = [trigger_subject(i) for i in sorted(target.triggers) if models[i] == said.model]
    return [
        ScoreRow(
            target.handler,
            dataset,
            target.window,
            subject,
            metric.name,
            metric.value if metric.HasField("value") else None,
        )
        for subject in subjects
        for metric in said.metrics
    ]


def _wanted_models(
    handler: EvaluationHandler, windows: Sequence[Window], trained: Sequence[TriggerRow]
) -> list[set[int]]:
    """Per window, the triggers whose models the handler wants on it."""
    indices = [trigger.trigger_index for trigger in trained]
    if handler.models == "matrix":
        return [set(indices) for _ in windows]
    anchors = np.array([window.anchor for window in windows], dtype=np.int64)
    ends = np.array([trigger.last_timestamp for trigger in trained], dtype=np.int64)
    active, current = active_and_trained(anchors, ends)
    chosen = [
        (a if handler.models != "training" else None, c if handler.models != "active" else None)
        for a, c in zip(active, current, strict=True)
    ]
    return [{indices[model] for model in models if model is not None} for models in chosen]


def _trained_intervals(trained: Sequence[TriggerRow]) -> list[TrainedInterval]:
    intervals: list[TrainedInterval] = []
    for trigger in trained:
        if trigger.first_timestamp is None or trigger.last_timestamp is None:
            raise InvalidInputError(f"trigger {trigger.trigger_index} has no data")
        intervals.append(TrainedInterval(trigger.trigger_index, trigger.first_timestamp, trigger.last_timestamp))
    return intervals

"""Decides which models are scored on which windows, and asks the evaluator."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import TypeAlias

import numpy as np

from modyn.core.config.pipeline import DataSection, EvaluationDataset, EvaluationHandler, evaluation_datasets
from modyn.core.errors import CancelledError, InvalidInputError, ModynError
from modyn.core.plugins.evaluation import METRICS, TrainedInterval, Window, WindowContext
from modyn.core.values import to_value
from modyn.evaluator.composite import active_and_trained
from modyn.proto import evaluator_pb2 as evaluator_pb
from modyn.proto import supervisor_pb2 as pb
from modyn.proto.common_pb2 import CodeOrigin, Interval
from modyn.supervisor.answers import Answers, Target
from modyn.supervisor.composites import moments_live
from modyn.supervisor.context import RunContext
from modyn.supervisor.datasets import Datasets
from modyn.supervisor.handlers import Extent, extents_tree
from modyn.supervisor.journal import Journal, TriggerRow
from modyn.supervisor.rows import FailureRow, trigger_of

_Failed: TypeAlias = tuple[str, str, int | None, int | None, int | None]
"""Handler, dataset, trigger, start and end of what failed; None: all of them."""


@dataclass
class Done:
    """What need not be asked for any more.

    Attributes:
        pairs: handler, dataset, window and trigger whose model was scored on it.
        baselines: handler, dataset and window with its baselines.
        empty: those in which there is nothing that could be scored.
        failures: that a new attempt outdates, by handler and dataset.
        digests: of the data of windows that models were scored on.
    """

    pairs: set[tuple[str, str, Window, int]] = field(default_factory=set)
    baselines: set[tuple[str, str, Window]] = field(default_factory=set)
    empty: set[tuple[str, str, Window]] = field(default_factory=set)
    failures: dict[tuple[str, str], list[FailureRow]] = field(default_factory=dict)
    digests: dict[tuple[str, str, Window], str] = field(default_factory=dict)

    @staticmethod
    def of_journal(journal: Journal, pipeline_id: int) -> Done:
        """What earlier evaluations of a pipeline did. What failed then is not done."""
        done = Done()
        for failure in journal.failure_rows(pipeline_id):
            if failure.handler is not None and failure.dataset is not None:
                done.failures.setdefault((failure.handler, failure.dataset), []).append(failure)
        failed = {
            (handler, dataset, failure.trigger_index, failure.start, failure.end)
            for (handler, dataset), failures in done.failures.items()
            for failure in failures
        }
        digests: dict[tuple[str, str, Window], str | None] = {}
        for row in journal.windows(pipeline_id):
            place = (row.handler, row.dataset, row.window)
            digests[place] = row.data_digest
            if row.baselines and not _has_failed(failed, *place, None):
                done.baselines.add(place)
                if not row.samples and not row.unlabelled:
                    done.empty.add(place)
        for handler, dataset, window, subject in journal.scored(pipeline_id):
            index = trigger_of(subject)
            if index is not None and not _has_failed(failed, handler, dataset, window, index):
                done.pairs.add((handler, dataset, window, index))
                if (digest := digests.get((handler, dataset, window))) is not None:
                    done.digests[handler, dataset, window] = digest
        return done


class Evaluations:
    """The evaluations of one pipeline's section. Every (model, window) pair is asked for once.

    Args:
        run: the pipeline, whose configuration has the section.
        extents: how much of its datasets is looked at, where that was laid down.
        done: earlier.
        later: the pipeline has ended.
        again: also score what was scored already.
    """

    def __init__(
        self,
        run: RunContext,
        *,
        extents: Mapping[str, Extent] | None = None,
        done: Done | None = None,
        later: bool = False,
        again: bool = False,
    ) -> None:
        self._pipeline_id = run.pipeline_id
        self._config = config = run.config
        self._options = run.options
        self._peers = run.peers
        self._journal = run.journal
        self._events = run.events
        self._stop = run.stop
        self._datasets = {dataset.dataset_id: dataset for dataset in evaluation_datasets(config)}
        self._handlers = list(config.evaluation.handlers) if config.evaluation else []
        self._extents = dict(extents or {})
        self._done = done or Done()
        self._later = later
        self._again = again

    def prepare(self, datasets: Datasets, run_end_key: int | None) -> dict[str, Extent]:
        """Makes the evaluation datasets ready, so that a wrong one is reported before anything is trained.

        Args:
            datasets: registers and ingests them.
            run_end_key: of the training dataset, only samples below it are looked at; None: all.

        Returns:
            How much of each dataset is looked at.
        """
        for position, dataset in enumerate(self._datasets.values()):
            name = dataset.dataset_id
            end_key = datasets.ensure(dataset, f"evaluation.datasets[{position}]", known=self._later)
            if name == self._config.data.dataset_id and run_end_key is not None:
                end_key = run_end_key
            self._extents.setdefault(name, Extent(end_key))
        self._inventory = datasets
        for name in self._datasets:
            self._span(name)
        if self._later:
            return dict(self._extents)
        self._keep_extents()
        for handler in self._handlers:
            if handler.execution_time == "manual":
                self._events.add(
                    notice=f"evaluation handler {handler.name!r} is manual and not run by the pipeline; "
                    f"`modyn-client evaluate {self._pipeline_id} --handler {quote(handler.name)}` runs it at any time"
                )
        return dict(self._extents)

    def after_training(self, triggers: Sequence[TriggerRow], data_clock: int) -> float:
        """Scores what became possible by a training; answers wall seconds.

        In a replay all windows lie before us; live, only those complete by now (their end has passed).
        """
        handlers = [handler for handler in self._handlers if handler.execution_time == "after_training"]
        return self._evaluate(handlers, triggers, complete_until=data_clock if self._options.live else None)

    def after_pipeline(self, triggers: Sequence[TriggerRow]) -> float:
        """Scores everything that is still missing; answers wall seconds."""
        return self._complete([handler for handler in self._handlers if handler.execution_time != "manual"], triggers)

    def missing(self, triggers: Sequence[TriggerRow]) -> float:
        """Scores everything that is missing of all handlers, manual ones too; answers wall seconds."""
        return self._complete(self._handlers, triggers)

    def _complete(self, handlers: Sequence[EvaluationHandler], triggers: Sequence[TriggerRow]) -> float:
        seconds = self._evaluate(handlers, triggers, complete_until=None)
        for handler in handlers:
            if handler.execution_time == "after_training":
                self._drop_outdated(handler, _trained(triggers))
        return seconds

    def _evaluate(
        self, handlers: Sequence[EvaluationHandler], triggers: Sequence[TriggerRow], complete_until: int | None
    ) -> float:
        started = time.perf_counter()
        errors: list[ModynError] = []
        trained = _trained(triggers)
        for name, dataset in self._datasets.items():
            wanted = [handler for handler in handlers if handler.datasets is None or name in handler.datasets]
            if wanted:
                if self._options.live and not self._later:
                    extent = self._extents[name]
                    self._extents[name] = replace(extent, end_key=self._inventory.end_key(name))
                targets = self._targets(wanted, name, trained, complete_until)
                if not self._later:
                    self._keep_extents()
                if targets:
                    try:
                        self._request(dataset, targets, {t.trigger_index: str(t.model) for t in trained})
                    except CancelledError:
                        raise
                    except ModynError as error:
                        if not self._later:
                            raise
                        errors.append(error)  # other datasets may do
        if errors:
            for other in errors[1:]:  # only one can be raised
                self._events.add(notice=other.message)
            raise errors[0]
        return time.perf_counter() - started

    def _keep_extents(self) -> None:
        self._journal.update_pipeline(self._pipeline_id, evaluated_extents=extents_tree(self._extents))

    def _targets(
        self,
        handlers: Sequence[EvaluationHandler],
        dataset: str,
        trained: Sequence[TriggerRow],
        complete_until: int | None,
    ) -> list[Target]:
        context = self._context(dataset, trained)
        if context is None:
            return []
        targets: list[Target] = []
        for handler in handlers:
            windows = handler.strategy.windows(context)
            if complete_until is not None:
                # Where the data end, a window is cut short and not complete, however late it is elsewhere.
                windows = [window for window in windows if window.end <= min(complete_until, context.last_timestamp)]
            targets += self._missing_of(handler, dataset, self._laid(handler, windows, trained))
        return targets

    def _context(self, dataset: str, trained: Sequence[TriggerRow]) -> WindowContext | None:
        """What strategies lay windows over; None: there are no samples."""
        span = self._span(dataset)
        return None if span is None else WindowContext(*span, triggers=_trained_intervals(trained))

    def _span(self, dataset: str) -> tuple[int, int] | None:
        """Where windows may lie, first and last second; None: there are no samples."""
        extent = self._extents[dataset]
        span = self._inventory.span(dataset, extent.end_key)
        if span is None:
            return None
        # Windows are counted from where the data began when they were first laid; a late sample must not move them.
        origin = span[0] if extent.origin is None else extent.origin
        self._extents[dataset] = replace(extent, origin=origin)
        return origin, span[1]

    def _laid(
        self, handler: EvaluationHandler, windows: Sequence[Window], trained: Sequence[TriggerRow]
    ) -> list[Target]:
        """One target for each place, with all that the handler wants there."""
        assert self._config.evaluation is not None, "there are no handlers without an evaluation section"
        live = moments_live(self._config.evaluation.training_latency, trained)
        targets: dict[Window, Target] = {}
        for window, wanted in zip(windows, _wanted_models(handler, windows, trained, live), strict=True):
            target = targets.get(window.place, Target(handler.name, window.place, frozenset()))
            offsets = target.offsets
            if window.trigger_index is not None:
                offsets = (*offsets, (window.trigger_index, window.offset))
            targets[window.place] = replace(target, triggers=target.triggers | wanted, offsets=offsets)
        return list(targets.values())

    def _missing_of(self, handler: EvaluationHandler, dataset: str, laid: Sequence[Target]) -> list[Target]:
        if self._again:
            return list(laid)
        missing: list[Target] = []
        for target in laid:
            place = (handler.name, dataset, target.window)
            if place in self._done.empty:
                continue
            triggers = frozenset(index for index in target.triggers if (*place, index) not in self._done.pairs)
            if triggers or place not in self._done.baselines:
                missing.append(replace(target, triggers=triggers))
        return missing

    def _request(self, dataset: EvaluationDataset, targets: Sequence[Target], models: dict[int, str]) -> None:
        evaluation = self._config.evaluation
        assert evaluation is not None, "there are no handlers without an evaluation section"
        name = dataset.dataset_id
        answers = Answers(
            self._journal,
            self._pipeline_id,
            name,
            targets,
            models,
            again=self._again,
            later=self._later,
            digests=self._done.digests,
        )
        position = {interval: index for index, interval in enumerate(answers.intervals)}
        windows_of: dict[str, set[int]] = {}
        for target in targets:
            for trigger in target.triggers:
                windows_of.setdefault(models[trigger], set()).add(position[target.window.start, target.window.end])
        places = {(target.handler, name, target.window) for target in targets}
        request = evaluator_pb.EvaluateRequest(
            pipeline_id=str(self._pipeline_id),
            dataset=name,
            data=to_value(dataset.model_dump(mode="json", include=set(DataSection.model_fields))),
            model=to_value(self._config.model.model_dump(mode="json")),
            metrics=[to_value(METRICS.dump(metric)) for metric in dataset.metrics],
            windows=[evaluator_pb.EvaluationWindow(interval=Interval(start=s, end=e)) for s, e in answers.intervals],
            models=[evaluator_pb.ModelWindows(model=m, windows=sorted(w)) for m, w in sorted(windows_of.items())],
            batch_size=dataset.batch_size,
            device=evaluation.device,
            threads=self._config.training.threads,
            reuse=self._options.reuse,
            # Once a window: they do not depend on models.
            baselines=self._again or not places <= self._done.baselines,
            code=CodeOrigin(root=self._options.code_root),
            end_key=self._extents[name].end_key,
            seed=self._config.training.seed,
            labels_as_known=evaluation.labels == "known",
            label_delay=evaluation.label_delay or 0,
            confidence=evaluation.confidence,
            slices=dataset.slices,
            confusion=dataset.confusion_matrix,
            test_only=dataset.samples == "test",
        )
        self._collect(request, answers, sorted({target.handler for target in targets}))
        if answers.outdated and not self._again:
            self._events.add(
                notice=f"{len(answers.outdated):,} windows of {name!r} hold other samples or labels than when models "
                "were scored on them before; those scores stay, --again makes all of them anew"
            )
        for target in targets:
            self._done.pairs.update((target.handler, name, target.window, index) for index in target.triggers)
        self._done.baselines |= places
        self._forget_failures({target.handler for target in targets}, name)

    def _collect(self, request: evaluator_pb.EvaluateRequest, answers: Answers, handlers: Sequence[str]) -> None:
        status = pb.EvaluationStatus(handler=", ".join(handlers), dataset=request.dataset)
        stream = self._peers.evaluator.Evaluate(request)
        try:
            with self._stop.cancellable(stream, on_stop=False):
                for event in stream:
                    match event.WhichOneof("kind"):
                        case "metrics":
                            answers.metrics(event.metrics)
                        case "progress":
                            status.predictions, status.total = event.progress.samples, event.progress.total
                            self._events.add(progress=True, evaluation=status)
                            answers.write_if_due()
                        case "scores":
                            answers.scores(event.scores)
                        case "failure":
                            status.failures += 1
                            if (message := answers.failure(event.failure)) is not None:
                                self._events.add(notice=message)
                        case "notice":
                            self._events.add(notice=event.notice)
                        case "done":
                            answers.done(event.done)
                            status.predictions = event.done.predictions + event.done.reused_predictions
                            status.total = status.predictions
        finally:
            answers.write()  # whatever comes, what was scored stays
            for message in answers.more_failures():
                self._events.add(notice=message)
        status.done = True
        self._events.add(evaluation=status)

    def _forget_failures(self, handlers: Collection[str], dataset: str) -> None:
        """Of earlier attempts: what failed again was said again."""
        gone = [failure.id for handler in handlers for failure in self._done.failures.pop((handler, dataset), ())]
        self._journal.forget_failures(gone)

    def _drop_outdated(self, handler: EvaluationHandler, trained: Sequence[TriggerRow]) -> None:
        """Windows that a strategy laid while it knew of fewer trainings than there are now."""
        for name in self._datasets if handler.datasets is None else handler.datasets:
            context = self._context(name, trained)
            if context is None:
                continue
            laid = handler.strategy.windows(context)
            if laid == handler.strategy.windows(replace(context, triggers=())):
                continue  # trainings do not matter to it
            stay = {window.place for window in laid}
            rows = self._journal.windows(self._pipeline_id)
            known = {row.window for row in rows if row.handler == handler.name and row.dataset == name}
            self._journal.drop_windows(self._pipeline_id, handler.name, name, known - stay)


def _wanted_models(
    handler: EvaluationHandler,
    windows: Sequence[Window],
    trained: Sequence[TriggerRow],
    live: Sequence[float] | None,
) -> list[set[int]]:
    """Per window, the triggers whose models the handler wants on it."""
    indices = [trigger.trigger_index for trigger in trained]
    if handler.strategy.belongs_to_models:
        return [{index for index in indices if index == window.trigger_index} for window in windows]
    if handler.models == "matrix":
        return [set(indices) for _ in windows]
    anchors = np.array([window.anchor for window in windows], dtype=np.int64)
    ends = np.array([trigger.last_timestamp for trigger in trained], dtype=np.int64)
    active, current = active_and_trained(anchors, ends, None if live is None else np.array(live))
    chosen = [
        (a if handler.models != "training" else None, c if handler.models != "active" else None)
        for a, c in zip(active, current, strict=True)
    ]
    return [{indices[model] for model in models if model is not None} for models in chosen]


def _trained(triggers: Sequence[TriggerRow]) -> list[TriggerRow]:
    return [trigger for trigger in triggers if trigger.model is not None]


def _trained_intervals(trained: Sequence[TriggerRow]) -> list[TrainedInterval]:
    intervals: list[TrainedInterval] = []
    for trigger in trained:
        if trigger.first_timestamp is None or trigger.last_timestamp is None:
            raise InvalidInputError(f"trigger {trigger.trigger_index} has no data")
        intervals.append(TrainedInterval(trigger.trigger_index, trigger.first_timestamp, trigger.last_timestamp))
    return intervals


def _has_failed(failed: Set[_Failed], handler: str, dataset: str, window: Window, trigger: int | None) -> bool:
    """Whether something failed of the model of a trigger on a window; None: of what is no model's."""
    return any(
        (handler, dataset, index, *span) in failed
        for index in {None, trigger}
        for span in ((None, None), (window.start, window.end))
    )

"""Scoring with code of the user: it runs in a job of its own, so that nothing it does harms the rest."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from modyn.core.config.inline import is_reference
from modyn.core.devices import Caller, Devices
from modyn.core.errors import CancelledError, JobFailedError, ModynError, NotAllowedError
from modyn.core.jobs import Job, JobDescription, JobLauncher
from modyn.core.plugins.evaluation import METRICS, Metric
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.evaluator.handover import write_subject
from modyn.evaluator.request import Evaluation
from modyn.evaluator.store import OutcomeStore
from modyn.evaluator.subjects import Subject
from modyn.evaluator.window_values import MetricResults
from modyn.models.codeidentity import identity_of
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.evaluator_pb2 import ScoredWindow, ScoringAnswer, ScoringJob

ENTRY = "modyn.evaluator.scoring_job:run"

MAX_DEATHS = 3
"""Jobs of one evaluation that may end before they have answered. After that, nothing is scored with the user's code."""

_TRANSFORMER = "evaluation_transformer_function"

Results = dict[tuple[str, str], MetricResults]
"""By result name of the metric, and name of the subset."""


def check_metrics_allowed(metrics: Sequence[Metric], *, allow_user_code: bool) -> None:
    """Refuses inline code where the server was not started with it allowed. References to installed packages are always
    allowed.

    Raises:
        NotAllowedError: names the metric.
    """
    for metric in metrics:
        if not allow_user_code and metric.user_code is not None and not is_reference(metric.user_code):
            raise NotAllowedError(
                f"metrics: {_TRANSFORMER} of {metric.result_name}: this server runs no inline Python; install the code "
                "as a package on the server and name it as module:attribute, or run the pipeline embedded"
            )


def code_digests(metrics: Sequence[Metric], root: str | None) -> dict[str, str | None]:
    """Digests that change whenever the code of a metric does, by result name; of those that run code of the user.

    None: that cannot be told, because it reads what cannot be captured, such as files.

    Args:
        root: folder that user code may be imported from, or None.
    """
    digests: dict[str, str | None] = {}
    for metric in metrics:
        code = metric.user_code
        if code is None:
            continue
        references = [code.strip()] if is_reference(code) else []
        digests[metric.result_name] = identity_of(references, {} if references else {_TRANSFORMER: code}, root).digest
    return digests


class UserScoring:
    """Starts the jobs; one for each evaluation that needs it.

    Args:
        store: whose folder takes what jobs are handed; it is removed at once, or when the server starts again.
        devices: a job takes one slot of the CPU, and only while it scores.
    """

    def __init__(self, state: StateDirectory, launcher: JobLauncher, devices: Devices, store: OutcomeStore) -> None:
        self._state = state
        self._launcher = launcher
        self._devices = devices
        self._store = store
        self._counter = itertools.count()

    @contextlib.contextmanager
    def session(self, evaluation: Evaluation, caller: Caller) -> Iterator[ScoringSession]:
        """What scores during one evaluation; its job ends with it."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"score-{stamp}-{next(self._counter)}.log"
        log = self._state.folder("jobs") / evaluation.pipeline_id / name
        session = ScoringSession(evaluation, self._launcher, self._devices, self._store, caller=caller, log=log)
        try:
            yield session
        finally:
            session.close()


class ScoringSession:
    """Scores subject by subject.

    Attributes:
        waited_seconds: for slots, so far.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        launcher: JobLauncher,
        devices: Devices,
        store: OutcomeStore,
        *,
        caller: Caller,
        log: Path,
    ) -> None:
        self._metrics = [metric for metric in evaluation.metrics if metric.user_code is not None]
        self._launcher = launcher
        self._devices = devices
        self._store = store
        self._caller = caller
        self._log = log
        self._what = f"scoring on {evaluation.dataset!r} with code of your own"
        self._payload = ScoringJob(
            metrics=[to_value(METRICS.dump(metric)) for metric in self._metrics],
            code=CodeOrigin(root=evaluation.root),
            seed=evaluation.seed,
        ).SerializeToString()
        self._job: Job | None = None
        self._events: Iterator[bytes] = iter(())
        self._deaths: list[str] = []
        self.waited_seconds = 0.0

    def score(self, subject: Subject, metrics: Sequence[Metric]) -> Results:
        """The values of some metrics with code of the user. If the job dies, what it has not answered has failed.

        Raises:
            CancelledError: the caller went away.
        """
        sizes = _sizes(subject)
        names = [(metric.result_name, subset) for metric in metrics for subset in sizes]
        results = {name: MetricResults.nothing(sizes[name[1]]) for name in names}
        if not sizes[""]:
            return results
        answered = {name: np.zeros(sizes[name[1]], dtype=np.bool_) for name in names}
        try:
            for answer in self._answers(subject, metrics):
                name = self._metrics[answer.metric].result_name, answer.subset
                answered[name][answer.window] = True
                _fill(results[name], answer)
        except CancelledError:
            raise
        except (ModynError, OSError) as error:
            message = error.message if isinstance(error, ModynError) else f"{self._what} failed: {error}"
            for name in names:
                results[name].failures.update(dict.fromkeys(np.flatnonzero(~answered[name]).tolist(), message))
        return results

    def close(self) -> None:
        """Ends the job, if there is one."""
        self._end_job()
        with contextlib.suppress(FileNotFoundError):
            if not self._log.stat().st_size:
                self._log.unlink()

    def _answers(self, subject: Subject, metrics: Sequence[Metric]) -> Iterator[ScoredWindow]:
        if len(self._deaths) >= MAX_DEATHS:
            raise JobFailedError(f"{self._deaths[-1]}\n(nothing more is tried, as {MAX_DEATHS} jobs ended like this)")
        numbers = [self._metrics.index(metric) for metric in metrics]
        output = self._store.temporary_output()
        try:
            task = write_subject(
                subject,
                output,
                numbers,
                scores=any(metric.needs_scores for metric in metrics),
                targets=any(metric.labels_are == "numbers" for metric in metrics),
            )
            begin = time.perf_counter()
            with self._devices.ticket("cpu", 1) as ticket:
                for _ in ticket.queue(self._caller, "scoring"):
                    pass
                self.waited_seconds += time.perf_counter() - begin
                self._running().send(task.SerializeToString())
                for event in self._events:
                    answer = ScoringAnswer.FromString(event)
                    if answer.HasField("done"):
                        return
                    yield answer.window
                raise JobFailedError(f"{self._what} ended without an answer; see {self._log}")
        except ModynError as error:
            self._deaths.append(error.message)
            self._end_job()
            raise
        finally:
            self._store.discard(output)

    def _running(self) -> Job:
        if self._job is None:
            self._job = self._launcher.launch(
                JobDescription(ENTRY, self._payload, self._log, self._what, receives=True)
            )
            self._caller.kill_when_gone(self._job)
            self._events = self._job.events()
        return self._job

    def _end_job(self) -> None:
        if self._job is None:
            return
        self._job.cancel()
        with contextlib.suppress(ModynError):  # cancelled, or what it died of, which is known
            for _ in self._events:
                pass
        self._job, self._events = None, iter(())


def _sizes(subject: Subject) -> dict[str, int]:
    """How many windows have samples: of all samples (empty name), and of each subset."""
    sizes = {"": int(np.count_nonzero(subject.stops > subject.starts))}
    for name, own in subject.positions:
        ends = np.searchsorted(own, subject.starts), np.searchsorted(own, subject.stops)
        sizes[name] = int(np.count_nonzero(ends[1] > ends[0]))
    return sizes


def _fill(results: MetricResults, answer: ScoredWindow) -> None:
    if answer.failure:
        results.failures[answer.window] = answer.failure
        return
    if answer.HasField("value"):
        results.values[answer.window] = answer.value
    results.classes[answer.window] = {own.label: own.value if own.HasField("value") else None for own in answer.classes}

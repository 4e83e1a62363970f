"""One pipeline from start to end, on a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from modyn.core.errors import CancelledError, ConflictError, InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.plugins.triggers import Arrivals, Firing
from modyn.proto import supervisor_pb2 as pb
from modyn.supervisor import journal as status_of
from modyn.supervisor.arrivals import ArrivalSource, LiveSource, ReplaySource
from modyn.supervisor.checking import Handshake, stretch
from modyn.supervisor.context import RunContext
from modyn.supervisor.datasets import Datasets
from modyn.supervisor.evaluation import Evaluations
from modyn.supervisor.journal import EvaluationRow, PipelineRow, TriggerRow
from modyn.supervisor.labels import KnownLabels
from modyn.supervisor.loop import TriggerLoop
from modyn.supervisor.observing import PipelineObserver
from modyn.supervisor.pacing import GRACE_SECONDS, Paced
from modyn.supervisor.retention import Retention
from modyn.supervisor.training import Trainings

logger = logging.getLogger(__name__)

_JOURNAL_SECONDS = 2.0
"""Evaluations that did not fire are journaled at most this often."""


class PipelineRun:
    """A running pipeline.

    Args:
        row: as just journaled.
        describe: builds the status message of a row, for watchers.
    """

    def __init__(self, row: PipelineRow, run: RunContext, describe: Callable[[PipelineRow, int], pb.Pipeline]) -> None:
        self._row = row
        self._row_lock = threading.Lock()
        self._context = run
        self._describe = describe
        self._stop = run.stop
        self.events = run.events
        self._triggers: list[TriggerRow] = []
        self._source: ArrivalSource | None = None
        self._total: int | None = None
        """How many samples a replay will see."""
        self._cut_short = False
        self._labels = KnownLabels(run)
        self._trainings = Trainings(run, self._labels)
        self._evaluations = Evaluations(run)
        self._handshake = Handshake(run)
        self._retention = Retention(run)
        self._observer = PipelineObserver(run, self._labels)
        self._paced: Paced | None = None
        self._requests: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()
        """To fire now."""
        self._takes_no_more = False
        self._unwritten: list[EvaluationRow] = []
        self._unwritten_triggers: list[TriggerRow] = []
        """Of a simulation."""
        self._written_at = time.monotonic()
        self._loop = TriggerLoop(
            run.config.trigger,
            self._observer,
            handle=self._on_simulated if run.options.simulate else self._on_firing,
            done=self._on_done,
            explain=self._on_evaluated,
            maximum_triggers=run.options.maximum_triggers,
        )
        self._thread = threading.Thread(target=self._run, name=f"pipeline-{row.id}", daemon=True)

    def start(self) -> None:
        self._announce()
        for notice in self._row.notices:
            self.events.add(notice=notice)
        self._thread.start()

    def stop(self) -> None:
        """No more data and trainings; after-pipeline evaluation still runs. Returns at once."""
        self._stop.stop()  # first: it has to work without the catalog too
        if self._source is not None:
            self._source.stop()
        self._move_on(status_of.STOPPING, status_of.STARTING, status_of.RUNNING)

    def kill(self) -> None:
        """Ends everything now; the pipeline counts as interrupted."""
        self._stop.kill()
        if self._source is not None:
            self._source.stop()

    def fire(self) -> Future[int]:
        """Fires the trigger as soon as nothing else is under way.

        Returns:
            The index of the trigger once it has fired, or a ConflictError.
        """
        request: Future[int] = Future()
        self._requests.put(request)
        if self._takes_no_more:
            self._answer_requests(ended=True)
        if self._paced is not None:
            self._paced.wake()
        return request

    def wait(self, timeout_seconds: float | None = None) -> None:
        self._thread.join(timeout_seconds)

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def current(self) -> tuple[PipelineRow, int]:
        """The pipeline as it is now, and its number of triggers."""
        return replace(self._row, samples_seen=self._loop.progress.samples_seen), len(self._triggers)

    # -------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        outcome: dict[str, Any]
        try:
            self._work()
            outcome = {"status": status_of.STOPPED if self._cut_short else status_of.COMPLETED}
        except ModynError as error:
            if isinstance(error, CancelledError) and self._stop.stopped:
                outcome = {"status": status_of.STOPPED}
            else:
                outcome = {"status": status_of.FAILED, "error": error.message, "input_error": error.exit_status == 2}
        except Exception as error:
            logger.exception("pipeline %s failed", self._row.id)
            message = f"internal error in the pipeline: {type(error).__name__}: {error}"
            outcome = {"status": status_of.FAILED, "error": message, "input_error": False}
        if self._stop.killed:
            outcome = {
                "status": status_of.INTERRUPTED,
                "error": "the server ended while the pipeline ran; run it again, finished trainings are reused",
                "input_error": False,
            }
        self._stop.stop()  # checks that nobody has waited for
        self._observer.close()
        self._finish(outcome)

    def _work(self) -> None:
        config, options = self._context.config, self._context.options
        datasets = Datasets(self._context)
        end_key = datasets.ensure(config.data, "data")
        run_end_key = None if options.live else end_key
        if options.end_key is not None:
            run_end_key = min(end_key, options.end_key)
        self._labels.begin()
        source = self._open_source(datasets, end_key, run_end_key)
        if not options.simulate:
            self._evaluations.prepare(datasets, run_end_key)
            if end_key or not options.live:  # else there is nothing to try before the first trigger
                self._handshake.begin(stretch(options, end_key), end_key)
        self._update(ingest_seconds=datasets.ingest_seconds, end_key=run_end_key)
        self._move_on(status_of.RUNNING, status_of.STARTING)
        if config.trigger.needs_model:
            self._observer.prepare()
        try:
            self._consume(source)
        except CancelledError:
            if not self._stop.stopped or self._stop.killed:
                raise
        self._cut_short = self._stop.stopped
        if run_end_key is not None and not self._loop.progress.samples_seen and not self._stop.stopped:
            raise InvalidInputError(f"dataset {config.data.dataset_id!r} has no samples in the stretch to be replayed")
        if not self._stop.stopped:
            self._handshake.wait()  # if nothing was trained
        self._write_evaluations()
        self._update(**self._position())
        if not options.simulate:
            self._evaluations.after_pipeline(self._triggers)
            self._retention.at_end()

    def _open_source(self, datasets: Datasets, end_key: int, run_end_key: int | None) -> ArrivalSource:
        """Where arrivals come from."""
        dataset, options = self._context.config.data.dataset_id, self._context.options
        storage = self._context.peers.storage
        source: ArrivalSource
        if run_end_key is None:
            start_key = end_key if options.start_key is None else options.start_key
            self._update(start_key=start_key)
            source = LiveSource(storage, dataset, start_key)
        else:
            self._total = datasets.count_replayed(dataset, run_end_key)
            source = ReplaySource(storage, dataset, options, run_end_key)
        self._source = source
        if self._stop.stopped:  # a stop that came before there was a source
            source.stop()
        return source

    def _consume(self, source: ArrivalSource) -> None:
        pieces: Iterable[Arrivals | None] = source
        if self._context.options.live:
            pieces = self._paced = Paced(source, self._next_look)
        try:
            for arrivals in pieces:
                self._answer_requests()
                if arrivals is None:
                    self._tick()
                else:
                    self._loop.feed(arrivals)
                self._write_evaluations(at_most_every=_JOURNAL_SECONDS)
                self._report_data()
                if self._loop.exhausted:
                    return
        finally:
            source.stop()  # a pipeline that failed must not keep storage watching a folder for it
            self._takes_no_more = True
            self._answer_requests(ended=True)

    def _next_look(self) -> float | None:
        """When a live pipeline looks again if nothing arrives, Unix seconds."""
        due = self._loop.next_tick
        looks = [] if due is None else [due + GRACE_SECONDS]
        if self._unwritten:
            looks.append(time.time() + self._written_at + _JOURNAL_SECONDS - time.monotonic())
        return min(looks, default=None)

    def _tick(self) -> None:
        due = self._loop.next_tick
        if due is not None and time.time() >= due + GRACE_SECONDS:
            self._loop.tick(due)

    def _answer_requests(self, *, ended: bool = False) -> None:
        """Fires for those who asked for it."""
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            if not request.set_running_or_notify_cancel():
                continue
            try:
                if ended:
                    raise ConflictError("the pipeline takes no more data")
                self._loop.check_can_fire()
            except ConflictError as error:
                request.set_exception(error)
                continue
            request.set_result(len(self._triggers))
            self._loop.fire("asked for by hand")

    def _report_data(self) -> None:
        seen = self._loop.progress
        status = pb.DataStatus(samples_seen=seen.samples_seen, samples_total=self._total, data_clock=seen.data_clock)
        self.events.add(progress=True, data=status)

    def _on_firing(self, firing: Firing, new_data: KeySet, row: TriggerRow) -> TriggerRow:
        self._report_data()
        self._write_evaluations()  # a training may take long, and somebody may want to know now why it was started
        started = time.perf_counter()
        self._handshake.begin(new_data, self._loop.progress.cursor or 0)
        row = self._trainings.run(firing, new_data, row, self._handshake.wait, self._on_failed)
        evaluate_seconds = 0.0
        if row.model is not None:
            if self._context.config.trigger.needs_model:
                self._observer.prepare(row.model)
            try:
                evaluate_seconds = self._evaluations.after_training([*self._triggers, row], firing.timestamp)
            except ModynError:
                self._on_failed(replace(row, total_seconds=time.perf_counter() - started))
                raise
        return replace(row, evaluate_seconds=evaluate_seconds, total_seconds=time.perf_counter() - started)

    def _on_failed(self, row: TriggerRow) -> None:
        """A trigger whose training failed, or the evaluation of its model, and with it the pipeline."""
        with suppress(ModynError):  # the reason may be that the catalog is gone
            self._context.journal.add_triggers(self._row.id, [row], **self._position())
            self._triggers.append(row)

    def _on_simulated(self, firing: Firing, new_data: KeySet, row: TriggerRow) -> TriggerRow:
        if self._stop.stopped:
            raise CancelledError("the simulation was stopped")
        self.events.add(
            trigger=pb.TriggerStatus(
                index=row.trigger_index, timestamp=firing.timestamp, reason=firing.reason, num_new=len(new_data)
            )
        )
        return replace(row, samples=len(new_data))

    def _on_evaluated(self, rows: Sequence[EvaluationRow]) -> None:
        self._unwritten += rows
        if rows[-1].trigger_index is None:  # else they are journaled before the training
            self._write_evaluations(at_most_every=_JOURNAL_SECONDS)
            self._report_data()

    def _write_evaluations(self, *, at_most_every: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._written_at < at_most_every:
            return
        if self._unwritten:
            self._context.journal.add_evaluations(self._row.id, self._unwritten)
            self._unwritten, self._written_at = [], now
        if self._unwritten_triggers:
            self._context.journal.add_triggers(self._row.id, self._unwritten_triggers, **self._position())
            self._unwritten_triggers, self._written_at = [], now

    def _on_done(self, row: TriggerRow, state: dict[str, Any]) -> None:
        self._triggers.append(row)
        if self._context.options.simulate:  # thousands a second, and nothing is lost that took long
            self._unwritten_triggers.append(row)
            self._write_evaluations(at_most_every=_JOURNAL_SECONDS)
        else:
            self._context.journal.add_triggers(self._row.id, [row], trigger_state=state, **self._position())
            self._retention.after_trigger(row.model)
        self.events.add(
            trigger=pb.TriggerStatus(
                index=row.trigger_index,
                timestamp=row.timestamp,
                reason=row.reason,
                num_new=row.new_samples,
                num_selected=row.samples,
                done=True,
            )
        )

    # -------------------------------------------------------------------------------------------- bookkeeping

    def _position(self) -> dict[str, Any]:
        """Where the loop is, as columns of the pipeline's row."""
        progress = self._loop.progress
        position = {
            "samples_seen": progress.samples_seen,
            "first_timestamp": progress.first_timestamp,
            "last_timestamp": progress.data_clock,
            "cursor": progress.cursor,
            "trigger_seconds": progress.trigger_seconds,
            "trigger_embedded": self._observer.samples_embedded,
            "trigger_predicted": self._observer.samples_predicted,
        }
        if self._context.options.live:  # the stretch seen so far, for a replay of it
            position["end_key"] = progress.cursor
        return position

    def _finish(self, outcome: dict[str, Any]) -> None:
        """Journals the outcome; whatever goes wrong with that, watchers hear of the end."""
        try:
            self._write_evaluations()
            self._update(
                **self._position(),
                ended_at=time.time(),
                **outcome,
            )
        except Exception as error:  # such as the catalog went away: tell the watchers what we know
            logger.exception("the end of pipeline %s could not be journaled", self._row.id)
            self._row = replace(self._row, ended_at=time.time(), **{"error": str(error), **outcome})
            self._announce()
        finally:
            self.events.close()

    def _move_on(self, status: str, *earlier: str) -> None:
        """Sets a status unless another thread has set a later one."""
        with self._row_lock:
            if self._row.status not in earlier:
                return
            self._context.journal.update_pipeline(self._row.id, status=status)
            self._row = replace(self._row, status=status)
        self._announce()

    def _update(self, **fields: Any) -> None:
        with self._row_lock:
            self._context.journal.update_pipeline(self._row.id, **fields)
            self._row = replace(self._row, **fields)
        if "status" in fields:
            self._announce()

    def _announce(self) -> None:
        self.events.add(pipeline=self._describe(*self.current()))

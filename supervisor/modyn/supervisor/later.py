"""Evaluating a pipeline that has ended: its stored models, with its own handlers or with others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from modyn.core.config.pipeline import PipelineConfig, evaluation_datasets
from modyn.core.config.reader import load_evaluation_text, load_pipeline_text
from modyn.core.errors import (
    CancelledError,
    ConflictError,
    InternalError,
    InvalidInputError,
    ModynError,
    NotAllowedError,
    NotFoundError,
)
from modyn.core.peers import Peers
from modyn.models.usercode import check_allowed
from modyn.proto import supervisor_pb2 as pb
from modyn.supervisor.calls import StopSignal
from modyn.supervisor.context import RunContext
from modyn.supervisor.datasets import Datasets
from modyn.supervisor.evaluation import Done, Evaluations
from modyn.supervisor.events import EventLog
from modyn.supervisor.handlers import Known, check_same, extents_tree, joined, known_handlers, together, with_extents
from modyn.supervisor.journal import UNFINISHED, Journal, PipelineRow, TriggerRow
from modyn.supervisor.options import RunOptions
from modyn.supervisor.trainer_servers import TrainerServers

logger = logging.getLogger(__name__)

END_SECONDS = 5.0
"""How long a new evaluation waits for one that was cancelled to be gone."""


class LaterEvaluation:
    """One request to evaluate a pipeline that has ended, on a thread of its own.

    Args:
        request: what is asked for.
        row: of the pipeline.
        journal: has what it did.
        peers: the services that do the work.
        trainers: as of any run.
        allow_user_code: accept inline Python and relative paths.

    Raises:
        ConflictError: the pipeline has not ended.
        NotAllowedError: a base path on a server that does not accept user code.
    """

    def __init__(
        self,
        request: pb.EvaluatePipelineRequest,
        row: PipelineRow,
        journal: Journal,
        peers: Peers,
        trainers: TrainerServers,
        *,
        allow_user_code: bool,
    ) -> None:
        self._row = row
        self._journal = journal
        self._peers = peers
        self._trainers = trainers
        self._again = request.again
        self._events = EventLog()
        self._stop = StopSignal()
        self._error: ModynError | None = None
        self._thread = threading.Thread(target=self._run, name=f"evaluation of pipeline {row.id}", daemon=True)
        _check_ended(row)
        base = request.base_path if request.HasField("base_path") else None
        self._request = request
        self._allow_user_code = allow_user_code
        if base is not None and not allow_user_code:
            raise NotAllowedError(
                "this server does not accept relative paths from clients; write absolute paths, or start it with "
                "`modyn serve --allow-user-code`"
            )
        self._options = RunOptions(live=row.live, reuse=request.reuse, code_root=row.code_root, base_path=base)
        self._handlers: list[Known] = []

    def prepare(self) -> None:
        """Looks what is asked for. No other evaluation of the pipeline may run any more: it may add handlers.

        Raises:
            ConflictError: the pipeline has another handler of a name that is used.
            InvalidInputError: the evaluation section is wrong; with every problem.
            NotFoundError: it has no handler of a name.
            NotAllowedError: the section has code that this server does not run.
        """
        self._row = row = self._journal.pipeline(self._row.id)
        request = self._request
        config = load_pipeline_text(row.resolved_yaml, row.name).require_runnable()
        known = known_handlers(config, row.evaluated_extents, self._journal.handlers(row.id))
        if request.HasField("evaluation_yaml"):
            known = self._named_now(request, config, known)
        self._handlers = _chosen(known, list(request.handlers), row.id)

    def start(self, describe: Callable[[], pb.Pipeline], done: Callable[[], None]) -> None:
        """Begins.

        Args:
            describe: the pipeline, for the last event.
            done: called when nothing more happens.
        """
        self._describe, self._done = describe, done
        self._thread.start()

    def kill(self) -> None:
        """Ends it; what was scored stays."""
        self._stop.kill()

    def wait(self, timeout_seconds: float) -> None:
        if self._thread.is_alive():  # else it has ended, or was not started yet
            self._thread.join(timeout_seconds)

    @property
    def killed(self) -> bool:
        return self._stop.killed

    def follow(self, is_active: Callable[[], bool]) -> Iterator[pb.PipelineEvent]:
        """What it says.

        Raises:
            ModynError: why it failed.
        """
        yield from self._events.follow(0, is_active)
        if self._error is not None:
            raise self._error

    # -------------------------------------------------------------------------------------------- preparing

    def _named_now(
        self,
        request: pb.EvaluatePipelineRequest,
        config: PipelineConfig,
        known: Mapping[str, Known],
    ) -> dict[str, Known]:
        loaded = load_evaluation_text(request.evaluation_yaml, request.yaml_name or "evaluation", config)
        for notice in loaded.notices:
            self._events.add(notice=notice)
        named = loaded.require_runnable()
        assert named.evaluation is not None, "the reader gives one"
        for dataset in evaluation_datasets(named):
            check_allowed(dataset, self._options.code_root, allow_user_code=self._allow_user_code)
        scored = {row.handler for row in self._journal.windows(self._row.id)}
        chosen: dict[str, Known] = {}
        for handler in named.evaluation.handlers:
            new = Known(handler, named, {})
            there = known.get(handler.name)
            if there is not None and (there.is_own or handler.name in scored):
                check_same(there, new)
                new = there
            chosen[handler.name] = new
        return chosen

    # ------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._evaluate()
        except ModynError as error:
            self._error = error
        except Exception as error:
            logger.exception("the evaluation of pipeline %s failed", self._row.id)
            self._error = InternalError(f"internal error in the evaluation: {type(error).__name__}: {error}")
        finally:
            try:
                self._done()
                if self._error is None:
                    self._events.add(pipeline=self._describe())
            finally:
                self._events.close()

    def _evaluate(self) -> None:
        triggers = self._journal.triggers(self._row.id)
        if not any(trigger.model is not None for trigger in triggers):
            self._events.add(notice=f"pipeline {self._row.id} has no models; only baselines are scored")
        errors: list[ModynError] = []
        for group in together(self._handlers):
            try:
                self._evaluate_group(group, triggers)
            except CancelledError:
                raise
            except ModynError as error:  # others may do
                errors.append(error)
        if errors:
            for other in errors[1:]:  # only one can be raised
                self._events.add(notice=other.message)
            raise errors[0]

    def _evaluate_group(self, group: Sequence[Known], triggers: Sequence[TriggerRow]) -> None:
        """Handlers whose sections are equal."""
        row = self._row
        run = RunContext(
            row.id,
            joined(group),
            self._options,
            self._peers,
            self._journal,
            self._trainers,
            self._events,
            self._stop,
        )
        done = Done.of_journal(self._journal, row.id)
        evaluations = Evaluations(run, extents=group[0].extents, done=done, later=True, again=self._again)
        is_own = group[0].is_own
        extents = evaluations.prepare(Datasets(run), row.end_key if is_own else None)
        if is_own:
            self._journal.update_pipeline(row.id, evaluated_extents=extents_tree(extents))
        else:
            self._journal.keep_handlers(row.id, [with_extents(known, extents).row() for known in group])
        try:
            evaluations.missing(triggers)
        except InvalidInputError:
            if not is_own:  # it can never be scored: what is wrong in it must not be asked for again
                self._journal.drop_unscored_handlers(row.id, [known.handler.name for known in group])
            raise


def _check_ended(row: PipelineRow) -> None:
    if row.status in UNFINISHED:
        raise ConflictError(
            f"pipeline {row.id} is {row.status}; only one that has ended can be evaluated: wait for its end, or stop it"
        )
    if row.simulated:
        raise ConflictError(f"pipeline {row.id} was only simulated, so it has no models; run it to have some")


def _chosen(known: Mapping[str, Known], names: list[str], pipeline_id: int) -> list[Known]:
    if not known:
        raise InvalidInputError(
            f"pipeline {pipeline_id} has no evaluation handlers; say on which windows its models are to be scored, "
            "such as with --windows 1d"
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NotFoundError(f"no handler is called {unknown[0]!r}; expected one of {', '.join(known)}")
    return [one for name, one in known.items() if not names or name in names]

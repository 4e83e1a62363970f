"""The job of a training, started again where it was if its process is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from modyn.core.errors import JobFailedError
from modyn.core.jobs import Job, JobDescription
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainJob
from modyn.trainer_server.checkpoint_folders import newest

JOB_ENTRY = "modyn.trainer_server.job:run"
SHARED_ENTRY = "modyn.trainer_server.elastic:run"
"""Of a training that several processes share."""

MAX_FRUITLESS = 3
"""Processes in a row that may be killed before they wrote a checkpoint that is newer than what they began with."""


class Attempts:
    """Runs the job of one training.

    A process that is killed (out of memory, by a signal) is followed by another one as long as there is a checkpoint to
    go on from. One that raises an error is not: it would raise it again.

    Args:
        launch: starts a process.
        job: what to train; its number of attempts is set here.
        log: takes the output of all processes.
        what: for messages.
        may_go_on: asked before another process is started: whether it would do the same as the one before. If not, it
            starts from the beginning.
        shared: by several processes.
        fresh: whether the process must have no threads yet, because it forks others.
    """

    def __init__(
        self,
        launch: Callable[[JobDescription], Job],
        job: TrainJob,
        log: Path,
        what: str,
        may_go_on: Callable[[], bool],
        *,
        shared: bool = False,
        fresh: bool = False,
    ) -> None:
        self._launch = launch
        self._job = job
        self._log = log
        self._what = what
        self._may_go_on = may_go_on
        self._shared = shared
        self._fresh = fresh or shared
        self.number = 0
        """Processes so far."""

    def events(self) -> Iterator[TrainEvent]:
        """Of all processes, with a notice between two of them.

        Raises:
            ModynError: the job raised it.
            JobFailedError: it failed otherwise, or was killed and there is nothing to go on from.
            CancelledError: the caller went away.
        """
        fruitless = 0
        while True:
            before = self._saved()
            self._job.attempt = self.number
            self.number += 1
            job = self._launch(self._description())
            try:
                yield from map(TrainEvent.FromString, job.events())
                return
            except JobFailedError as error:
                if job.killed is None:
                    raise
                saved = self._saved()
                fruitless = 0 if saved > before else fruitless + 1
                if not saved or fruitless >= MAX_FRUITLESS:
                    raise _with_remedy(error) from error
                yield TrainEvent(notice=f"{self._what}: {job.killed}; it is started again")
            finally:
                job.cancel()  # if the caller stopped listening; it has ended otherwise
            if not self._may_go_on():
                self._job.ClearField("checkpoints")
                yield TrainEvent(notice=f"{self._what}: its code changed meanwhile; it begins again")

    def _description(self) -> JobDescription:
        entry = SHARED_ENTRY if self._shared else JOB_ENTRY
        return JobDescription(entry, self._job.SerializeToString(), self._log, self._what, fresh=self._fresh)

    def _saved(self) -> int:
        """Batches that the newest checkpoint stands for."""
        return newest(Path(self._job.checkpoints)) if self._job.HasField("checkpoints") else 0


def _with_remedy(error: JobFailedError) -> JobFailedError:
    first, line, rest = error.message.partition("\n")
    return JobFailedError(
        f"{first}; if it was memory, make training.batch_size smaller or give the server more{line}{rest}"
    )

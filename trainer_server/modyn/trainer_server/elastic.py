"""Trainings of several processes, launched through torch elastic.

The job's process forks one process per share of the training and watches them; if one ends badly all end, and if the
job's process is killed so are they. It has run no torch operation and connected to nothing
(:attr:`modyn.core.jobs.JobDescription.fresh`), so forking once more is safe. Nothing is restarted here: what goes on
from a checkpoint is the job as a whole.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from modyn.core.config.pipeline import TrainingSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import ERRORS_BY_NAME, InternalError, JobFailedError
from modyn.core.forkserver import die_with_parent
from modyn.core.values import from_value
from modyn.proto.trainer_server_pb2 import TrainJob
from modyn.trainer_server.distributed import DistributedParallel, lost_peer
from modyn.trainer_server.job import work
from modyn.trainer_server.progress import Emit

POLL_SECONDS = 0.02
"""How often the job's process looks after the others."""

END_SECONDS = 2
"""How long they have to end by themselves once one has failed."""

_KEPT: list[DistributedParallel] = []
"""In each process: until its end."""


def run(payload: bytes, emit: Emit) -> None:
    """Entry point of a training of several processes; see :func:`modyn.trainer_server.job.run`.

    If one of them is killed so is the job's process, and the server sees what it would see of a training in one.

    Raises:
        ModynError: what went wrong in the process that failed first, for the user.
    """
    job = TrainJob.FromString(payload)
    section = parse_section(TrainingSection, from_value(job.request.training), "training")
    launch(
        section.world_size,
        lambda join: work(job, emit, join),
        on_gpus=section.device != "cpu",
    )


Join = Callable[[], DistributedParallel]
"""Meets the other processes; a process that wants to fork others does that before, as it has threads then."""


def launch(size: int, main: Callable[[Join], None], *, on_gpus: bool) -> None:
    """Runs a function in several processes forked from this one, and waits for them.

    Args:
        size: how many.
        main: what each does.
        on_gpus: each has a GPU.

    Raises:
        ModynError: the one that was raised first.
        JobFailedError: anything else was.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed is said below
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking CUDA itself would spoil it for the processes
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        logs_specs=_JobLog(),
        run_id="training",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        start_method="fork",
        local_addr="127.0.0.1",
        signals_to_handle="SIGTERM",
        shutdown_timeout=END_SECONDS,
    )
    with tempfile.TemporaryFile("a+b", buffering=0) as failures:
        process = _Process(main, failures, os.getpid(), size, on_gpus)
        try:
            elastic_launch(config, process.run)()
        except ChildFailedError as error:
            _raise(_read(failures), {rank: failure.exitcode for rank, failure in error.failures.items()}, size)


@dataclass(frozen=True)
class _Failure:
    """What a process said before it ended.

    Attributes:
        name: of the error's class.
        secondary: it failed because another process had ended.
    """

    rank: int
    name: str
    message: str
    secondary: bool


@dataclass(frozen=True)
class _Process:
    """One of the processes, and what it knows of the job's."""

    main: Callable[[Join], None]
    failures: IO[bytes]
    parent: int
    size: int
    on_gpus: bool

    def run(self) -> None:
        die_with_parent()
        if os.getppid() != self.parent:
            os._exit(1)  # it died before we could ask to die with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler would wait for a collective to end
        _share_memory(self.size)
        try:
            self.main(self._join)
        except BaseException as error:  # noqa: BLE001 - whatever a process raises is the job's result
            self._fail(error)

    def _join(self) -> DistributedParallel:
        parallel = DistributedParallel.join(on_gpus=self.on_gpus)
        _KEPT.append(parallel)
        return parallel

    def _fail(self, error: BaseException) -> NoReturn:
        """Says what happened and ends, without winding down: that could wait for the others."""
        rank = int(os.environ["RANK"])
        lost = lost_peer(error)
        if lost is None:
            traceback.print_exc()
            sys.stderr.flush()
            sys.stdout.flush()
        failure = _Failure(rank, type(error).__name__, str(error), lost is not None)
        os.write(self.failures.fileno(), json.dumps(vars(failure)).encode() + b"\n")  # appended as a whole
        if lost is not None:
            time.sleep(2 * END_SECONDS)  # the one that ended first should be the one that is found
        os._exit(1)


class _JobLog(LogsSpecs):
    """All processes write to the job's log; there are no other files."""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        none = dict.fromkeys(envs, "")
        return LogsDest(dict(none), dict(none), dict(none), dict(none), dict(none))

    @property
    def root_log_dir(self) -> str:
        return ""


def _share_memory(size: int) -> None:
    """Each process gets its share of the memory that the job may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (soft // size, hard))


def _read(failures: IO[bytes]) -> list[_Failure]:
    failures.seek(0)
    return [_Failure(**json.loads(line)) for line in failures.read().splitlines()]


def _raise(failures: list[_Failure], statuses: dict[int, Any], size: int) -> NoReturn:
    """
    Args:
        failures: what the processes said, in the order in which they failed.
        statuses: exit codes by rank, minus the signal of one that was killed.
    """
    first = next((failure for failure in failures if not failure.secondary), None)
    if first is not None:
        known = ERRORS_BY_NAME.get(first.name)
        if known is not None:
            raise known(first.message)
        raise JobFailedError(f"process {first.rank} of {size}: {first.name}: {first.message}")
    for rank, status in statuses.items():
        if status < 0:
            sys.stderr.write(f"process {rank} of {size} was killed by {signal.Signals(-status).name}\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    raise InternalError(f"processes {sorted(statuses)} of {size} of the training ended without saying why")

"""Jobs beside trainings: checks and exports. Nothing of them is recorded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import closing

from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.devices import Caller, Devices
from modyn.core.errors import InternalError
from modyn.core.jobs import JobDescription, JobLauncher
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.core.values import from_value
from modyn.models.usercode import check_allowed
from modyn.proto.trainer_server_pb2 import (
    CheckRequest,
    CheckResult,
    ExportedPiece,
    ExportJob,
    ExportModelRequest,
    TrainJob,
)
from modyn.trainer_server.inputs import TrainingInputs

CHECK_ENTRY = "modyn.trainer_server.check:run"

EXPORT_ENTRY = "modyn.trainer_server.export:run"


class SideJobs:
    """Runs them as trainings are run: in processes of their own, when a device has a slot.

    Args:
        state: their logs go to ``jobs/``.
        peers: where storage is.
        launcher: starts them.
        devices: whose slots they need.
        allow_user_code: run inline Python and import from clients' folders.
    """

    def __init__(
        self, state: StateDirectory, peers: Peers, launcher: JobLauncher, devices: Devices, *, allow_user_code: bool
    ) -> None:
        self._state = state
        self._peers = peers
        self._launcher = launcher
        self._devices = devices
        self._allow_user_code = allow_user_code
        self._counter = itertools.count()

    def check(self, request: CheckRequest, caller: Caller) -> CheckResult:
        """What came of one batch.

        Raises:
            InvalidInputError: what the training would fail with; the message names the layer, key or sample.
            NotAllowedError: it has code that this server does not run.
            ModynError: the job failed.
        """
        inputs = TrainingInputs.of(request.training, self._allow_user_code)
        addresses = self._peers.addresses
        job = TrainJob(
            request=request.training,
            storage_address=addresses.storage,
            selector_address=addresses.selector,
            threads=inputs.threads,
            check=request,
        )
        what = f"check of the training on {request.training.dataset!r}"
        with self._devices.ticket(inputs.device, inputs.threads) as ticket:
            for _ in ticket.queue(caller, "check"):
                pass
            answers = list(
                self._run(CHECK_ENTRY, job.SerializeToString(), f"{request.training.pipeline_id}/check", what, caller)
            )
        if not answers:
            raise InternalError(f"{what} ended without a result")
        return CheckResult.FromString(answers[-1])

    def export(self, request: ExportModelRequest, caller: Caller) -> Iterator[ExportedPiece]:
        """The files of a model, piece by piece.

        Raises:
            NotFoundError: there is no such model or dataset.
            InvalidInputError: model and section, or model and example, do not fit.
            NotAvailableError: a library is missing.
        """
        data = parse_section(DataSection, from_value(request.data_section), "data")
        parse_section(ModelSection, from_value(request.model_section), "model")
        root = request.code.root if request.code.HasField("root") else None
        check_allowed(data, root, allow_user_code=self._allow_user_code)
        job = ExportJob(storage_address=self._peers.addresses.storage, request=request)
        what = f"export of model {request.model}"
        with self._devices.ticket("cpu", threads=1) as ticket:
            for _ in ticket.queue(caller, "export"):
                pass
            events = self._run(EXPORT_ENTRY, job.SerializeToString(), "exports/export", what, caller)
            begun: list[ExportedPiece] = []
            while not (begun and begun[-1].path) and (event := next(events, None)) is not None:
                begun.append(ExportedPiece.FromString(event))
        # With the first file everything is computed; a client that takes its time keeps nobody from training.
        with closing(events):
            yield from begun
            yield from map(ExportedPiece.FromString, events)

    def _run(self, entry: str, payload: bytes, log_name: str, what: str, caller: Caller) -> Generator[bytes]:
        """Events of a job; its log is removed if it ends well."""
        log = self._state.folder("jobs") / f"{log_name}-{os.getpid()}-{next(self._counter)}.log"
        job = self._launcher.launch(JobDescription(entry, payload, log, what))
        caller.kill_when_gone(job)
        try:
            yield from job.events()
        finally:
            job.cancel()  # if the caller stopped listening; it has ended otherwise
        log.unlink(missing_ok=True)

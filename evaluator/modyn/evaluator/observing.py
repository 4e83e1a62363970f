"""Streams of questions about samples, each answered by a job of its own that stays as long as the stream."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modyn.core.devices import Caller, Devices
from modyn.core.errors import CancelledError, InvalidInputError, JobFailedError, ModynError
from modyn.core.jobs import Job, JobDescription, JobLauncher
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.core.state import StateDirectory
from modyn.evaluator.request import check_common, parse_data
from modyn.models.usercode import check_allowed
from modyn.proto.evaluator_pb2 import ObserveAnswer, ObserveJob, ObserveRequest, ObserveSession

ENTRY = "modyn.evaluator.session_job:run"

MAX_KEYS = 8_192
"""Samples of one request: its whole answer is in memory before a slow caller takes it."""


class Observations:
    """Answers streams of requests.

    Args:
        devices: shared with evaluations; a request waits for its slot and gives it back before its answer is sent, so
            that a caller that asks nothing, or reads slowly, keeps nobody from computing.
    """

    def __init__(
        self, state: StateDirectory, launcher: JobLauncher, peers: Peers, devices: Devices, *, allow_user_code: bool
    ) -> None:
        self._state = state
        self._launcher = launcher
        self._peers = peers
        self._devices = devices
        self._allow_user_code = allow_user_code
        self._counter = itertools.count()

    def answers(self, requests: Iterator[ObserveRequest], caller: Caller) -> Iterator[ObserveAnswer]:
        """The answers to all requests of a stream, in order.

        Raises:
            ModynError: a request is wrong, or its computation failed; this ends the stream.
            CancelledError: the caller went away.
        """
        first = next(requests, None)
        if first is None:
            return
        session = self._checked_session(first)
        log = self._log_path(session.pipeline_id)
        payload = ObserveJob(storage_address=self._peers.addresses.storage, session=session).SerializeToString()
        what = f"observation of {session.dataset!r}"
        job = self._launcher.launch(JobDescription(ENTRY, payload, log, what, receives=True))
        caller.kill_when_gone(job)
        events = job.events()
        try:
            # Later requests have no session: that of the first holds for all.
            first.ClearField("session")
            for request in itertools.chain([first], requests):
                _check(request)
                yield from self._answer(request, session, job, events, caller)
            job.finish()
            for _ in events:
                pass
        finally:
            job.cancel()  # nothing to kill unless we are here because of an error or a closed stream
            with contextlib.suppress(ModynError):  # what it died of is known, or nobody's business any more
                for _ in events:
                    pass
        if not log.stat().st_size:
            log.unlink()

    def _checked_session(self, request: ObserveRequest) -> ObserveSession:
        if not request.HasField("session"):
            raise InvalidInputError("session: the first request of a stream has to have one")
        session = request.session
        check_common(session)
        root = session.code.root if session.code.HasField("root") else None
        check_allowed(parse_data(session), root, allow_user_code=self._allow_user_code)
        resolved = ObserveSession()
        resolved.CopyFrom(session)
        resolved.device = session.device or "cpu"
        resolved.threads = session.threads if session.HasField("threads") else os.cpu_count() or 1
        return resolved

    def _answer(
        self, request: ObserveRequest, session: ObserveSession, job: Job, events: Iterator[bytes], caller: Caller
    ) -> list[ObserveAnswer]:
        with self._devices.ticket(session.device, session.threads) as ticket:
            for _ in ticket.queue(caller, "observation"):
                pass
            job.send(request.SerializeToString())
            answers: list[ObserveAnswer] = []
            for event in events:
                answers.append(ObserveAnswer.FromString(event))
                if answers[-1].HasField("done"):
                    return answers
        if not caller.is_active():
            raise CancelledError("the call was cancelled")
        raise JobFailedError(f"observation of {session.dataset!r} ended without an answer")

    def _log_path(self, pipeline_id: str) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return self._state.folder("jobs") / pipeline_id / f"observe-{stamp}-{next(self._counter)}.log"


def _check(request: ObserveRequest) -> None:
    if request.HasField("session"):
        raise InvalidInputError("session: only the first request of a stream may have one")
    count = len(KeySet.from_proto(request.keys))
    if count > MAX_KEYS:
        raise InvalidInputError(f"keys: {count} of them; expected at most {MAX_KEYS} in one request")
    if count and not request.model:
        raise InvalidInputError("model: expected the digest of a stored model, got an empty one")

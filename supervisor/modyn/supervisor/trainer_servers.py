"""Which trainer server trains what, where there are several."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modyn.core.errors import CancelledError, ModynError, UnavailableError
from modyn.core.peers import Peers
from modyn.core.rpc import ServerLostError, connect
from modyn.proto.trainer_server_pb2 import CheckRequest, CheckResult, TrainEvent, TrainRequest
from modyn.supervisor.calls import StopSignal

AVOID_SECONDS = 30.0
"""A server that did not answer is asked again after so long, or when no other is left."""

PROBE_SECONDS = 1.0


class TrainerServers:
    """Sends each training to the trainer server that has the fewest of ours, running or queued.

    A server that cannot be reached, or dies while it trains, is passed over, and its training is done by another one.
    Shared by all pipelines of a supervisor; safe to use from many threads.

    Args:
        peers: knows the servers.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._lost_at: dict[str, float] = {}

    def train(self, request: TrainRequest, stop: StopSignal, notice: Callable[[str], None]) -> Iterator[TrainEvent]:
        """Events of one training; those of a server that died are followed by those of another from the beginning.

        Args:
            stop: ends the call.
            notice: takes a line for the user.

        Raises:
            ModynError: what the training raised.
            UnavailableError: no trainer server answers.
            CancelledError: the pipeline was stopped.
        """
        lost: dict[str, ModynError] = {}
        while True:
            with self._taking(lost) as address:
                try:
                    stream = self._peers.trainer_server_at(address).Train(request)
                    with stop.cancellable(stream, on_stop=True):
                        yield from stream
                    return
                except (ServerLostError, CancelledError) as error:
                    if isinstance(error, CancelledError) and (stop.stopped or self._answers(address)):
                        raise
                    lost[address] = error
            self._lose(address, lost)
            notice(
                f"trigger {request.trigger_index}: the trainer server at {address} does not answer "
                f"({lost[address].message}); another one trains"
            )

    def check(self, request: CheckRequest, stop: StopSignal) -> CheckResult:
        """What the first server that answers makes of one batch.

        Args:
            request: what to try.
            stop: ends the call.

        Raises:
            ModynError: what is wrong.
            UnavailableError: no trainer server answers.
            CancelledError: the pipeline was stopped.
        """
        lost: dict[str, ModynError] = {}
        while True:
            with self._taking(lost) as address:
                try:
                    call = self._peers.trainer_server_at(address).Check.future(request)
                    with stop.cancellable(call, on_stop=True):
                        return call.result()
                except ServerLostError as error:
                    lost[address] = error
            self._lose(address, lost)

    def _lose(self, address: str, lost: dict[str, ModynError]) -> None:
        """A server did not answer; raises if no other one is left to ask.

        Args:
            lost: all that did not, it among them.
        """
        self._lost_at[address] = time.monotonic()
        if len(lost) == len(self._peers.trainer_servers):
            raise lost[address] if len(lost) == 1 else _none_answers(lost)

    @contextmanager
    def _taking(self, lost: dict[str, ModynError]) -> Iterator[str]:
        """The server for a training, which counts for it meanwhile.

        Args:
            lost: servers that were lost during the same training.
        """
        with self._lock:
            recently = time.monotonic() - AVOID_SECONDS
            address = min(
                (server for server in self._peers.trainer_servers if server not in lost),
                key=lambda server: (self._lost_at.get(server, recently) > recently, self._busy[server]),
            )
            self._busy[address] += 1
        try:
            yield address
        finally:
            with self._lock:
                self._busy[address] -= 1

    @staticmethod
    def _answers(address: str) -> bool:
        try:
            connect(address, timeout_seconds=PROBE_SECONDS).close()
        except ServerLostError:
            return False
        return True


def _none_answers(lost: dict[str, ModynError]) -> UnavailableError:
    reasons = "; ".join(f"{address}: {error.message}" for address, error in lost.items())
    return UnavailableError(
        f"no trainer server answers ({reasons}); start one, or give the supervisor the address of another one "
        "(--trainer-server)"
    )

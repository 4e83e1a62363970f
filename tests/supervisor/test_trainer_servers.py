"""Several trainer servers: who gets which training, and what happens when one of them is not there any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from modyn.core.errors import CancelledError, JobFailedError, UnavailableError
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import RpcServer
from modyn.proto.trainer_server_pb2 import CheckRequest, CheckResult, TrainEvent, TrainRequest, TrainResult
from modyn.proto.trainer_server_pb2_grpc import TrainerServerServicer, add_TrainerServerServicer_to_server
from modyn.supervisor.calls import StopSignal
from modyn.supervisor.trainer_servers import TrainerServers


class Trainer(TrainerServerServicer):
    """A real server whose trainings last until they are let go."""

    def __init__(self, address: str) -> None:
        self.running = 0
        self.go_on = threading.Event()
        self.error: Exception | None = None
        self.rpc = RpcServer(address, [lambda server: add_TrainerServerServicer_to_server(self, server)])
        self.rpc.start()

    def Train(self, request: TrainRequest, context: grpc.ServicerContext) -> Iterator[TrainEvent]:
        self.running += 1
        yield TrainEvent(notice=f"at {self.rpc.address}")
        while not self.go_on.wait(0.01) and context.is_active():
            pass
        if self.error is not None:
            raise self.error
        yield TrainEvent(result=TrainResult(model=self.rpc.address))

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResult:
        if request.training.trigger_index:
            self.running += 1
            while context.is_active():
                time.sleep(0.01)
            self.running -= 1
        return CheckResult(notices=[self.rpc.address])


class Deployment:
    def __init__(self, folder: Path) -> None:
        self.trainers = [Trainer(f"unix:{folder / name}") for name in ("a", "b")]  # type: ignore[abstract]
        self.addresses = [trainer.rpc.address for trainer in self.trainers]
        both = Addresses("", "", ",".join(self.addresses), "", "")
        self.peers = Peers(both, connect_timeout_seconds=0.3)
        self.servers = TrainerServers(self.peers)
        self.stop = StopSignal()
        self.notices: list[str] = []
        self.threads: list[threading.Thread] = []
        self.models: list[str] = []
        self.errors: list[Exception] = []

    def train(self, trigger: int = 0) -> str:
        """The server that has trained."""
        events = list(self.servers.train(TrainRequest(trigger_index=trigger), self.stop, self.notices.append))
        return events[-1].result.model

    def begin(self) -> None:
        """A training in the background; returns once it runs."""
        before = self.running()

        def run() -> None:
            try:
                self.models.append(self.train())
            except Exception as error:  # noqa: BLE001 - looked at by the test
                self.errors.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        self.wait(lambda: self.running() != before)

    def running(self) -> list[int]:
        return [trainer.running for trainer in self.trainers]

    def wait(self, condition: object) -> None:
        deadline = time.monotonic() + 10
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def end(self) -> None:
        for trainer in self.trainers:
            trainer.go_on.set()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()
    deployment.peers.close()
    for trainer in deployment.trainers:
        trainer.rpc.stop(0)


def test_trainings_go_where_the_fewest_are(deployment: Deployment) -> None:
    for expected in ([1, 0], [1, 1], [2, 1], [2, 2]):
        deployment.begin()
        assert deployment.running() == expected
    deployment.end()
    assert sorted(deployment.models) == sorted(2 * deployment.addresses)
    assert deployment.train() == deployment.addresses[0]  # nobody has any: the first


def test_a_check_goes_to_a_server_that_answers(deployment: Deployment) -> None:
    deployment.trainers[0].rpc.stop(0)
    assert list(deployment.servers.check(CheckRequest(), deployment.stop).notices) == deployment.addresses[1:]
    deployment.trainers[1].rpc.stop(0)
    with pytest.raises(UnavailableError):
        deployment.servers.check(CheckRequest(), deployment.stop)


def test_a_server_that_dies_while_it_trains_is_replaced_by_another(deployment: Deployment) -> None:
    deployment.begin()
    first, second = deployment.trainers
    second.go_on.set()
    first.rpc.stop(0)
    deployment.end()
    assert deployment.models == [second.rpc.address]
    assert "does not answer" in deployment.notices[0]
    assert "another one trains" in deployment.notices[0]
    began = time.monotonic()
    assert deployment.train() == second.rpc.address  # not asked again so soon
    assert time.monotonic() - began < 0.3
    second.rpc.stop(0)
    with pytest.raises(UnavailableError, match=r"no trainer server answers.*--trainer-server"):
        deployment.train()


def test_a_server_that_says_what_is_wrong_is_believed(deployment: Deployment) -> None:
    for trainer in deployment.trainers:
        trainer.go_on.set()
    deployment.trainers[0].error = UnavailableError("storage cannot be reached")
    with pytest.raises(UnavailableError, match=r"^storage cannot be reached$"):
        deployment.train()
    deployment.trainers[0].error = JobFailedError("the loss is nan")
    with pytest.raises(JobFailedError):
        deployment.train()
    assert deployment.running() == [2, 0]
    assert not deployment.notices


def test_stopping_ends_the_call(deployment: Deployment) -> None:
    deployment.begin()
    deployment.stop.stop()
    deployment.threads[0].join(10)
    assert isinstance(deployment.errors[0], CancelledError)
    assert not deployment.notices


def test_stopping_ends_a_check_at_the_server_too(deployment: Deployment) -> None:
    request = CheckRequest(training=TrainRequest(trigger_index=1))

    def check() -> None:
        try:
            deployment.servers.check(request, deployment.stop)
        except CancelledError as error:
            deployment.errors.append(error)

    deployment.threads.append(threading.Thread(target=check))
    deployment.threads[0].start()
    deployment.wait(lambda: deployment.running() == [1, 0])
    deployment.stop.stop()
    deployment.threads[0].join(10)
    assert deployment.errors
    deployment.wait(lambda: deployment.running() == [0, 0])


def test_a_dead_address_keeps_nobody_waiting_for_another(tmp_path: Path, deployment: Deployment) -> None:
    address = deployment.addresses[0]
    peers = Peers(Addresses(f"unix:{tmp_path / 'nobody'}", "", address, "", ""), connect_timeout_seconds=2)

    def ask() -> None:
        with pytest.raises(UnavailableError):
            _ = peers.storage

    waiting = threading.Thread(target=ask)
    waiting.start()
    began = time.monotonic()
    _ = peers.trainer_server
    assert time.monotonic() - began < 1
    waiting.join()
    peers.close()

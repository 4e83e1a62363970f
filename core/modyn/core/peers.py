"""The other services: where they listen, and stubs connected on first use."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from modyn.core.rpc import Channel, connect
from modyn.proto.evaluator_pb2_grpc import EvaluatorStub
from modyn.proto.selector_pb2_grpc import SelectorStub
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.proto.supervisor_pb2_grpc import SupervisorStub
from modyn.proto.trainer_server_pb2_grpc import TrainerServerStub


@dataclass(frozen=True)
class Addresses:
    """Where each service listens (``host:port`` or ``unix:path``); of trainer servers there may be several, with commas
    between them."""

    storage: str
    selector: str
    trainer_server: str
    evaluator: str
    supervisor: str

    @staticmethod
    def all_at(address: str) -> Addresses:
        """One process that serves everything."""
        return Addresses(address, address, address, address, address)


class Peers:
    """Stubs of the services, one shared channel per address, opened when first needed.

    Safe to use from many threads. Services of one process find each other this way too, so that a deployment
    splits them without other code.

    Args:
        addresses: where the services listen.
        connect_timeout_seconds: how long the first call to an address waits for a server there.
    """

    def __init__(self, addresses: Addresses, *, connect_timeout_seconds: float = 10.0) -> None:
        self.addresses = addresses
        self._connect_timeout_seconds = connect_timeout_seconds
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def storage(self) -> StorageStub:
        return StorageStub(self._channel(self.addresses.storage))

    @property
    def selector(self) -> SelectorStub:
        return SelectorStub(self._channel(self.addresses.selector))

    @property
    def trainer_server(self) -> TrainerServerStub:
        """The first of them, if there are several."""
        return self.trainer_server_at(self.trainer_servers[0])

    @property
    def trainer_servers(self) -> tuple[str, ...]:
        """Addresses of all trainer servers, each once."""
        return tuple(dict.fromkeys(self.addresses.trainer_server.split(",")))

    def trainer_server_at(self, address: str) -> TrainerServerStub:
        return TrainerServerStub(self._channel(address))

    @property
    def evaluator(self) -> EvaluatorStub:
        return EvaluatorStub(self._channel(self.addresses.evaluator))

    @property
    def supervisor(self) -> SupervisorStub:
        return SupervisorStub(self._channel(self.addresses.supervisor))

    def _channel(self, address: str) -> Channel:
        with self._lock:
            if (channel := self._channels.get(address)) is not None:
                return channel
            opening = self._opening.setdefault(address, threading.Lock())
        with opening:  # a server that does not answer keeps only those waiting who want it
            with self._lock:
                if (channel := self._channels.get(address)) is not None:
                    return channel
            channel = connect(address, timeout_seconds=self._connect_timeout_seconds)
            with self._lock:
                self._channels[address] = channel
            return channel

    def close(self) -> None:
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()

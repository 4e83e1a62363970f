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
    """Where each service listens (``host:port`` or ``unix:path``)."""

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
        self._lock = threading.Lock()

    @property
    def storage(self) -> StorageStub:
        return StorageStub(self._channel(self.addresses.storage))

    @property
    def selector(self) -> SelectorStub:
        return SelectorStub(self._channel(self.addresses.selector))

    @property
    def trainer_server(self) -> TrainerServerStub:
        return TrainerServerStub(self._channel(self.addresses.trainer_server))

    @property
    def evaluator(self) -> EvaluatorStub:
        return EvaluatorStub(self._channel(self.addresses.evaluator))

    @property
    def supervisor(self) -> SupervisorStub:
        return SupervisorStub(self._channel(self.addresses.supervisor))

    def _channel(self, address: str) -> Channel:
        with self._lock:
            if address not in self._channels:
                self._channels[address] = connect(address, timeout_seconds=self._connect_timeout_seconds)
            return self._channels[address]

    def close(self) -> None:
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()

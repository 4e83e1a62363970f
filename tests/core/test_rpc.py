"""Servers and channels over real gRPC: errors keep their class, bulk messages their bytes, streams their limit."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from modyn.core import errors, rpc
from modyn.core.arrow import batch_of, encode_batch
from modyn.core.errors import (
    ERRORS_BY_NAME,
    BusyError,
    CancelledError,
    ConflictError,
    InternalError,
    InvalidInputError,
    ModynError,
    NotAvailableError,
    UnavailableError,
    error_class_for,
)
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import (
    Channel,
    RpcServer,
    arrow_stream,
    as_arrow_messages,
    cancel,
    connect,
    connect_ahead,
    is_loopback,
)
from modyn.proto import storage_pb2
from modyn.proto.common_pb2 import ArrowMessage
from modyn.proto.storage_pb2_grpc import StorageServicer, StorageStub, add_StorageServicer_to_server
from modyn.proto.supervisor_pb2 import ListPipelinesRequest
from modyn.proto.supervisor_pb2_grpc import SupervisorStub


class Behaviour(StorageServicer):
    """Does what the name of the dataset says."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.cancelled = threading.Event()
        self.received: list[bytes] = []

    def DescribeDataset(
        self, request: storage_pb2.DescribeDatasetRequest, context: grpc.ServicerContext
    ) -> storage_pb2.DatasetDescription:
        if request.name in ERRORS_BY_NAME:
            raise ERRORS_BY_NAME[request.name](f"it was {request.name}: use 'ä' instead")
        if request.name == "defect":
            raise ZeroDivisionError("division by zero")
        if request.name == "long":
            raise InvalidInputError("x" * 100_000)
        if request.name == "slow":
            self.released.wait(20)
        return storage_pb2.DatasetDescription(name=request.name)

    def WatchDataset(
        self, request: storage_pb2.WatchDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[storage_pb2.NewData]:
        context.add_callback(self.cancelled.set)
        yield storage_pb2.NewData(arrival=request.cursor)
        if request.dataset in ERRORS_BY_NAME:
            raise ERRORS_BY_NAME[request.dataset]("in the middle")
        if request.dataset == "forever":
            while context.is_active():
                time.sleep(0.01)

    def ReadColumns(
        self, request: storage_pb2.ReadColumnsRequest, context: grpc.ServicerContext
    ) -> Iterator[ArrowMessage]:
        return as_arrow_messages(self.received)

    def Append(
        self, request_iterator: Iterator[ArrowMessage], context: grpc.ServicerContext
    ) -> storage_pb2.AppendResponse:
        self.received = list(arrow_stream(request_iterator))
        return storage_pb2.AppendResponse()


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()  # type: ignore[abstract]  # the other methods answer that they do not exist


@pytest.fixture
def server(behaviour: Behaviour) -> Iterator[RpcServer]:
    server = RpcServer("127.0.0.1:0", [lambda server: add_StorageServicer_to_server(behaviour, server)])
    server.start()
    yield server
    behaviour.released.set()
    server.stop(0)


@pytest.fixture
def stub(server: RpcServer) -> Iterator[StorageStub]:
    with connect(server.address) as channel:
        yield StorageStub(channel)


def describe(stub: StorageStub, name: str) -> storage_pb2.DatasetDescription:
    return stub.DescribeDataset(storage_pb2.DescribeDatasetRequest(name=name))


# ------------------------------------------------------------------------------------------------------- errors


def test_every_error_class_is_in_the_map() -> None:
    defined = {
        cls.__name__
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, ModynError) and cls is not ModynError
    }
    assert defined == set(ERRORS_BY_NAME)


@pytest.mark.parametrize("name", sorted(ERRORS_BY_NAME))
def test_an_error_arrives_as_the_class_it_left(stub: StorageStub, name: str) -> None:
    with pytest.raises(ModynError) as caught:
        describe(stub, name)
    assert type(caught.value) is ERRORS_BY_NAME[name]
    assert caught.value.message == f"it was {name}: use 'ä' instead"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", sorted(ERRORS_BY_NAME))
def test_an_error_in_a_stream_arrives_after_its_messages(stub: StorageStub, name: str) -> None:
    stream = stub.WatchDataset(storage_pb2.WatchDatasetRequest(dataset=name, cursor=7))
    assert next(stream).arrival == 7
    with pytest.raises(ModynError, match="in the middle") as caught:
        next(stream)
    assert type(caught.value) is ERRORS_BY_NAME[name]


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_code_has_an_error(code: grpc.StatusCode) -> None:
    assert issubclass(error_class_for(code), ModynError)
    assert error_class_for(code, "NoSuchError") is error_class_for(code)


def test_a_defect_is_an_internal_error_and_the_server_lives_on(stub: StorageStub) -> None:
    with pytest.raises(InternalError, match="internal error in DescribeDataset: ZeroDivisionError: division by zero"):
        describe(stub, "defect")
    assert describe(stub, "fine").name == "fine"


def test_a_long_message_is_cut_not_lost(stub: StorageStub) -> None:
    with pytest.raises(InvalidInputError) as caught:
        describe(stub, "long")
    assert caught.value.message.endswith("(cut)")
    assert len(caught.value.message) < 2 * rpc.MAX_ERROR_CHARS


def test_a_deadline_is_an_unavailable_service(stub: StorageStub) -> None:
    with pytest.raises(UnavailableError):
        stub.DescribeDataset(storage_pb2.DescribeDatasetRequest(name="slow"), timeout=0.1)


def test_a_method_the_server_does_not_have(stub: StorageStub) -> None:
    with pytest.raises(ModynError):
        stub.ListDatasets(storage_pb2.ListDatasetsRequest())


# ------------------------------------------------------------------------------------------------ bulk messages


def test_bulk_messages_are_raw_bytes_both_ways(stub: StorageStub, behaviour: Behaviour) -> None:
    batch = batch_of(key=pa.array(range(100_000)), label=pa.array([None, 1] * 50_000))
    messages = [encode_batch(batch), b"\x00\xffnot even Arrow", encode_batch(batch.slice(5, 0))]
    stub.Append(as_arrow_messages(messages))
    assert behaviour.received == messages
    found = list(arrow_stream(stub.ReadColumns(storage_pb2.ReadColumnsRequest())))
    assert found == messages
    assert all(type(message) is bytes for message in found)


def test_messages_larger_than_gRPCs_default_pass(stub: StorageStub, behaviour: Behaviour) -> None:
    stub.Append(as_arrow_messages([bytes(20 << 20)]))
    assert len(behaviour.received[0]) == 20 << 20


# ------------------------------------------------------------------------------------------------------- limits


def test_open_streams_are_limited_and_do_not_starve_calls(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    monkeypatch.setattr(rpc, "MAX_OPEN_STREAMS", 3)
    server = RpcServer("127.0.0.1:0", [lambda server: add_StorageServicer_to_server(behaviour, server)])
    server.start()
    with connect(server.address) as channel:
        stub = StorageStub(channel)
        request = storage_pb2.WatchDatasetRequest(dataset="forever")
        streams = [stub.WatchDataset(request) for _ in range(3)]
        for stream in streams:
            next(stream)
        with pytest.raises(BusyError, match="3 open streams; try again later"):
            next(stub.WatchDataset(request))
        assert describe(stub, "fine").name == "fine"
        cancel(streams[0])
        assert behaviour.cancelled.wait(5)
        _eventually(lambda: next(stub.WatchDataset(request)))
    server.stop(0)


def _eventually(action: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
            return
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_cancelling_a_stream_ends_it_on_both_sides(stub: StorageStub, behaviour: Behaviour) -> None:
    stream = stub.WatchDataset(storage_pb2.WatchDatasetRequest(dataset="forever"))
    next(stream)
    threading.Timer(0.1, lambda: cancel(stream)).start()
    with pytest.raises(CancelledError):
        next(stream)
    assert behaviour.cancelled.wait(5)


# ------------------------------------------------------------------------------------------------------- places


def test_a_port_in_use_is_a_conflict_that_names_it(server: RpcServer) -> None:
    with pytest.raises(ConflictError, match=f"cannot listen on {server.address}: the port is in use"):
        RpcServer(server.address, [])


@pytest.mark.parametrize("text", ["host", "host:", "127.0.0.1:port", ":50051", "http://host:1", "unix:"])
def test_what_is_no_address_is_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"address '{text}': expected host:port"):
        connect(text)


def test_a_service_that_is_elsewhere_is_said_so(server: RpcServer) -> None:
    with connect(server.address) as channel, pytest.raises(NotAvailableError, match="at the address of storage"):
        SupervisorStub(channel).ListPipelines(ListPipelinesRequest())


def test_nobody_at_an_address_is_said_so() -> None:
    with pytest.raises(UnavailableError, match=r"no server answers at 127\.0\.0\.1:1 within 0\.2 s.*modyn serve"):
        connect("127.0.0.1:1", timeout_seconds=0.2)


def test_a_server_that_goes_away_is_unavailable(server: RpcServer) -> None:
    channel = connect(server.address)
    server.stop(0)
    with pytest.raises(UnavailableError, match="cannot be reached or went away"):
        describe(StorageStub(channel), "x")
    channel.close()


def test_a_connection_made_ahead_is_used_once(server: RpcServer) -> None:
    connect_ahead(server.address)
    made = rpc._ahead[server.address]
    with connect(server.address) as first, connect(server.address) as second:
        assert (first._channel is made, second._channel is made) == (True, False)


def test_a_connection_made_ahead_may_have_lost_its_server(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    first = RpcServer(address, [])
    first.start()
    connect_ahead(address)
    first.stop(0)
    second = RpcServer(address, [])
    second.start()
    connect(address, timeout_seconds=10).close()
    connect_ahead(address)
    second.stop(0)
    with pytest.raises(UnavailableError, match="no server answers"):
        connect(address, timeout_seconds=0.3)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.7:0", "example.org:0"])
def test_other_machines_may_only_connect_where_that_was_asked_for(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(InvalidInputError, match=r"reachable from other machines.*--insecure"):
        RpcServer(address, [])


def test_insecure_allows_them() -> None:
    server = RpcServer("0.0.0.0:0", [], insecure=True)
    assert server.address.startswith("0.0.0.0:")
    assert not server.address.endswith(":0")
    server.stop(0)


@pytest.mark.parametrize("address", ["127.0.0.1:5", "127.5.6.7:5", "localhost:5", "[::1]:5", "unix:/tmp/x"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)


def test_unix_sockets(tmp_path: Path, behaviour: Behaviour) -> None:
    address = f"unix:{tmp_path}/socket"
    server = RpcServer(address, [lambda server: add_StorageServicer_to_server(behaviour, server)])
    server.start()
    assert server.address == address
    with connect(address) as channel:
        assert describe(StorageStub(channel), "x").name == "x"
    server.stop(0)


def test_peers_share_one_channel_per_address(server: RpcServer, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counting(address: str, *, timeout_seconds: float) -> Channel:
        opened.append(address)
        return connect(address, timeout_seconds=timeout_seconds)

    monkeypatch.setattr("modyn.core.peers.connect", counting)
    peers = Peers(Addresses.all_at(server.address))
    assert opened == []
    assert describe(peers.storage, "x").name == "x"
    assert describe(peers.storage, "y").name == "y"
    assert peers.selector is not None
    assert opened == [server.address]
    peers.close()
    assert describe(peers.storage, "again").name == "again"
    peers.close()


def test_a_call_after_the_connection_was_closed_is_a_domain_error(server: RpcServer) -> None:
    channel = connect(server.address)
    stub = StorageStub(channel)
    channel.close()
    with pytest.raises(CancelledError, match="closed"):
        stub.ListDatasets(storage_pb2.ListDatasetsRequest())
    with pytest.raises(CancelledError, match="closed"):
        list(stub.Ingest(storage_pb2.IngestRequest(dataset="x")))

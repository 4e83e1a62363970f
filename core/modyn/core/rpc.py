"""gRPC servers and channels: error mapping, bulk messages, limits. No service code knows about status codes.

Servers are synchronous with a thread per call: bulk streams are fastest that way (see
``docs/decisions``), and long-lived streams are counted so that they cannot starve short calls.
Both ends stand in one module because what one does to a message or an error the other undoes.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import grpc

from modyn.core.errors import (
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
from modyn.proto.common_pb2 import ArrowMessage

logger = logging.getLogger(__name__)


class ServerLostError(UnavailableError):
    """No server answers at an address, or the one that did went away. (Where a server says that it cannot reach another
    one, that is an :class:`~modyn.core.errors.UnavailableError`.)"""


MAX_MESSAGE_BYTES = 64 << 20
"""Largest message accepted, in bytes; bulk messages aim at 1 MiB."""

SERVER_THREADS = 256
"""Calls served at once; threads are only created when needed."""

MAX_OPEN_STREAMS = 192
"""Server streams open at once; beyond it a caller gets BusyError instead of a silent wait."""

MAX_ERROR_CHARS = 12_000
"""An error message is cut to this length: gRPC carries it in headers."""

_ERROR_CLASS_KEY = "modyn-error"

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 256 << 10),
    ("grpc.absolute_max_metadata_size", 512 << 10),
    ("grpc.so_reuseport", 0),  # two servers must not share a port by accident
    ("grpc.use_local_subchannel_pool", 1),  # a channel of its own per connect()
]


def arrow_stream(stream: Iterable[ArrowMessage]) -> Iterator[bytes]:
    """A bulk stream under its real type: raw Arrow IPC messages."""
    return cast("Iterator[bytes]", iter(stream))


def as_arrow_messages(messages: Iterable[bytes]) -> Iterator[ArrowMessage]:
    """Raw Arrow IPC messages under the type the generated code declares for bulk streams."""
    return cast("Iterator[ArrowMessage]", iter(messages))


# --------------------------------------------------------------------------------------------------- server


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address (``host:port`` or ``unix:path``)."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RpcServer:
    """One port that serves any set of services.

    Args:
        address: ``host:port`` (port 0 picks a free one) or ``unix:path``.
        add_services: generated ``add_…Servicer_to_server`` functions, each bound to its servicer:
            ``lambda server: add_StorageServicer_to_server(servicer, server)``.
        insecure: allow an address other machines can reach; there is no TLS yet.
    """

    def __init__(
        self, address: str, add_services: Iterable[Callable[[grpc.Server], None]], *, insecure: bool = False
    ) -> None:
        if not is_loopback(address) and not insecure:
            raise InvalidInputError(
                f"address {address!r} is reachable from other machines and connections are not encrypted; "
                "listen on 127.0.0.1, or pass --insecure on a trusted network"
            )
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=SERVER_THREADS, thread_name_prefix="rpc"),
            interceptors=[_ErrorInterceptor()],
            options=_OPTIONS,
        )
        registrar = cast("grpc.Server", _IdentityRegistrar(self._server))
        for add in add_services:
            add(registrar)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConflictError(
                f"cannot listen on {address}: the port is in use or not allowed; choose another with --address"
            ) from error
        self.address = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def start(self) -> None:
        self._server.start()

    def stop(self, grace_seconds: float = 1.0) -> None:
        """Refuses new calls, lets open ones finish for a while, then cancels them."""
        self._server.stop(grace_seconds).wait()

    def wait(self) -> None:
        self._server.wait_for_termination()


class _IdentityRegistrar:
    """Stands for the server while services register: bulk messages lose their protobuf (de)serializer."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered handlers below serve every method; the generic twin would serve undone serializers."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        patched = {name: _without_arrow_codec(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, patched),))


def _without_arrow_codec(handler: Any) -> Any:
    if handler.request_deserializer == ArrowMessage.FromString:
        handler = handler._replace(request_deserializer=None)
    return handler._replace(response_serializer=_serialize)


def _serialize(message: Any) -> bytes:
    """Bulk messages are bytes already. (Message types cannot be told apart by their ``SerializeToString``: it is
    one method that all of them inherit.)"""
    return message if isinstance(message, bytes) else cast("bytes", message.SerializeToString())


class _ErrorInterceptor(grpc.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Maps domain errors to status codes, and counts open streams."""

    def __init__(self) -> None:
        self._streams = threading.BoundedSemaphore(MAX_OPEN_STREAMS)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        method = details.method
        if handler.unary_unary:
            return handler._replace(unary_unary=self._guard_call(handler.unary_unary, method))
        if handler.stream_unary:
            return handler._replace(stream_unary=self._guard_call(handler.stream_unary, method))
        if handler.unary_stream:
            return handler._replace(unary_stream=self._guard_stream(handler.unary_stream, method))
        return handler._replace(stream_stream=self._guard_stream(handler.stream_stream, method))

    def _guard_call(self, behaviour: Any, method: str) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - the one place where every error becomes a status
                _abort(context, error, method)

        return call

    def _guard_stream(self, behaviour: Any, method: str) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            if not self._streams.acquire(blocking=False):
                _abort(context, BusyError(f"the server has {MAX_OPEN_STREAMS} open streams; try again later"), method)
            try:
                yield from behaviour(request, context)
            except Exception as error:  # noqa: BLE001
                _abort(context, error, method)
            finally:
                self._streams.release()

        return call


def _abort(context: grpc.ServicerContext, error: Exception, method: str) -> None:
    if not context.is_active() and not isinstance(error, ModynError):
        raise error  # the caller is gone; whatever the handler tripped over is a consequence
    if not isinstance(error, ModynError):
        if isinstance(error, grpc.RpcError):
            error = to_domain_error(error)
        else:
            logger.error("%s failed", method, exc_info=error)
            error = InternalError(f"internal error in {method.rpartition('/')[2]}: {type(error).__name__}: {error}")
    message = error.message
    if len(message) > MAX_ERROR_CHARS:
        message = message[:MAX_ERROR_CHARS] + " … (cut)"
    context.set_trailing_metadata(((_ERROR_CLASS_KEY, type(error).__name__),))
    context.abort(grpc.StatusCode[error.code], message)


# --------------------------------------------------------------------------------------------------- client


_PROBE = "/modyn.v1.Probe/Answer"
"""A method no server has: that it says so shows that one is there."""


_ADDRESS = re.compile(r"unix:.+|[^:/]+:\d{1,5}|\[[^]]+\]:\d{1,5}")
"""``host:port``, ``[IPv6]:port`` or ``unix:path``."""


_ahead: dict[str, grpc.Channel] = {}
"""Channels that nobody asked for yet, by address."""


def connect_ahead(address: str, *, timeout_seconds: float = 1.0) -> None:
    """Makes the next :func:`connect` of this process to an address cheap.

    Raises:
        ModynError: as :func:`connect` does.
    """
    _ahead[address] = connect(address, timeout_seconds=timeout_seconds)._channel


def connect(address: str, *, timeout_seconds: float = 10.0) -> Channel:
    """A channel to a server, checked to be reachable.

    Raises:
        InvalidInputError: it is no address.
        UnavailableError: nothing answers at the address within the timeout.
    """
    if not _ADDRESS.fullmatch(address):
        raise InvalidInputError(f"address {address!r}: expected host:port, such as 127.0.0.1:50051, or unix:path")
    raw = _ahead.pop(address, None) or grpc.insecure_channel(address, options=_OPTIONS)
    try:  # one that was made ahead may have lost its server since
        # Not channel_ready_future: a channel it watched takes 200 ms to close.
        probe: Any = raw.unary_unary(_PROBE)
        probe(b"", timeout=timeout_seconds, wait_for_ready=True)
    except grpc.RpcError as error:
        if cast("grpc.Call", error).code() is not grpc.StatusCode.UNIMPLEMENTED:
            raw.close()
            raise ServerLostError(
                f"no server answers at {address} within {timeout_seconds:g} s; is it running? "
                "Start one with `modyn serve`"
            ) from error
    return Channel(raw, address)


class Channel(grpc.Channel):  # type: ignore[misc, unused-ignore]
    """A gRPC channel whose calls raise domain errors and whose bulk messages are raw bytes.

    Generated stubs accept it like any channel.
    """

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._channel = channel
        self.address = address

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _Call(self._channel.unary_unary(method, *_codecs(response_deserializer)))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _StreamCall(self._channel.unary_stream(method, *_codecs(response_deserializer)))

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _Call(self._channel.stream_unary(method, *_codecs(response_deserializer)))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return _StreamCall(self._channel.stream_stream(method, *_codecs(response_deserializer)))

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        self._channel.subscribe(callback, try_to_connect=bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> bool | None:
        self.close()
        return None


def _codecs(deserializer: Any) -> tuple[Any, Any]:
    return _serialize, None if deserializer == ArrowMessage.FromString else deserializer


@contextmanager
def _domain_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise to_domain_error(error) from None
    except ValueError as error:
        if "closed" not in str(error):  # that is how gRPC refuses a call after the channel was closed
            raise
        raise CancelledError("the connection was closed") from None


class _Call:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        with _domain_errors():
            return self._inner(request, timeout=timeout, **options)

    def future(self, request: Any, timeout: float | None = None, **options: Any) -> PendingCall:
        with _domain_errors():
            return PendingCall(self._inner.future(request, timeout=timeout, **options))


class PendingCall:
    """A call that is under way; ``cancel`` ends it from any thread."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def result(self) -> Any:
        """The answer, once it is there."""
        with _domain_errors():
            try:
                return self._call.result()
            except grpc.FutureCancelledError:
                raise CancelledError("the call was cancelled") from None

    def cancel(self) -> None:
        self._call.cancel()


class _StreamCall:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> ResponseStream:
        with _domain_errors():
            return ResponseStream(self._inner(request, timeout=timeout, **options))


class ResponseStream:
    """An iterator over the messages of a server stream; ``cancel`` ends it from any thread."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> ResponseStream:
        return self

    def __next__(self) -> Any:
        with _domain_errors():
            return next(self._call)

    def cancel(self) -> None:
        self._call.cancel()


def cancel(stream: object) -> None:
    """Cancels a server stream or a pending call of a stub (the static type does not say that it can be)."""
    cast("ResponseStream", stream).cancel()


def to_domain_error(error: grpc.RpcError) -> ModynError:
    """The domain error a server aborted with, or the nearest one for a transport failure."""
    call = cast("grpc.Call", error)
    code = call.code()
    details = call.details() or ""
    names = [value for key, value in call.trailing_metadata() or () if key == _ERROR_CLASS_KEY]
    if names:
        return error_class_for(code, str(names[0]))(details)
    if code is grpc.StatusCode.CANCELLED:
        return CancelledError("the call was cancelled")
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerLostError(f"the server cannot be reached or went away ({details})")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NotAvailableError(
            "the server at this address does not offer this call; where services are processes of their own, datasets "
            "are at the address of storage and pipelines at that of supervisor"
        )
    return error_class_for(code)(details or str(code))

"""Domain errors. A message says what is wrong *and* what to do about it.

Domain code raises these; one interceptor (``modyn.core.rpc``) maps them to gRPC status codes, and the client
channel maps the codes back, so a caller in another process sees the same class and message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc  # whatever handles models alone, such as an exported one, works without it


class ModynError(Exception):
    """Something went wrong that a user can be told about."""

    code: str = "INTERNAL"
    """Name of the ``grpc.StatusCode`` it crosses a connection with."""
    exit_status: int = 1
    """Exit status of the command line: 2 for the user's input, 1 for a failure."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInputError(ModynError):
    """A key, value, file or argument the user gave is wrong."""

    code = "INVALID_ARGUMENT"
    exit_status = 2


class NotFoundError(ModynError):
    """A name or id the user gave does not exist."""

    code = "NOT_FOUND"
    exit_status = 2


class AlreadyExistsError(ModynError):
    """A name is taken by something different."""

    code = "ALREADY_EXISTS"
    exit_status = 2


class ConflictError(ModynError):
    """The system is not in the state the request needs, for example the state directory is in use."""

    code = "FAILED_PRECONDITION"


class NotAllowedError(ModynError):
    """The server does not allow what was asked, for example inline Python on a shared server."""

    code = "PERMISSION_DENIED"
    exit_status = 2


class BusyError(ModynError):
    """A limit is reached for now; trying again later can succeed."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(ModynError):
    """A service or the catalog cannot be reached."""

    code = "UNAVAILABLE"


class CorruptDataError(ModynError):
    """Stored bytes do not match their checksum or cannot be decoded."""

    code = "DATA_LOSS"


class JobFailedError(ModynError):
    """A training or evaluation job ended with an error or was killed."""

    code = "ABORTED"


class CancelledError(ModynError):
    """The caller, or a stop, cancelled the work."""

    code = "CANCELLED"


class NotAvailableError(ModynError):
    """A documented feature this release does not have yet."""

    code = "UNIMPLEMENTED"
    exit_status = 2


class InternalError(ModynError):
    """A defect in this software."""

    code = "INTERNAL"


ERRORS_BY_NAME: dict[str, type[ModynError]] = {
    cls.__name__: cls
    for cls in (
        InvalidInputError,
        NotFoundError,
        AlreadyExistsError,
        ConflictError,
        NotAllowedError,
        BusyError,
        UnavailableError,
        CorruptDataError,
        JobFailedError,
        CancelledError,
        NotAvailableError,
        InternalError,
    )
}

_BY_CODE: dict[str, type[ModynError]] = {cls.code: cls for cls in ERRORS_BY_NAME.values()}


def error_class_for(code: grpc.StatusCode, name: str | None = None) -> type[ModynError]:
    """The class to raise for a status, by its transmitted class name where the server sent one."""
    if name is not None and name in ERRORS_BY_NAME:
        return ERRORS_BY_NAME[name]
    if code.name == "DEADLINE_EXCEEDED":
        return UnavailableError
    return _BY_CODE.get(code.name, InternalError)

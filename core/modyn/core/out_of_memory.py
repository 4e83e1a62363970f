"""Jobs that need more memory than there is: recognised by what libraries raise, and said in one way."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from modyn.core.errors import JobFailedError

_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "can't start new thread",  # its stack is memory too
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""In those errors of torch and Python that have no class of their own."""


@contextmanager
def memory_guard(device: str, key: str, batch_size: int, remedy: str = "make it smaller") -> Iterator[None]:
    """What runs out of memory inside says where, with how many samples at once, and what to do.

    Args:
        device: where, such as ``cuda:0``.
        key: of the configuration, that decides how many samples there are in memory.
        batch_size: its value.
        remedy: what to do about it.

    Raises:
        JobFailedError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
        raise JobFailedError(
            f"{device} ran out of memory with {key} {batch_size} ({reason}{_limit(device)}); {remedy}"
        ) from error


def out_of_memory(error: BaseException) -> str | None:
    """What an error, or one that caused it, says about memory that could not be had; None: it is about something else.

    >>> out_of_memory(MemoryError())
    'an allocation failed'
    >>> out_of_memory(ValueError("3 channels"))
    """
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).strip()
        # torch is not imported here, for most of what uses this has no need of it
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return text.splitlines()[0] if text else "an allocation failed"
        if isinstance(seen, RuntimeError) and any(message in text for message in _MESSAGES):
            return text.splitlines()[0]
        seen = seen.__cause__
    return None


def _limit(device: str) -> str:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if device != "cpu" or limit == resource.RLIM_INFINITY:
        return ""
    return f"; each process of this job may take {limit / (1 << 30):.3g} GiB"

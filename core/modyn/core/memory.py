"""How the C library deals with freed memory."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's ``mallopt``."""

KEPT_BYTES = 128 << 20
LARGE_BYTES = 32 << 20
GROW_BYTES = 16 << 20


@cache
def keep_freed_memory() -> None:
    """Lets freed memory, up to 128 MB of it, be used again instead of going back to the system.

    A bulk message is about 1 MiB, and several copies of it are allocated and freed on its way through gRPC and Python.
    By default glibc may return blocks of this size to the kernel each time, and each new one costs a page fault every
    4 KiB: more than all copying of the message. Elsewhere than on glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_TOP_PAD, GROW_BYTES)

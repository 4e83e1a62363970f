"""Surviving a source's file that becomes shorter while its memory map is read.

Touching a mapped page that the file no longer has raises SIGBUS, which kills the process. Size and time of a file are
compared before it is read, but nobody can keep its owner from truncating it in the moment after. So pages of guarded
maps that are gone are replaced by empty ones, which lets the read end; the map counts as faulted from then on, and who
has read from it has to ask. (The usual remedy, see ``mmap(2)`` and ``sigaction(2)``; by ctypes, without own C code.)

Only on 64-bit Linux; elsewhere, and for maps that are not guarded, the signal does what it always does.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import signal
import sys
import threading
import weakref

import numpy as np

_PAGE = mmap.PAGESIZE
_SI_ADDR = 16
"""Where ``siginfo_t`` holds the faulting address on 64-bit Linux."""

_MAP_FIXED = 0x10
_SA_SIGINFO = 4
_FAILED = 2**64 - 1

_guarded: dict[int, int] = {}
"""First and end address of every guarded map."""

_faulted: set[int] = set()
"""First addresses of guarded maps of which a page was gone."""

_installing = threading.Lock()
_installed: list[object] = []
"""What the C library points to, so that it is never freed."""


class _SigAction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Guard:
    """A memory map whose missing pages do no harm, as long as this object lives.

    Args:
        memory: a read-only map of a file that others may change.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._start = int(np.frombuffer(memory, dtype=np.uint8).ctypes.data)
        size = -(-len(memory) // _PAGE) * _PAGE
        _install()
        _faulted.discard(self._start)  # of an earlier map at the same place
        _guarded[self._start] = self._start + size
        weakref.finalize(self, _guarded.pop, self._start, None)

    @property
    def holds(self) -> bool:
        """Whether missing pages do no harm on this system."""
        return bool(_installed)

    @property
    def faulted(self) -> bool:
        """Whether something that was read from the map was not there any more."""
        return self._start in _faulted


def _install() -> None:
    """Once in a process, from any thread."""
    with _installing:
        if _installed or sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
            return
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_uint64
        libc.mmap.argtypes = [ctypes.c_uint64, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        before = _SigAction()

        def handle(_signal: int, info: int, _context: int) -> None:
            address = ctypes.c_uint64.from_address(info + _SI_ADDR).value
            start = next((start for start, end in list(_guarded.items()) if start <= address < end), None)
            page = address - address % _PAGE
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
            if start is None or libc.mmap(page, _PAGE, mmap.PROT_READ, flags, -1, 0) == _FAILED:
                libc.sigaction(signal.SIGBUS, ctypes.byref(before), None)  # it comes again at once, and does as it did
                return
            _faulted.add(start)

        callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64)(handle)
        action = _SigAction(handler=ctypes.cast(callback, ctypes.c_void_p).value, flags=_SA_SIGINFO)
        libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(before))
        _installed.extend((libc, callback, before))

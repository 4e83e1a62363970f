"""Frames on a socket between a server and its job: one byte of kind, four of length, the payload."""

from __future__ import annotations

import socket
import struct

DESCRIPTION = b"J"  # server -> job: what to do
MESSAGE = b"M"  # server -> job: what to do next; only to jobs that receive
EVENT = b"E"  # job -> server: progress
DONE = b"D"  # job -> server: ended well
FAILED = b"F"  # job -> server: JSON {class, message}

_HEADER = struct.Struct("!cI")


def send_frame(connection: socket.socket, kind: bytes, payload: bytes) -> None:
    connection.sendall(_HEADER.pack(kind, len(payload)) + payload)


def receive_frame(connection: socket.socket) -> tuple[bytes, bytes] | None:
    """The next frame, or None if the other side is gone."""
    header = _receive_exactly(connection, _HEADER.size)
    if header is None:
        return None
    kind, length = _HEADER.unpack(header)
    payload = _receive_exactly(connection, length)
    return None if payload is None else (kind, payload)


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        try:
            part = connection.recv(min(count, 1 << 20))
        except ConnectionResetError:
            return None
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

"""Entry points of jobs that tests launch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from modyn.core.errors import InvalidInputError

Emit = Callable[[bytes], None]
Receive = Callable[[], bytes | None]


def echo(payload: bytes, emit: Emit) -> None:
    emit(payload)


def echo_all(payload: bytes, emit: Emit, receive: Receive) -> None:
    emit(payload)
    while (message := receive()) is not None:
        if message == b"die":
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if message == b"hang":
            time.sleep(60)
        if message == b"refuse":
            raise InvalidInputError("message refused")
        emit(message)
    emit(b"end")


def boom(payload: bytes, emit: Emit) -> None:
    for line in range(30):
        print(f"line {line}")
    raise RuntimeError("boom")


def bad_input(payload: bytes, emit: Emit) -> None:
    raise InvalidInputError("label 12 is outside the model's 10 classes")


def sleep(payload: bytes, emit: Emit) -> None:
    emit(b"sleeping")
    time.sleep(60)


def suicide(payload: bytes, emit: Emit) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

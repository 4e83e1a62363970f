"""Entry points of jobs that tests launch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

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


# ------------------------------------------------------------------------------------------- jobs of a standby

WARMED_BY: list[str] = []


def warm_up(argument: str) -> None:
    """What a standby does ahead; a folder as argument gets a file named by its pid."""
    print("ahead of its job")
    WARMED_BY.append(argument)
    if argument == "raise":
        raise RuntimeError("cannot warm up")
    if argument == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if argument == "hang":
        time.sleep(60)
    if argument:
        Path(argument, str(os.getpid())).touch()


def who(payload: bytes, emit: Emit) -> None:
    """Says which process it is, and what it was warmed up with."""
    print("its own output")
    emit(f"{os.getpid()} {WARMED_BY}".encode())

"""Exports beside trainings: what they keep others from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.devices import Caller, Devices
from modyn.core.jobs import Job, JobDescription, JobLauncher
from modyn.core.peers import Addresses, Peers
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.proto.trainer_server_pb2 import ExportedPiece, ExportModelRequest
from modyn.trainer_server.side_jobs import SideJobs


class Files(Job):
    """A notice, then a file in two pieces."""

    def __init__(self) -> None:
        self.cancelled = False

    def events(self, *, until_gone: bool = True) -> Iterator[bytes]:
        pieces = [ExportedPiece(notice="n"), ExportedPiece(path="a", data=b"1"), ExportedPiece(data=b"2")]
        yield from (piece.SerializeToString() for piece in pieces)

    def send(self, message: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled = True


class Launcher(JobLauncher):
    def __init__(self) -> None:
        self.job = Files()

    def launch(self, description: JobDescription) -> Job:
        return self.job

    def close(self) -> None:
        raise NotImplementedError


def test_an_export_takes_one_processor_and_none_while_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    devices, launcher = Devices(), Launcher()
    peers = Peers(Addresses.all_at("unix:nowhere"))
    jobs = SideJobs(StateDirectory(tmp_path), peers, launcher, devices, allow_user_code=False)
    request = ExportModelRequest(
        model="a" * 32, model_section=to_value({"id": "Dummy"}), data_section=to_value({"dataset_id": "d"})
    )
    with devices.ticket("cpu", 1) as training:
        assert training.granted
        pieces = jobs.export(request, Caller(lambda: True, lambda callback: True))
        assert next(pieces).notice == "n"  # beside the training
        with devices.ticket("cpu", 1) as another:
            assert another.granted
            assert [piece.data for piece in pieces] == [b"1", b"2"]
    pieces = jobs.export(request, Caller(lambda: True, lambda callback: True))
    launcher.job.cancelled = False
    next(pieces)
    del pieces  # the client went away
    assert launcher.job.cancelled

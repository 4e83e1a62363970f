"""Evaluations whose job or whose server is killed, and what is left of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.core.arrow import Int64Array
from modyn.core.errors import JobFailedError
from modyn.core.jobs import ForkServerLauncher
from modyn.evaluator import predictor
from modyn.evaluator.forwarding import STEP_BATCHES
from modyn.evaluator.outcomes import OutcomeFile
from tests.helpers.evaluating import EvaluationServer, collect

N = 1_280
BATCH = 16
FIVE = BATCH + 4 * BATCH * STEP_BATCHES
"""Samples of five steps: the first one is of one batch."""
RNG = np.random.default_rng(3)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
TIMES = RNG.permutation(N)
WINDOWS = [(0, 500), (300, N), (600, 620)]

DYING = """
import os, pathlib, signal
import torch
from modyn.models.modules.mlp import mlp

class Net(torch.nn.Sequential):
    '''The i-th process is killed in its forward pass number kills[i] (from 0).'''

    def __init__(self, marks, kills):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))
        self.marks, self.kills, self.calls = pathlib.Path(marks), kills, 0

    def forward(self, x):
        process = len(list(self.marks.iterdir()))
        if process < len(self.kills) and self.calls == self.kills[process]:
            (self.marks / str(process)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        return super().forward(x)
"""

SERVER = """
import pathlib, sys, time
from modyn.core.jobs import ForkServerLauncher
from modyn.evaluator import predictor
from modyn.evaluator.forwarding import STEP_BATCHES
from modyn.evaluator.service import PRELOAD
from modyn.evaluator.store import OutcomeStore
from modyn.proto.evaluator_pb2 import EvaluateRequest
from tests.helpers.evaluating import EvaluationServer

predictor.PART_SECONDS = 0.0
adopt = OutcomeStore.adopt

def adopt_five(self, *arguments):
    answer = adopt(self, *arguments)
    if len(self.files()) == 5:
        pathlib.Path(sys.argv[2]).rename(sys.argv[2] + ".read")
        time.sleep(600)
    return answer

OutcomeStore.adopt = adopt_five
server = EvaluationServer(pathlib.Path(sys.argv[1]), ForkServerLauncher(PRELOAD))
for event in server.peers.evaluator.Evaluate(EvaluateRequest.FromString(pathlib.Path(sys.argv[2]).read_bytes())):
    pass
"""


def dataset(server: EvaluationServer) -> str:
    return server.dataset(LABELS, TIMES, **{f"x{i}": FEATURES[:, i] for i in range(4)})


def outcome_files(server: EvaluationServer) -> list[Path]:
    return [path for path in (server.state.path / "outcomes").glob("*.arrow") if path.name[0] != "."]


def said(files: list[Path], model: str) -> dict[int, bytes]:
    """The scores of each sample, to the last bit; all files must agree."""
    found: dict[int, bytes] = {}
    for path in files:
        outcomes = OutcomeFile(path).of(model)
        assert outcomes.scores is not None
        for key, scores in zip(outcomes.keys.tolist(), outcomes.scores, strict=True):
            assert found.setdefault(key, scores.tobytes()) == scores.tobytes()
    return found


@pytest.mark.parametrize("kills", [[20], [3, 12]])
def test_a_job_that_is_killed_is_started_again_for_what_is_missing(
    server: EvaluationServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kills: list[int]
) -> None:
    monkeypatch.setattr(predictor, "PART_SECONDS", 0.0)
    (tmp_path / "dying.py").write_text(DYING)
    (marks := tmp_path / "marks").mkdir()
    name, models = dataset(server), [server.model(1), server.model(2)]
    wanted = {models[0]: [0, 1], models[1]: [1, 2]}
    section = {"id": "dying:Net", "config": {"marks": str(marks), "kills": kills}}
    answer = server.evaluate(name, WINDOWS, wanted, model=section, root=tmp_path, batch_size=BATCH)
    plain = server.evaluate(name, WINDOWS, wanted, batch_size=BATCH)
    assert answer.values() == plain.values()
    assert answer.predictions == plain.predictions
    assert [notice for notice in answer.notices if "killed by SIGKILL" in notice]
    assert sum("started again" in notice for notice in answer.notices) == len(kills)
    assert server.launcher.launched == len(kills) + 2
    assert answer.done is not None
    assert answer.done.samples_read == N  # what the killed jobs lost is not counted
    samples = [progress[0] for progress in answer.progress]
    assert samples == sorted(samples)
    assert answer.progress[-1] == (plain.predictions, plain.predictions)


@pytest.mark.parametrize(("kills", "jobs"), [([0], 1), ([9, 9, 9], 3), ([9, 0], 2)])
def test_a_job_that_is_killed_too_often_or_without_progress_fails_the_request(
    server: EvaluationServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kills: list[int], jobs: int
) -> None:
    monkeypatch.setattr(predictor, "PART_SECONDS", 0.0)
    (tmp_path / "dying.py").write_text(DYING)
    (marks := tmp_path / "marks").mkdir()
    section = {"id": "dying:Net", "config": {"marks": str(marks), "kills": kills}}
    with pytest.raises(JobFailedError, match="killed by SIGKILL"):
        server.evaluate(dataset(server), WINDOWS, {server.model(1): [0]}, model=section, root=tmp_path)
    assert server.launcher.launched == jobs
    assert not list((server.state.path / "outcomes").glob(".tmp*"))


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))  # short: a Unix socket's path has at most 107 bytes
    yield folder
    shutil.rmtree(folder)


def test_a_server_that_is_killed_goes_on_where_it_was(launcher: ForkServerLauncher, folder: Path) -> None:
    server = EvaluationServer(folder, launcher)
    models = [server.model(1), server.model(2)]
    wanted = {models[0]: [0, 1], models[1]: [0, 1]}
    scores = [{"name": "Accuracy", "topn": 2}]
    request = server.request(dataset(server), WINDOWS, wanted, metrics=scores, batch_size=BATCH, reuse=True, threads=2)
    server.close()
    (folder / "request").write_bytes(request.SerializeToString())
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(folder / "request")])
    try:
        while (folder / "request").exists():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    (server.state.path / "outcomes" / ".tmp-left-3.arrow").write_bytes(b"half")
    (folder / "socket").unlink(missing_ok=True)

    server = EvaluationServer(folder, launcher)
    try:
        assert not list((server.state.path / "outcomes").glob(".tmp*"))
        answer = collect(server.peers.evaluator.Evaluate(request))
        assert (answer.reused, answer.predictions) == (2 * FIVE, 2 * (N - FIVE))
        assert answer.done is not None
        assert answer.done.reused_seconds > 0, "nobody was told before what they took"
        files = outcome_files(server)
        request.reuse = False
        undisturbed = collect(server.peers.evaluator.Evaluate(request))
        assert undisturbed.predictions == 2 * N
        assert answer.values() == undisturbed.values()
        for model in models:
            resumed = said(files, model)
            assert sorted(resumed) == list(range(N))
            assert resumed == said(outcome_files(server), model)  # those of the undisturbed job are among them
    finally:
        server.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_hold_whole_batches_of_the_undisturbed_job(
    fresh_server: EvaluationServer, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    server = fresh_server
    name, model = dataset(server), server.model(1)
    monkeypatch.setattr(predictor, "PART_SECONDS", 0.0)
    server.evaluate(name, WINDOWS, {model: [0, 1]}, batch_size=BATCH, threads=threads)
    order = np.lexsort((np.arange(N), TIMES))
    position = {int(key): index for index, key in enumerate(order)}
    parts: list[Int64Array] = [OutcomeFile(path).of(model).keys for path in outcome_files(server)]
    parts.sort(key=lambda keys: position[int(keys[0])])
    assert np.concatenate(parts).tolist() == order.tolist()
    sizes = [len(keys) for keys in parts]
    assert sizes[0] == BATCH
    assert set(sizes[1:-1]) == {BATCH if threads == 1 else BATCH * STEP_BATCHES}
    assert all(size % BATCH == 0 for size in sizes)

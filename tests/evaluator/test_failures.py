"""Models and jobs that fail, callers that go away."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from modyn.core.errors import CancelledError, JobFailedError, NotAllowedError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.rpc import cancel
from modyn.evaluator.baselines import BASELINES
from modyn.proto.evaluator_pb2 import EvaluateEvent
from tests.helpers.evaluating import EvaluationServer

N = 64
FEATURES = {f"x{i}": np.random.default_rng(i).normal(size=N).astype(np.float32) for i in range(4)}
WIDE = {"id": "MLP", "config": {"in_features": 4, "hidden": [9], "num_classes": 3}}

USER_MODELS = """
import os, pathlib, signal, time
import torch
from modyn.models.modules.mlp import mlp

def plain():
    return mlp(4, [8], 3, "relu", 0.0)

class Odd(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*plain())

class Raises(Odd):
    def forward(self, x):
        if float(next(self.parameters()).flatten()[0]) > {threshold}:
            raise RuntimeError("too hot")
        return super().forward(x)

class Huge(Odd):
    def forward(self, x):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

class Tuple(Odd):
    def forward(self, x):
        return super().forward(x), 1

class Transposed(Odd):
    def forward(self, x):
        return super().forward(x).T

class Sleeps(Odd):
    def forward(self, x):
        (pathlib.Path(__file__).parent / "pid").write_text(str(os.getpid()))
        time.sleep(60)
        return super().forward(x)

class Dies(Odd):
    def forward(self, x):
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def name(server: EvaluationServer) -> str:
    return server.dataset(np.arange(N) % 3, np.arange(N), **FEATURES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "odd.py").write_text(USER_MODELS.replace("{threshold}", "-1e9"))
    return tmp_path


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_model_whose_weights_do_not_fit_fails_alone(server: EvaluationServer, name: str) -> None:
    good, bad, unknown = server.model(1), server.model(2, WIDE), "0" * 40
    answer = server.evaluate(name, [(0, 40), (20, N)], {bad: [0, 1], good: [0, 1], unknown: [1]}, baselines=True)
    assert set(answer.failures) == {bad, unknown}
    assert "do not fit the model" in answer.failures[bad]
    assert unknown in answer.failures[unknown]
    assert {subject for subject, _ in answer.scores} == {good, *BASELINES}
    assert answer.values() == server.evaluate(name, [(0, 40), (20, N)], {good: [0, 1]}, baselines=True).values()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("odd:Raises", "forward pass raised RuntimeError: too hot"),
        (
            "odd:Huge",
            r"cpu ran out of memory with evaluation.datasets\[\].batch_size 16 \(.*9 bytes\); make it smaller",
        ),
        ("odd:Tuple", "returned a tuple; expected a tensor"),
        ("odd:Transposed", r"returned shape \[3, 16\] for 16 samples; expected \[16, outputs\]"),
        ("odd:Nothing", "no attribute 'Nothing'"),
    ],
)
def test_a_model_that_misbehaves_is_a_failure_of_that_model(
    server: EvaluationServer, name: str, root: Path, model: str, said: str
) -> None:
    digest = server.model(1)
    answer = server.evaluate(name, [(None, None)], {digest: [0]}, model={"id": model}, root=root)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(answer.failures[digest])
    assert answer.predictions == 0


def test_a_model_that_fails_half_way_leaves_the_other_ones_whole(
    server: EvaluationServer, name: str, root: Path
) -> None:
    (root / "odd.py").write_text(USER_MODELS.replace("{threshold}", "0"))
    models = [server.model(seed) for seed in range(6)]
    answer = server.evaluate(
        name, [(None, None)], {model: [0] for model in models}, model={"id": "odd:Raises"}, root=root, reuse=True
    )
    assert 0 < len(answer.failures) < 6
    plain = server.evaluate(name, [(None, None)], {model: [0] for model in models})
    for model in set(models) - set(answer.failures):
        assert answer.value(model, 0) == plain.value(model, 0)


def test_a_job_that_dies_fails_the_request_with_its_last_words_and_the_next_one_works(
    server: EvaluationServer, name: str, root: Path
) -> None:
    model = server.model(1)
    with pytest.raises(JobFailedError, match=r"killed by SIGKILL[\s\S]*evaluate-.*\.log[\s\S]*last words"):
        server.evaluate(name, [(None, None)], {model: [0]}, model={"id": "odd:Dies"}, root=root)
    assert server.evaluate(name, [(None, None)], {model: [0]}).predictions == N
    assert not list((server.state.path / "outcomes").glob(".tmp*"))


def test_cancelling_the_call_kills_the_job_and_frees_the_device(
    server: EvaluationServer, name: str, root: Path
) -> None:
    model = server.model(1)
    request = server.request(name, [(None, None)], {model: [0]}, model={"id": "odd:Sleeps"}, root=root)
    stream = server.peers.evaluator.Evaluate(request)
    events: list[EvaluateEvent] = []
    errors: list[Exception] = []

    def read() -> None:
        try:
            events.extend(stream)
        except CancelledError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    pid_file = root / "pid"
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.02)
    cancel(stream)
    reader.join(timeout=10)
    assert errors
    assert gone(int(pid_file.read_text()))
    assert server.evaluate(name, [(None, None)], {model: [0]}).predictions == N
    assert not list((server.state.path / "outcomes").glob(".tmp*"))


def test_a_request_waits_for_the_device_and_is_told_so(server: EvaluationServer, name: str, root: Path) -> None:
    model = server.model(1)
    sleeping = server.request(name, [(None, None)], {model: [0]}, model={"id": "odd:Sleeps"}, root=root)
    first = server.peers.evaluator.Evaluate(sleeping)
    assert [next(first).WhichOneof("kind") for _ in range(2)] == ["metrics", "progress"]
    while not (root / "pid").exists():
        time.sleep(0.02)
    second = server.peers.evaluator.Evaluate(server.request(name, [(None, None)], {model: [0]}))
    waiting = [next(second) for _ in range(3)]
    assert waiting[2].queued.waiting == 1
    cancel(first)
    kinds = [event.WhichOneof("kind") for event in second]
    assert kinds[-1] == "done"


def test_a_caller_that_gives_up_while_waiting_leaves_the_queue(server: EvaluationServer, name: str, root: Path) -> None:
    model = server.model(1)
    sleeping = server.request(name, [(None, None)], {model: [0]}, model={"id": "odd:Sleeps"}, root=root)
    first = server.peers.evaluator.Evaluate(sleeping)
    next(first)
    while not (root / "pid").exists():
        time.sleep(0.02)
    second = server.peers.evaluator.Evaluate(server.request(name, [(None, None)], {model: [0]}))
    next(second)
    cancel(second)
    cancel(first)
    assert server.evaluate(name, [(None, None)], {model: [0]}).predictions == N


def test_a_server_that_did_not_opt_in_runs_no_user_code(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    server = EvaluationServer(tmp_path, launcher, allow_user_code=False)
    try:
        name = server.dataset(np.arange(N) % 3, np.arange(N), **FEATURES)
        model = server.model(1)
        with pytest.raises(NotAllowedError, match="client's folder"):
            server.evaluate(name, [(None, None)], {model: [0]}, root=tmp_path)
        inline = {"label_transformer_function": "def label_transformer_function(y): return y"}
        with pytest.raises(NotAllowedError, match="label_transformer_function"):
            server.evaluate(name, [(None, None)], {model: [0]}, data=inline)
        assert server.evaluate(name, [(None, None)], {model: [0]}).predictions == N
    finally:
        server.close()

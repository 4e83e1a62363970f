from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from modyn.client.server import WARM_UP
from modyn.core.jobs import ForkServerLauncher
from modyn.trainer_server.service import PRELOAD
from tests.helpers.training import TrainingServer

MLP = {"id": "MLP", "config": {"in_features": 2, "num_classes": 2}}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_the_server_process_does_not_import_torch() -> None:
    assert run_python("import sys, modyn.trainer_server.service; print('torch' in sys.modules)") == "False"


def test_the_fork_server_starts_no_thread_of_ours_and_has_all_a_job_needs() -> None:
    code = (
        f"import importlib, sys, threading\nfor name in {PRELOAD!r}: importlib.import_module(name)\n"
        "before = set(sys.modules)\n"
        "import torch\nm = torch.nn.Linear(2, 2)\no = torch.optim.AdamW(m.parameters())\n"
        "m(torch.zeros(1, 2)).sum().backward(); o.step()\n"
        "from modyn.models.weights import dump; dump(m)\n"
        "print(threading.active_count(), sorted(n for n in set(sys.modules) - before if n.count('.') < 1))"
    )
    assert run_python(code) == "1 []"


def test_jobs_leave_no_log_when_they_say_nothing(server: TrainingServer) -> None:
    dataset = server.dataset(np.arange(4) % 2, a=np.arange(4.0), b=np.arange(4.0))
    request = server.request(dataset, server.sets.put_range(dataset, 0, 4), model=MLP, trigger_index=5)
    server.train(request)
    log = server.state.path / "jobs" / "p" / "train-5.log"
    assert log.read_text() == ""


def test_the_first_batch_comes_soon(server: TrainingServer, launcher: ForkServerLauncher) -> None:
    """A generous bound; the real figure is a benchmark's."""
    launcher.wait_ready()
    dataset = server.dataset(np.arange(100) % 2, a=np.arange(100.0), b=np.arange(100.0))
    request = server.request(dataset, server.sets.put_range(dataset, 0, 100), model=MLP)
    seconds = []
    for _ in range(5):
        began = time.time()
        events = server.events(request)
        (first,) = [event.first_batch for event in events if event.WhichOneof("kind") == "first_batch"]
        seconds.append(first.unix_time - began)
    assert sorted(seconds)[2] < 1.0


@pytest.mark.parametrize("clients", [6])
def test_many_pipelines_at_once(server: TrainingServer, clients: int) -> None:
    dataset = server.dataset(np.arange(100) % 2, a=np.arange(100.0), b=np.arange(100.0))
    training_set = server.sets.put_range(dataset, 0, 100)
    requests = [
        server.request(dataset, training_set, model=MLP, pipeline_id=f"p{i}", seed=i % 2) for i in range(clients)
    ]
    with ThreadPoolExecutor(clients) as pool:
        models = [result.model for result in pool.map(server.train, requests)]
    assert len(set(models)) == 2
    assert models[::2] == [models[0]] * (clients // 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_that_was_warmed_up_ahead_trains_the_same_model(
    server: TrainingServer, launcher: ForkServerLauncher, threads: int
) -> None:
    numbers = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    dataset = server.dataset(np.arange(300) % 2, a=numbers[0], b=numbers[1])
    model = {"id": "MLP", "config": {"in_features": 2, "num_classes": 2, "hidden": [64], "dropout": 0.5}}
    request = server.request(
        dataset, server.sets.put_range(dataset, 0, 300), model=model, training={"threads": threads}, seed=3
    )
    cold = server.train(request)
    launcher.warm_up(WARM_UP, json.dumps([server.peers.addresses.storage]))
    try:
        warm = [server.train(request) for _ in range(2)]
    finally:
        launcher.warm_up("builtins:len", "")  # jobs of other tests begin as they did
    assert [result.model for result in warm] == [cold.model] * 2
    assert not any(result.reused for result in warm)

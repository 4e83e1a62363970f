"""Trainings that several processes share, through the real service: equal to one process, and failing like one."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as parse

from modyn.core.config.training import EarlyStoppingSection
from modyn.core.errors import InvalidInputError, JobFailedError, ModynError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.values import to_value
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainRequest, TrainResult
from modyn.storage.reader import fetch_model
from modyn.trainer_server.validation import held_out
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

RNG = np.random.default_rng(3)
N = 53
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
WEIGHTS = RNG.uniform(0.1, 2, N).astype(np.float32)
MLP = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 3}}


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    return server.dataset(LABELS, **{f"x{i}": FEATURES[:, i] for i in range(4)})


def weights(server: TrainingServer, result: TrainResult) -> dict[str, torch.Tensor]:
    return parse(fetch_model(server.peers.storage, result.model))


def notices(events: list[TrainEvent]) -> list[str]:
    return [event.notice for event in events if event.WhichOneof("kind") == "notice"]


@pytest.mark.parametrize(
    ("processes", "weighted", "training"),
    [
        # a last batch of 5 for 2 processes, all class weights differ; batches are accumulated
        (2, True, {
            "batch_size": 8, "epochs_per_trigger": 2, "gradient_accumulation": 2,
            "optimization_criterion": {"name": "CrossEntropyLoss", "config": {"weight": [0.2, 1.0, 3.0]}},
        }),
        # a last batch of 1 for 3 processes: two have none; clipped, early stopping, another schedule,
        # layers that are frozen at first
        (3, False, {
            "batch_size": 4, "epochs_per_trigger": 2, "gradient_clipping": {"max_norm": 0.1},
            "early_stopping": {"validation_share": 0.2, "patience": 5},
            "callbacks": [{"name": "FreezeLayers", "modules": ["1"], "epochs": 1}],
            "lr_scheduler": {"name": "CosineAnnealingLR", "step_every": "batch", "config": {"T_max": 20}},
        }),
    ],
)  # fmt: skip
def test_equal_to_one_process(
    server: TrainingServer, dataset: str, processes: int, weighted: bool, training: dict[str, Any]
) -> None:
    digest = server.sets.put(dataset, np.arange(N), WEIGHTS if weighted else None)
    optimizers = [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.1, "momentum": 0.9}}]}]

    def trained(**more: Any) -> TrainResult:
        return server.train(
            server.request(dataset, digest, model=MLP, training={"optimizers": optimizers, **training, **more})
        )

    alone, together = trained(), trained(processes=processes)

    assert (together.batches, together.samples_trained) == (alone.batches, alone.samples_trained)
    assert together.epoch_losses == pytest.approx(alone.epoch_losses, rel=1e-5)
    assert together.validation_losses == pytest.approx(alone.validation_losses, rel=1e-5)
    theirs = weights(server, together)
    for name, tensor in weights(server, alone).items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-6)


def test_processes_judge_the_model_that_is_stored(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    """Batch statistics on the CPU are each process's own; those of the first are stored."""
    code_root.write(
        "normed.py",
        """
        import torch

        def net():
            return torch.nn.Sequential(torch.nn.BatchNorm1d(4, momentum=0.9), torch.nn.Linear(4, 3))
        """,
    )
    stopping = EarlyStoppingSection(validation_share=0.3)
    training = {"batch_size": 8, "processes": 2, "early_stopping": stopping.model_dump()}
    digest = server.sets.put_range(dataset, 0, N)
    result = server.train(
        server.request(dataset, digest, model={"id": "normed:net"}, training=training, root=code_root)
    )
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3)).eval()
    model.load_state_dict(weights(server, result))
    mask = held_out(np.arange(N), stopping, 0)
    with torch.no_grad():
        outputs = model(torch.from_numpy(FEATURES[mask]))
    expected = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(LABELS[mask])).item()
    assert list(result.validation_losses) == pytest.approx([expected], rel=1e-5)


def test_each_process_forks_its_parsers(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    """Before it meets the others: with threads it would have to start interpreters, which takes seconds."""
    code_root.write(
        "forked.py",
        """
        import sys

        def twice(sample):
            assert "modyn.trainer_server.elastic" in sys.modules
            return 2 * sample
        """,
    )
    results = [
        server.train(
            server.request(
                dataset,
                server.sets.put_range(dataset, 0, N),
                model=MLP,
                data={"transformations": ["forked:twice"]},
                training={"batch_size": 8, "processes": 2, "dataloader_workers": workers},
                root=code_root,
            )
        )
        for workers in (0, 1)
    ]
    assert results[0].model == results[1].model


FOREVER = {"epochs_per_trigger": 10_000_000, "batch_size": 10, "processes": 2, "checkpointing": {"activated": False}}


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def failure(
    server: TrainingServer, request: TrainRequest, on_progress: Callable[[], None] = lambda: None
) -> tuple[ModynError, list[TrainEvent]]:
    """The error that a training ends with, and the events before it.

    Args:
        on_progress: called once, as soon as it trains.
    """
    events: list[TrainEvent] = []
    try:
        for event in server.peers.trainer_server.Train(request):
            if event.WhichOneof("kind") == "progress" and not any(e.WhichOneof("kind") == "progress" for e in events):
                on_progress()
            events.append(event)
    except ModynError as error:
        return error, events
    raise AssertionError("it did not fail")


class Processes:
    """Those of the one training that runs."""

    def __init__(self, launcher: ForkServerLauncher) -> None:
        self._launcher = launcher
        self.job = 0
        self.shares: list[int] = []

    def find(self) -> None:
        (self.job,) = children(self._launcher._server._process.pid)
        self.shares = children(self.job)

    def kill_job(self) -> None:
        self.find()
        os.kill(self.job, signal.SIGKILL)

    def kill_one(self) -> None:
        self.find()
        os.kill(self.shares[1], signal.SIGKILL)


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/stat").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_process_ends_the_job_and_is_named(
    server: TrainingServer, launcher: ForkServerLauncher, dataset: str
) -> None:
    processes = Processes(launcher)
    request = server.request(dataset, server.sets.put_range(dataset, 0, N), model=MLP, training=FOREVER)
    error, _ = failure(server, request, processes.kill_one)
    assert isinstance(error, JobFailedError)
    assert "killed by SIGKILL" in error.message.partition("\n")[0]
    assert re.search("process [01] of 2 was killed by SIGKILL", error.message)
    wait_until_gone(processes.shares)


def test_processes_die_with_their_job(server: TrainingServer, launcher: ForkServerLauncher, dataset: str) -> None:
    processes = Processes(launcher)
    request = server.request(dataset, server.sets.put_range(dataset, 0, N), model=MLP, training=FOREVER)
    error, _ = failure(server, request, processes.kill_job)
    assert "killed by SIGKILL" in error.message
    assert len(processes.shares) == 2
    wait_until_gone(processes.shares)


def test_one_that_was_killed_goes_on_from_a_checkpoint_to_the_same_bits(
    server: TrainingServer, launcher: ForkServerLauncher, dataset: str
) -> None:
    training: dict[str, Any] = {"epochs_per_trigger": 75, "batch_size": 16, "processes": 2, "record_loss_every": 20}
    training["checkpointing"] = {"interval": 25}
    digest = server.sets.put(dataset, np.arange(N), WEIGHTS)
    request = server.request(dataset, digest, model=MLP, training=training)
    undisturbed = server.train(request)

    processes, again = Processes(launcher), None
    for event in server.peers.trainer_server.Train(request):
        if event.WhichOneof("kind") == "progress" and event.progress.batches >= 60 and not processes.job:
            processes.kill_one()
        again = event
    assert processes.job
    assert again is not None
    assert (again.result.attempts, undisturbed.attempts) == (2, 1)
    assert again.result.model == undisturbed.model


def test_an_error_of_one_process_is_the_training_s(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write(
        "part.py",
        """
        import os
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = torch.nn.BatchNorm1d(4)
                self.used, self.unused = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

            def forward(self, x):
                if os.environ["RANK"] == "1" and self.training and hasattr(self, "seen"):
                    raise ValueError("too bright")
                self.seen = True
                return self.used(self.norm(x))
        """,
    )
    request = server.request(
        dataset, server.sets.put_range(dataset, 0, N), model={"id": "part:Net"}, training=FOREVER, root=code_root
    )
    error, events = failure(server, request)
    assert isinstance(error, InvalidInputError)
    assert "too bright" in error.message
    assert any("batch normalisation" in notice for notice in notices(events))


def test_downsampling_needs_one_process(server: TrainingServer, dataset: str) -> None:
    digest = server.sets.put_range(dataset, 0, N)
    strategy = to_value({"strategy": "Uniform", "ratio": 50})
    request = server.request(dataset, digest, model=MLP, training={"processes": 2}, downsampling=strategy)
    error, _ = failure(server, request)
    assert re.search("needs one process, not 2; set them to 1", error.message)


HUNGRY = """
    import torch

    class Net(torch.nn.Linear):
        def __init__(self):
            super().__init__(4, 3)

        def forward(self, x):
            if self.training:
                torch.empty(3 << 30, dtype=torch.uint8)
            return super().forward(x)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_wants_more_memory_than_it_may_have(
    server: TrainingServer,
    launcher: ForkServerLauncher,
    dataset: str,
    code_root: CodeRoot,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    monkeypatch.setattr(launcher, "_memory_bytes", processes * 2 << 30)
    code_root.write("hungry.py", HUNGRY)
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, N),
        model={"id": "hungry:Net"},
        training={"batch_size": 7, "processes": processes},
        root=code_root,
    )
    error, _ = failure(server, request)
    assert isinstance(error, JobFailedError)
    assert "cpu ran out of memory with training.batch_size 7 (" in error.message
    assert "3221225472 bytes" in error.message
    assert "may take 2 GiB" in error.message
    assert "make it smaller; training.gradient_accumulation keeps" in error.message

"""What goes wrong gets a clear error, leaves no mess, and the next training works."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import (
    CancelledError,
    InvalidInputError,
    JobFailedError,
    ModynError,
    NotAllowedError,
    NotAvailableError,
    NotFoundError,
)
from modyn.core.jobs import ForkServerLauncher
from modyn.core.rpc import cancel
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.trainer_server.service import PRELOAD
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

N = 50
MLP = {"id": "MLP", "config": {"in_features": 2, "hidden": [4], "num_classes": 2}}
FOREVER = {"epochs_per_trigger": 10_000_000, "batch_size": 10}


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    return server.dataset(labels, a=rng.normal(size=N), b=rng.normal(size=N))


@pytest.fixture
def training_set(server: TrainingServer, dataset: str) -> str:
    return server.sets.put_range(dataset, 0, N)


def job_processes(launcher: ForkServerLauncher) -> list[int]:
    """Children of the fork server."""
    parent = launcher._server._process.pid
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()]


def wait_for_jobs(launcher: ForkServerLauncher, count: int) -> list[int]:
    deadline = time.monotonic() + 20
    while len(found := job_processes(launcher)) != count:
        assert time.monotonic() < deadline, f"{len(found)} jobs instead of {count}"
        time.sleep(0.01)
    return found


def fails(
    server: TrainingServer, error: type[ModynError], message: str, dataset: str, training_set: str, **fields: Any
) -> ModynError:
    request = server.request(dataset, training_set, **{"model": MLP, **fields})
    with pytest.raises(error, match=message) as caught:
        server.events(request)
    assert "Traceback" not in caught.value.message or error is JobFailedError
    return caught.value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training": {"optimizers": [{"algorithm": "Adamm"}]}}, "no optimizer 'Adamm'"),
        ({"training": {"optimizers": [{"param_groups": [{"module": "model.x"}]}]}}, "no module 'model.x'"),
        ({"training": {"optimizers": [{"param_groups": [{}, {}]}]}}, "is already in"),
        ({"training": {"optimizers": [{"param_groups": [{"config": {"lrr": 1}}]}]}}, "lrr"),
        ({"training": {"optimization_criterion": {"name": "CrossEntropi"}}}, "no loss 'CrossEntropi'"),
        ({"training": {"optimization_criterion": {"config": {"reduktion": "sum"}}}}, "reduktion"),
        ({"training": {"lr_scheduler": {"name": "StepLR"}}}, "lr_scheduler.config of StepLR"),
        ({"training": {"grad_scaler_config": {"grow": 1}}}, "grad_scaler_config"),
        ({"training": {"device": "cuda:99"}}, "training.device: cuda:99"),
        ({"training": {"batch_size": -1}}, "batch_size"),
        ({"model": {"id": "MLP", "config": {"in_features": 7, "num_classes": 2}}}, r"cannot.*float32 \[50, 2\]"),
        ({"model": {"id": "MLP", "config": {"in_features": 2, "num_classes": 1}}}, "outside the model's 1 classes"),
        ({"training": {"optimization_criterion": {"name": "MSELoss"}}}, r"MSELoss does not fit.*float32 \[50, 2\]"),
        ({"data": {"parser": {"name": "columns", "columns": ["a", "z"]}}}, "z"),
        ({"data": {"bytes_parser_function": "def bytes_parser_function(d):\n    return d"}}, "column of bytes"),
        ({"model": {"id": "nowhere:Net"}}, "no module named 'nowhere'"),
    ],
)  # fmt: skip
def test_input_errors(
    server: TrainingServer, dataset: str, training_set: str, fields: dict[str, Any], message: str
) -> None:
    fails(server, InvalidInputError, message, dataset, training_set, **fields)


def test_label_outside_the_classes(server: TrainingServer) -> None:
    labels = np.arange(N) % 2
    labels[17] = 12
    dataset = server.dataset(labels, a=np.zeros(N), b=np.zeros(N))
    message = r"label 12 \(sample key 17\) is outside the model's 2 classes"
    fails(server, InvalidInputError, message, dataset, server.sets.put_range(dataset, 0, N))


def test_user_parser_that_raises_names_itself_and_the_batch(
    server: TrainingServer, dataset: str, code_root: CodeRoot
) -> None:
    code_root.write("bad_parser.py", "def parse(columns):\n    raise ValueError('no colour')\n")
    training_set = server.sets.put(dataset, np.arange(30, 40))
    message = (
        r"data.parser 'bad_parser:parse' raised ValueError: no colour \(line 2 of bad_parser.py, in parse\) "
        r"\(in the batch that starts with sample key 30\)"
    )
    fields = {"data": {"parser": "bad_parser:parse"}, "training": {"shuffle": False}, "root": code_root}
    fails(server, InvalidInputError, message, dataset, training_set, **fields)


def test_a_loss_that_explodes_is_placed(server: TrainingServer, dataset: str, training_set: str) -> None:
    training = {
        "batch_size": 10,
        "epochs_per_trigger": 500,
        "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 1e30}}]}],
    }
    fails(
        server, JobFailedError, r"the loss is (nan|inf) at batch \d+; lower", dataset, training_set, training=training
    )


def test_weights_that_explode_in_the_last_batch_are_not_stored(
    server: TrainingServer, dataset: str, training_set: str
) -> None:
    sgd = {"algorithm": "SGD", "param_groups": [{"config": {"lr": 3e38, "weight_decay": 100}}]}
    message = "after the last batch the weights '.*' are not finite"
    fails(server, JobFailedError, message, dataset, training_set, training={"optimizers": [sgd], "batch_size": N})


def test_missing_inputs(server: TrainingServer, dataset: str, training_set: str) -> None:
    fails(server, NotFoundError, "no training set nothing", dataset, "nothing")
    fails(server, NotFoundError, "model", dataset, training_set, initial_model="0" * 40)
    empty = server.sets.put(dataset, [])
    fails(server, InvalidInputError, "training of trigger 0 of pipeline p: its training set is empty", dataset, empty)


def test_all_samples_unlabelled(server: TrainingServer) -> None:
    dataset = server.dataset(pa.nulls(N, pa.int64()), a=np.zeros(N), b=np.zeros(N))
    training_set = server.sets.put_range(dataset, 0, N)
    fails(server, InvalidInputError, "no sample of the training set has a label", dataset, training_set)


def test_stored_weights_of_another_architecture(server: TrainingServer, dataset: str, training_set: str) -> None:
    other = {"id": "MLP", "config": {"in_features": 2, "hidden": [5], "num_classes": 2}}
    digest = server.train(server.request(dataset, training_set, model=other)).model
    message = r"1\.weight is \[5, 2\], the model needs \[4, 2\]"
    fails(server, InvalidInputError, message, dataset, training_set, initial_model=digest)


def test_a_broken_job_shows_its_output(
    server: TrainingServer, dataset: str, training_set: str, code_root: CodeRoot
) -> None:
    code_root.write(
        "noisy.py", "import os\ndef parse(columns):\n    print('last words', flush=True)\n    os._exit(3)\n"
    )
    fields = {"data": {"parser": "noisy:parse"}, "root": code_root, "trigger_index": 77}
    error = fails(server, JobFailedError, "ended without a result", dataset, training_set, **fields)
    assert "last words" in error.message
    assert (server.state.path / "jobs" / "p" / "train-77.log").read_text() == "last words\n"


def test_a_device_out_of_memory_names_the_batch_size(
    server: TrainingServer, dataset: str, training_set: str, code_root: CodeRoot
) -> None:
    code_root.write(
        "hungry.py",
        """
        import torch

        class Net(torch.nn.Linear):
            def __init__(self):
                super().__init__(2, 2)

            def forward(self, x):
                raise torch.OutOfMemoryError("tried to allocate too much")
        """,
    )
    fields = {"model": {"id": "hungry:Net"}, "root": code_root, "training": {"batch_size": 7}}
    fails(server, JobFailedError, "out of memory with training.batch_size 7", dataset, training_set, **fields)


def test_user_code_is_refused_where_it_is_not_allowed(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="modyn-") as folder:
        strict = TrainingServer(Path(folder), launcher, allow_user_code=False)
        try:
            dataset = strict.dataset([0, 1], a=[0.0, 1.0], b=[0.0, 1.0])
            training_set = strict.sets.put_range(dataset, 0, 2)
            source = "def label_transformer_function(y):\n    return y"
            data = {"label_transformer_function": source}
            fails(strict, NotAllowedError, "data.label_transformer_function", dataset, training_set, data=data)
            fails(strict, NotAllowedError, "folder", dataset, training_set, root=tmp_path)
            assert strict.train(strict.request(dataset, training_set, model=MLP)).samples_trained == 2
        finally:
            strict.close()


def test_apex_is_not_available(server: TrainingServer, dataset: str, training_set: str) -> None:
    training = {"optimizers": [{"source": "APEX"}]}
    fails(server, ModynError, "APEX", dataset, training_set, training=training)
    assert NotAvailableError.exit_status == InvalidInputError.exit_status


# ------------------------------------------------------------------------------------ killed and cancelled


def running(server: TrainingServer, request: TrainRequest) -> Any:
    """A stream of a training that has begun."""
    stream = server.peers.trainer_server.Train(request)
    for event in stream:
        if event.WhichOneof("kind") == "progress":
            return stream
    raise AssertionError("it ended")


def test_a_killed_job_fails_and_the_next_one_works(
    server: TrainingServer, launcher: ForkServerLauncher, dataset: str, training_set: str
) -> None:
    stream = running(server, server.request(dataset, training_set, model=MLP, training=FOREVER))
    (pid,) = wait_for_jobs(launcher, 1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(JobFailedError, match=r"training of trigger 0 of pipeline p failed.*killed by SIGKILL"):
        list(stream)
    assert server.train(server.request(dataset, training_set, model=MLP)).samples_trained == N


def test_cancelling_kills_the_job_and_frees_the_device(
    server: TrainingServer, launcher: ForkServerLauncher, dataset: str, training_set: str
) -> None:
    stream = running(server, server.request(dataset, training_set, model=MLP, training=FOREVER))
    wait_for_jobs(launcher, 1)
    cancel(stream)
    with pytest.raises(CancelledError):
        list(stream)
    wait_for_jobs(launcher, 0)
    assert server.train(server.request(dataset, training_set, model=MLP)).samples_trained == N


def test_trainings_wait_for_the_device(
    server: TrainingServer, launcher: ForkServerLauncher, dataset: str, training_set: str
) -> None:
    all_cores = {**FOREVER, "threads": None}
    first = running(server, server.request(dataset, training_set, model=MLP, training=all_cores))
    waiting = []
    for position in (1, 2):
        waiting.append(server.peers.trainer_server.Train(server.request(dataset, training_set, model=MLP)))
        assert next(iter(waiting[-1])).queued.waiting == position
    assert len(job_processes(launcher)) == 1
    cancel(waiting[0])  # leaves the queue
    cancel(first)
    assert list(waiting[1])[-1].result.samples_trained == N
    wait_for_jobs(launcher, 0)


def test_the_fork_server_is_replaced_when_it_dies() -> None:
    own = ForkServerLauncher(PRELOAD)
    with tempfile.TemporaryDirectory(prefix="modyn-") as folder:
        other = TrainingServer(Path(folder), own, allow_user_code=True)
        try:
            dataset = other.dataset(np.arange(N) % 2, a=np.zeros(N), b=np.zeros(N))
            training_set = other.sets.put_range(dataset, 0, N)
            request = other.request(dataset, training_set, model=MLP, training=FOREVER)
            stream = running(other, request)
            threading.Timer(0.05, own._server._process.kill).start()
            with pytest.raises(JobFailedError):
                list(stream)
            assert other.train(other.request(dataset, training_set, model=MLP)).samples_trained == N
        finally:
            other.close()
            own.close()

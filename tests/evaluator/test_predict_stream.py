"""Streams of questions about samples: what models say of them, by a job that stays."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

from modyn.core.alignment import rows_of
from modyn.core.arrow import MESSAGE_BYTES, batch_of, decode_batch, encode_batch
from modyn.core.errors import (
    CancelledError,
    InvalidInputError,
    JobFailedError,
    ModynError,
    NotAllowedError,
    NotFoundError,
)
from modyn.core.jobs import ForkServerLauncher
from modyn.core.keysets import KeySet
from modyn.core.rpc import cancel
from modyn.core.values import to_value
from modyn.evaluator.observing import MAX_KEYS
from modyn.evaluator.outcomes import OutcomeFile
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.evaluator_pb2 import ObserveAnswer, ObserveRequest, ObserveSession
from tests.helpers.evaluating import MODEL, EvaluationServer, module, plain_loop
from tests.helpers.labelling import delete

N = 90
RNG = np.random.default_rng(11)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
COLUMNS = {f"x{i}": FEATURES[:, i] for i in range(4)}
LABELS = RNG.integers(0, 3, N)

USER_MODELS = """
import os, pathlib, time
import torch
from modyn.models.modules.mlp import mlp

class Odd(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))

class Raises(Odd):
    def forward(self, x):
        raise RuntimeError("too hot")

class Sleeps(Odd):
    def forward(self, x):
        pid = pathlib.Path(__file__).parent / "pid"
        pid.with_suffix(".new").write_text(str(os.getpid()))
        pid.with_suffix(".new").rename(pid)
        time.sleep(60)

class Counts(Odd):
    def __init__(self):
        super().__init__()
        with open(pathlib.Path(__file__).parent / "loads", "a") as file:
            file.write("x")
        (pathlib.Path(__file__).parent / "pid").write_text(str(os.getpid()))

class NoLinear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 3))

    def forward(self, x):
        return x @ self.weight

class Noisy(Odd):
    def forward(self, x):
        return super().forward(x) + torch.rand(len(x), 3)
"""


class Stream:
    """One open stream, asked question by question."""

    def __init__(self, server: EvaluationServer, dataset: str, **session: Any) -> None:
        fields = {
            "pipeline_id": "7",
            "dataset": dataset,
            "data": to_value({"dataset_id": dataset, **session.pop("data", {})}),
            "model": to_value(session.pop("model", MODEL)),
            "batch_size": 16,
            "device": "cpu",
            "threads": 1,
        }
        root = session.pop("root", None)
        code = CodeOrigin(root=str(root)) if root else None
        self.session = ObserveSession(code=code, **{**fields, **session})
        self._begun = False
        self._requests: queue.SimpleQueue[ObserveRequest | None] = queue.SimpleQueue()
        self.answers: Iterator[ObserveAnswer] = server.peers.evaluator.Observe(iter(self._requests.get, None))

    def send(self, model: str, keys: npt.ArrayLike, **wanted: Any) -> None:
        request = ObserveRequest(model=model, keys=KeySet.from_array(np.asarray(keys)).to_proto(), **wanted)
        if not self._begun:
            request.session.CopyFrom(self.session)
            self._begun = True
        self._requests.put(request)

    def read(self) -> tuple[pa.Table, list[ObserveAnswer]]:
        answers: list[ObserveAnswer] = []
        for answer in self.answers:
            answers.append(answer)
            if answer.HasField("done"):
                break
        batches = [decode_batch(answer.samples) for answer in answers if answer.HasField("samples")]
        table = pa.Table.from_batches(batches) if batches else pa.table({"key": pa.array([], pa.int64())})
        return table, answers

    def ask(self, model: str, keys: npt.ArrayLike, **wanted: Any) -> pa.Table:
        self.send(model, keys, **wanted)
        return self.read()[0]

    def close(self) -> None:
        self._requests.put(None)
        with contextlib.suppress(ModynError):
            assert list(self.answers) == []


@pytest.fixture
def name(server: EvaluationServer) -> str:
    return server.dataset(LABELS, np.arange(N), **COLUMNS)


@pytest.fixture
def open_stream(server: EvaluationServer) -> Iterator[Any]:
    streams: list[Stream] = []

    def opened(dataset: str, **session: Any) -> Stream:
        streams.append(Stream(server, dataset, **session))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "odd.py").write_text(USER_MODELS)
    return tmp_path


def matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    array = column.combine_chunks()
    flat: npt.NDArray[np.float32] = array.flatten().to_numpy()
    return flat.reshape(len(array), array.type.list_size)


def body(seed: int, section: dict[str, Any] | None = None) -> torch.nn.Module:
    """A model without its last layer."""
    return torch.nn.Sequential(*list(module(seed, section).eval().children())[:-1])


def logs(server: EvaluationServer) -> list[Path]:
    return sorted((server.state.path / "jobs").glob("*/observe-*"))


def pid_in(root: Path) -> int:
    while not (root / "pid").exists():
        time.sleep(0.02)
    return int((root / "pid").read_text())


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_answers_are_those_of_an_evaluation_and_of_a_forward_pass(
    server: EvaluationServer, name: str, open_stream: Any
) -> None:
    models = [server.model(seed) for seed in (1, 2)]
    server.evaluate(name, [(None, None)], {model: [0] for model in models}, reuse=True)
    path = max((server.state.path / "outcomes").glob("*.arrow"), key=lambda file: file.stat().st_mtime)
    stream = open_stream(name)
    for seed, model in zip((1, 2), models, strict=True):
        table = stream.ask(model, np.arange(N), scores=True, embeddings=True)
        assert table["key"].to_pylist() == list(range(N))
        outcomes = OutcomeFile(path).of(model)
        rows = rows_of(outcomes.keys, np.arange(N))
        np.testing.assert_array_equal(table["prediction"].to_numpy(), outcomes.predictions[rows])
        np.testing.assert_allclose(matrix(table["scores"]), plain_loop(seed, FEATURES), atol=1e-6)
        with torch.no_grad():
            hidden = body(seed)(torch.from_numpy(FEATURES))
        np.testing.assert_allclose(matrix(table["embedding"]), hidden.numpy(), atol=1e-6)


def test_only_what_was_asked_for_in_the_order_asked_for(server: EvaluationServer, name: str, open_stream: Any) -> None:
    stream, model = open_stream(name), server.model(1)
    expected = plain_loop(1, FEATURES).argmax(axis=1)
    for keys in ([5, 3, 80, 4, 79, 0], [7], list(range(20, 70))):
        table = stream.ask(model, keys)
        assert table.column_names == ["key", "prediction"]
        assert table["key"].to_pylist() == keys
        assert table["prediction"].to_pylist() == expected[keys].tolist()
    assert stream.ask(model, keys, embeddings=True).column_names == ["key", "prediction", "embedding"]
    assert len(stream.ask("", [])) == 0


def test_requests_sent_ahead_are_answered_in_order(server: EvaluationServer, name: str, open_stream: Any) -> None:
    stream, models = open_stream(name), [server.model(seed) for seed in range(5)]  # more than are kept
    order = [0, 1, 2, 3, 4, 0, 4, 1]
    for position, index in enumerate(order):
        stream.send(models[index], [position, 50])
    for position, index in enumerate(order):
        table = stream.read()[0]
        assert table["key"].to_pylist() == [position, 50]
        expected = plain_loop(index, FEATURES[[position, 50]]).argmax(axis=1)
        assert table["prediction"].to_pylist() == expected.tolist()


def test_one_job_per_stream_keeps_the_last_models(
    server: EvaluationServer, name: str, root: Path, open_stream: Any
) -> None:
    stream, models = open_stream(name, model={"id": "odd:Counts"}, root=root), [server.model(seed) for seed in range(4)]

    def loads() -> int:
        return len((root / "loads").read_text())

    for model in (models[:3] * 2) + models[1:3]:
        stream.ask(model, [1])
    assert loads() == 3
    stream.ask(models[3], [1])
    stream.ask(models[0], [1])
    assert loads() == 5
    assert server.launcher.launched == 1


def test_deleted_samples_are_left_out(server: EvaluationServer, name: str, open_stream: Any) -> None:
    stream, model = open_stream(name), server.model(1)
    before = stream.ask(model, [9, 8, 7, 6], scores=True)
    delete(server.peers, name, [8, 6, 40])
    after = stream.ask(model, [9, 8, 7, 6], scores=True)
    assert after["key"].to_pylist() == [9, 7]
    np.testing.assert_allclose(matrix(after["scores"]), matrix(before["scores"])[[0, 2]], atol=1e-6)
    assert len(stream.ask(model, [8, 6])) == 0


def test_large_answers_come_in_messages_of_about_a_mebibyte(server: EvaluationServer, open_stream: Any) -> None:
    count = 6_000
    dataset = server.dataset(
        np.zeros(count, np.int64), np.arange(count), **{f"x{i}": np.arange(count, dtype=np.float32) for i in range(4)}
    )
    section = {"id": "MLP", "config": {"in_features": 4, "hidden": [128], "num_classes": 3}}
    stream, model = open_stream(dataset, model=section, batch_size=5_000), server.model(3, section)
    stream.send(model, np.arange(count), embeddings=True)
    table, answers = stream.read()
    assert table["key"].to_pylist() == list(range(count))
    assert len(answers) > 2
    assert max(len(answer.samples) for answer in answers) < 1.2 * MESSAGE_BYTES
    assert answers[-1].done.samples == count
    assert not any(answer.HasField("done") for answer in answers[:-1])
    with torch.no_grad():
        inputs = torch.arange(count, dtype=torch.float32).repeat(4, 1).T
        hidden = body(3, section)(inputs)
    np.testing.assert_allclose(matrix(table["embedding"]), hidden.numpy(), rtol=1e-4, atol=1e-4)


def test_labels_go_through_the_label_transformer(server: EvaluationServer, name: str, open_stream: Any) -> None:
    inline = {"label_transformer_function": "def label_transformer_function(labels):\n    return 2 - labels"}
    stream, model = open_stream(name, data=inline), server.model(1)
    stream.send(model, [3], labels=encode_batch(batch_of(label=pa.array(LABELS))))
    table, (answer,) = stream.read()
    assert table["key"].to_pylist() == [3]
    assert np.frombuffer(answer.done.classes, "<i8").tolist() == (2 - LABELS).tolist()
    stream.send("", [], labels=encode_batch(batch_of(label=pa.array([1]))))
    assert np.frombuffer(stream.read()[1][0].done.classes, "<i8").tolist() == [1]


def test_what_user_code_draws_does_not_depend_on_earlier_requests(
    server: EvaluationServer, name: str, root: Path, open_stream: Any
) -> None:
    stream, model = open_stream(name, model={"id": "odd:Noisy"}, root=root), server.model(1)
    first = matrix(stream.ask(model, [1, 2, 3], scores=True)["scores"])
    stream.ask(model, [4])
    np.testing.assert_array_equal(matrix(stream.ask(model, [1, 2, 3], scores=True)["scores"]), first)


def test_two_streams_at_once(server: EvaluationServer, name: str, open_stream: Any) -> None:
    first, second = open_stream(name), open_stream(name)
    one, two = server.model(1), server.model(2)
    for _ in range(5):
        first.send(one, [1, 2, 3])
        second.send(two, [1, 2, 3])
    for _ in range(5):
        assert first.read()[0]["prediction"].to_pylist() == plain_loop(1, FEATURES[1:4]).argmax(axis=1).tolist()
        assert second.read()[0]["prediction"].to_pylist() == plain_loop(2, FEATURES[1:4]).argmax(axis=1).tolist()
    assert server.launcher.launched == 2


def test_a_stream_that_asks_nothing_holds_no_device(server: EvaluationServer, name: str, open_stream: Any) -> None:
    model, many = server.model(1), 1_000
    streams = [open_stream(name, threads=many) for _ in range(2)]
    for stream in streams:
        stream.ask(model, [1])
    assert server.evaluate(name, [(None, None)], {model: [0]}, threads=many).predictions == N
    streams[0].ask(model, [2])


def test_a_stream_that_ends_ends_its_job(server: EvaluationServer, name: str, open_stream: Any) -> None:
    stream = open_stream(name)
    stream.ask(server.model(1), [1])
    stream.close()
    assert logs(server) == [], "an empty log is removed once the job has ended well"


def test_a_stream_without_any_request(server: EvaluationServer) -> None:
    assert list(server.peers.evaluator.Observe(iter(()))) == []
    assert server.launcher.launched == 0


def test_a_job_that_is_killed_in_mid_request(server: EvaluationServer, name: str, root: Path, open_stream: Any) -> None:
    model = server.model(1)
    stream = open_stream(name, model={"id": "odd:Sleeps"}, root=root, threads=1_000)
    stream.send(model, [1])
    os.kill(pid_in(root), signal.SIGKILL)
    with pytest.raises(JobFailedError, match=r"observation of '\w+' failed: its process was killed by SIGKILL"):
        stream.read()
    assert len(open_stream(name, threads=1_000).ask(model, [1])) == 1


def test_cancelling_in_mid_request_kills_the_job_and_frees_the_device(
    server: EvaluationServer, name: str, root: Path, open_stream: Any
) -> None:
    model = server.model(1)
    stream = open_stream(name, model={"id": "odd:Sleeps"}, root=root, threads=1_000)
    waiting = open_stream(name, threads=1_000)
    stream.send(model, [1])
    pid = pid_in(root)
    waiting.send(model, [1])
    threading.Timer(0.1, lambda: cancel(stream.answers)).start()
    with pytest.raises(CancelledError):
        stream.read()
    assert gone(pid)
    assert len(waiting.read()[0]) == 1


def test_cancelling_between_two_requests_kills_the_job(
    server: EvaluationServer, name: str, root: Path, open_stream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream = open_stream(name, model={"id": "odd:Counts"}, root=root)
    stream.ask(server.model(1), [1])
    cancel(stream.answers)
    assert gone(pid_in(root))
    assert not caplog.records


@pytest.mark.parametrize(
    ("session", "wanted", "error", "said"),
    [
        ({}, {"model": "0" * 40}, NotFoundError, "0000"),
        ({"model": {"id": "odd:Raises"}}, {}, InvalidInputError, "cannot predict: RuntimeError: too hot"),
        ({"model": {"id": "MLP", "config": {"in_features": 5, "num_classes": 3}}}, {}, InvalidInputError, "do not fit"),
        ({"model": {"id": "MLPP"}}, {}, InvalidInputError, "MLPP"),
        ({"batch_size": 0}, {}, InvalidInputError, "batch_size 0"),
        ({"device": "tpu"}, {}, InvalidInputError, "device 'tpu'"),
        ({"device": "cuda:99"}, {}, InvalidInputError, "cuda:99"),
        ({"pipeline_id": "../x"}, {}, InvalidInputError, "pipeline_id"),
        ({}, {"keys": range(MAX_KEYS + 1)}, InvalidInputError, f"expected at most {MAX_KEYS}"),
        ({}, {"keys": [N]}, InvalidInputError, f"{N}"),
        ({}, {"model": ""}, InvalidInputError, "expected the digest"),
    ],
)
def test_what_cannot_be_answered(
    server: EvaluationServer,
    name: str,
    root: Path,
    open_stream: Any,
    session: dict[str, Any],
    wanted: dict[str, Any],
    error: type[ModynError],
    said: str,
) -> None:
    stream = open_stream(name, root=root, **session)
    stream.send(wanted.get("model", server.model(1)), wanted.get("keys", [1]))
    with pytest.raises(error, match=said):
        stream.read()
    assert len(open_stream(name).ask(server.model(1), [1])) == 1


def test_a_model_without_linear_layer_has_no_embeddings(
    server: EvaluationServer, name: str, root: Path, open_stream: Any
) -> None:
    from modyn.models.weights import dump
    from modyn.storage.reader import store_model

    holder = torch.nn.Module()
    holder.weight = torch.nn.Parameter(torch.ones(4, 3))
    model = store_model(server.peers.storage, dump(holder))
    stream = open_stream(name, model={"id": "odd:NoLinear"}, root=root)
    assert len(stream.ask(model, [1, 2])) == 2
    stream.send(model, [1, 2], embeddings=True)
    with pytest.raises(InvalidInputError, match=r"model 'odd:NoLinear' has no torch\.nn\.Linear layer"):
        stream.read()


def test_the_session_comes_first_and_once(server: EvaluationServer, name: str) -> None:
    request = ObserveRequest(model=server.model(1), keys=KeySet.from_array([1]).to_proto())
    with pytest.raises(InvalidInputError, match="the first request of a stream has to have one"):
        list(server.peers.evaluator.Observe(iter([request])))
    request.session.CopyFrom(Stream(server, name).session)
    with pytest.raises(InvalidInputError, match="only the first request"):
        list(server.peers.evaluator.Observe(iter([request, request])))


def test_a_server_that_did_not_opt_in_runs_no_user_code(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    server = EvaluationServer(tmp_path, launcher, allow_user_code=False)
    try:
        name = server.dataset(LABELS, np.arange(N), **COLUMNS)
        inline = {"label_transformer_function": "def label_transformer_function(y): return y"}
        for session, said in (
            ({"root": tmp_path}, "client's folder"),
            ({"data": inline}, "label_transformer_function"),
        ):
            stream = Stream(server, name, **session)
            stream.send(server.model(1), [1])
            with pytest.raises(NotAllowedError, match=said):
                stream.read()
            stream.close()
    finally:
        server.close()


def test_a_server_that_stops_ends_its_streams(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    server = EvaluationServer(tmp_path, launcher)
    name = server.dataset(LABELS, np.arange(N), **COLUMNS)
    stream = Stream(server, name)
    stream.ask(server.model(1), [1])
    begin = time.monotonic()
    server.close()
    assert time.monotonic() - begin < 10
    with pytest.raises(ModynError):
        next(stream.answers)
    stream.close()

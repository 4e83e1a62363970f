"""What a pipeline's observer answers, on real storage and a real evaluator."""

from __future__ import annotations

import json
import shutil
import tempfile
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

from modyn.core.config.reader import load_pipeline_text
from modyn.core.errors import CancelledError, InvalidInputError, JobFailedError, NotFoundError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.randomness import Purpose, generator
from modyn.evaluator.service import PRELOAD
from modyn.supervisor.context import RunContext
from modyn.supervisor.journal import Journal
from modyn.supervisor.labels import KnownLabels
from modyn.supervisor.observing import PipelineObserver
from modyn.supervisor.options import RunOptions
from modyn.supervisor.trainer_servers import TrainerServers
from tests.helpers.evaluating import MODEL, EvaluationServer, module, plain_loop
from tests.helpers.labelling import delete, set_labels

N = 120
RNG = np.random.default_rng(5)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
COLUMNS = {f"x{i}": FEATURES[:, i] for i in range(4)}
LABELS = RNG.integers(0, 3, N)
SAID = {seed: plain_loop(seed, FEATURES) for seed in (1, 2, 3)}

SLEEPS = """
import os, pathlib, time
import torch
from modyn.models.modules.mlp import mlp

class Sleeps(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))

    def forward(self, x):
        pid = pathlib.Path(__file__).parent / "pid"
        pid.with_suffix(".new").write_text(str(os.getpid()))
        pid.with_suffix(".new").rename(pid)
        time.sleep(60)
"""


DIES = """
import os, pathlib, signal
import torch
from modyn.models.modules.mlp import mlp

class Dies(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))

    def forward(self, x):
        graves = pathlib.Path({folder!r}) / "graves"
        graves.mkdir(exist_ok=True)
        if len(list(graves.iterdir())) < {deaths}:
            (graves / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([[0.0, 1.0, 0.0]]).expand(len(x), 3)
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[ForkServerLauncher]:
    launcher = ForkServerLauncher(PRELOAD)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def shared_server(launcher: ForkServerLauncher) -> Iterator[EvaluationServer]:
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))
    server = EvaluationServer(folder, launcher)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture
def server(shared_server: EvaluationServer) -> EvaluationServer:
    shared_server.launcher.launched = 0
    return shared_server


@pytest.fixture
def name(server: EvaluationServer) -> str:
    return server.dataset(LABELS, np.arange(N), **COLUMNS)


class Pipeline:
    """A pipeline's context and observer."""

    def __init__(self, server: EvaluationServer, dataset: str, options: RunOptions, **sections: Any) -> None:
        tree: dict[str, Any] = {
            "pipeline": {"name": "observed"},
            "data": {"dataset_id": dataset, **sections.pop("data", {})},
            "model": sections.pop("model", MODEL),
            "trigger": {"id": "DataAmountTrigger", "num_samples": 10},
            "training": {"seed": 9, "threads": 1},
            **sections,
        }
        config = load_pipeline_text(json.dumps(tree), "test").require_runnable()
        self.run = RunContext(7, config, options, server.peers, Journal(server.catalog), TrainerServers(server.peers))
        self.labels = KnownLabels(self.run)
        self.observer = PipelineObserver(self.run, self.labels)


@pytest.fixture
def observed(server: EvaluationServer) -> Iterator[Any]:
    pipelines: list[Pipeline] = []

    def make(dataset: str, options: RunOptions | None = None, **sections: Any) -> Pipeline:
        pipelines.append(Pipeline(server, dataset, options or RunOptions(), **sections))
        return pipelines[-1]

    yield make
    for pipeline in pipelines:
        pipeline.observer.close()


def body(seed: int) -> torch.nn.Module:
    """A model without its last layer."""
    return torch.nn.Sequential(*list(module(seed).eval().children())[:-1])


def hidden(seed: int) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        embeddings: npt.NDArray[np.float32] = body(seed)(torch.from_numpy(FEATURES)).numpy()
    return embeddings


def test_embeddings_in_the_order_asked_for_and_each_once(server: EvaluationServer, name: str, observed: Any) -> None:
    observer, models = observed(name).observer, {seed: server.model(seed) for seed in (1, 2)}
    shown = 0
    for seed, keys, new in [(1, [5, 3, 9, 3], 3), (1, [9, 4, 5], 1), (2, [3, 4], 2), (1, [3, 9, 4], 0), (1, [], 0)]:
        answer = observer.embeddings(np.array(keys, dtype=np.int64), models[seed])
        shown += new
        assert answer.dtype == np.float32
        if keys:
            np.testing.assert_allclose(answer, hidden(seed)[keys], atol=1e-6)
        assert observer.samples_embedded == observer.samples_predicted == shown
    assert server.launcher.launched == 1
    assert observer.seconds > 0


def test_only_the_newest_models_are_kept(server: EvaluationServer, name: str, observed: Any) -> None:
    observer, models = observed(name).observer, [server.model(seed) for seed in (1, 2, 3)]
    for model in (models[0], models[1], models[0], models[2], models[0]):
        observer.embeddings(np.arange(10), model)
    assert observer.samples_embedded == 30
    observer.embeddings(np.arange(10), models[1])
    assert observer.samples_embedded == 40


def test_more_than_one_request_holds(server: EvaluationServer, observed: Any) -> None:
    count = 20_000
    numbers = RNG.normal(size=(4, count)).astype(np.float32)
    labels = np.arange(count) % 3
    dataset = server.dataset(labels, np.arange(count), **{f"x{i}": numbers[i] for i in range(4)})
    inline = {"label_transformer_function": "def label_transformer_function(labels):\n    return 2 - labels"}
    observer, model = observed(dataset, data=inline).observer, server.model(1)
    keys = RNG.permutation(count)
    with torch.no_grad():
        network = module(1).eval()
        inputs = torch.from_numpy(numbers.T.copy())
        embeddings, classes = body(1)(inputs).numpy(), network(inputs).argmax(dim=1).numpy()
    np.testing.assert_allclose(observer.embeddings(keys, model), embeddings[keys], atol=1e-5)
    answer = observer.outcomes(keys, model, known_at=count, scores=False)
    assert answer.keys.tolist() == keys.tolist()
    assert answer.outcomes.predictions.tolist() == classes[keys].tolist()
    assert answer.outcomes.labels.tolist() == (2 - labels[keys]).tolist()
    assert observer.samples_predicted == count  # predictions had come along with the embeddings


def test_outcomes_are_labels_and_predictions(server: EvaluationServer, name: str, observed: Any) -> None:
    observer, model = observed(name).observer, server.model(1)
    keys = np.array([7, 3, 3, 11])
    answer = observer.outcomes(keys, model, known_at=10**6, scores=False)
    assert answer.keys.tolist() == keys.tolist()
    assert answer.outcomes.labels.tolist() == LABELS[keys].tolist()
    assert answer.outcomes.predictions.tolist() == SAID[1].argmax(axis=1)[keys].tolist()
    assert answer.outcomes.scores is None
    assert answer.gone.tolist() == []
    for column in (answer.keys, answer.outcomes.labels, answer.outcomes.predictions):
        assert column.dtype == np.int64
    scored = observer.outcomes(keys, model, known_at=10**6, scores=True)
    np.testing.assert_allclose(scored.outcomes.scores, SAID[1][keys], atol=1e-6)
    assert observer.samples_predicted == 6  # once without scores, then with them, and from now on always with them
    observer.outcomes(np.array([50]), model, known_at=10**6, scores=False)
    observer.outcomes(np.array([50]), model, known_at=10**6, scores=True)
    assert observer.samples_predicted == 7
    empty = observer.outcomes(np.array([], dtype=np.int64), model, known_at=0, scores=True)
    assert len(empty.keys) == len(empty.outcomes) == 0


def test_a_sample_whose_embedding_is_known_is_not_shown_again(
    server: EvaluationServer, name: str, observed: Any
) -> None:
    observer, model = observed(name).observer, server.model(1)
    observer.embeddings(np.arange(20), model)
    assert len(observer.outcomes(np.arange(20), model, known_at=10**6, scores=False).keys) == 20
    observer.outcomes(np.arange(20, 30), model, known_at=10**6, scores=False)
    observer.embeddings(np.arange(30), model)
    assert observer.samples_predicted == 30


def test_deleted_samples_are_left_out_of_everything(server: EvaluationServer, name: str, observed: Any) -> None:
    observer, model = observed(name).observer, server.model(1)
    keys = np.array([4, 8, 15, 16, 23])
    for cached in (False, True):
        if cached:
            delete(server.peers, name, [8, 23, 99])
        left = [4, 15, 16] if cached else keys.tolist()
        np.testing.assert_allclose(observer.embeddings(keys, model), hidden(1)[left], atol=1e-6)
        np.testing.assert_array_equal(observer.columns(keys, ("x2",)), FEATURES[left, 2:3])
        answer = observer.outcomes(keys, model, known_at=10**6, scores=True)
        assert answer.keys.tolist() == left
        assert answer.outcomes.labels.tolist() == LABELS[left].tolist()
        np.testing.assert_allclose(answer.outcomes.scores, SAID[1][left], atol=1e-6)
        assert answer.gone.tolist() == sorted(set(keys.tolist()) - set(left))
    fresh = observed(name).observer
    assert len(fresh.embeddings(np.array([8, 23]), model)) == 0
    assert len(fresh.columns(np.array([8, 23]), ())) == 0
    nothing = fresh.outcomes(np.array([8, 23]), model, known_at=10**6, scores=True)
    assert (len(nothing.keys), len(nothing.outcomes), nothing.gone.tolist()) == (0, 0, [8, 23])


def test_labels_as_known_at_a_data_time(server: EvaluationServer, observed: Any) -> None:
    dataset = server.dataset(pa.nulls(10, pa.int64()), np.arange(10), **{k: v[:10] for k, v in COLUMNS.items()})
    model, keys = server.model(1), np.arange(10)
    set_labels(server.peers, dataset, "first", [1, 2, 5], [0, 1, 2], label_time=[3, 6, 6])
    server.extend(dataset, pa.nulls(1, pa.int64()), [10], **{k: v[:1] for k, v in COLUMNS.items()})
    by_event = observed(dataset)
    by_event.labels.begin()
    by_arrival = observed(dataset, RunOptions(order="arrival"))
    set_labels(server.peers, dataset, "second", [3], [1], label_time=3)
    server.extend(dataset, pa.nulls(1, pa.int64()), [11], **{k: v[:1] for k, v in COLUMNS.items()})

    def known(pipeline: Pipeline, known_at: int, **newest: int) -> list[int]:
        answer = pipeline.observer.outcomes(keys, model, known_at=known_at, scores=False, **newest)
        assert answer.gone.tolist() == []
        return answer.keys.tolist()  # type: ignore[no-any-return]

    assert [known(by_event, clock) for clock in (2, 3, 6)] == [[], [1], [1, 2, 5]]
    # The first batch came after sample 9, the second after sample 10.
    assert [known(by_arrival, 6, newest_key=key) for key in (9, 10, 11)] == [[], [1, 2, 5], [1, 2, 3, 5]]
    by_default = observed(dataset, RunOptions(order="arrival"))
    assert known(by_default, 6) == []
    by_default.observer.columns(np.array([10]), ())  # the policy has seen that sample, so all before it
    assert known(by_default, 6) == [1, 2, 5]
    assert known(by_arrival, 3, newest_key=11) == [1, 3]


def test_columns(server: EvaluationServer, observed: Any) -> None:
    count = 30
    numbers = np.arange(count)
    payload = {
        "whole": pa.array(numbers, pa.int16()),
        "text": pa.array([f"t{i}" for i in numbers]),
        "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * count) / 2), 2),
        "flag": pa.array(numbers % 2 == 0),
        "raw": pa.array([bytes([i, 255 - i]) for i in numbers], pa.binary(2)),
    }
    dataset = server.dataset(np.zeros(count, np.int64), numbers, **payload)
    observer = observed(dataset).observer
    parts = {
        "whole": numbers[:, None],
        "pair": np.arange(2 * count).reshape(count, 2) / 2,
        "flag": (numbers % 2 == 0)[:, None],
        "raw": np.stack([numbers, 255 - numbers], axis=1),
    }
    keys = np.array([9, 2, 9, 28])
    for names in (("pair",), ("raw", "whole"), ("flag",)):
        expected = np.concatenate([parts[name] for name in names], axis=1)[keys]
        answer = observer.columns(keys, names)
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, expected.astype(np.float32))
    whole = np.concatenate(list(parts.values()), axis=1).astype(np.float32)
    before = observer.samples_read
    for some in (keys, keys[:2], numbers):
        np.testing.assert_array_equal(observer.columns(some, ()), whole[some])
    assert observer.samples_read == before + count
    with pytest.raises(InvalidInputError, match=r"'nope'.*whole, text, pair, flag, raw"):
        observer.columns(keys, ("nope",))
    with pytest.raises(InvalidInputError, match=r"column 'text' is string.*these do: whole"):
        observer.columns(keys, ("text", "whole"))


def test_columns_that_hold_no_numbers(server: EvaluationServer, observed: Any) -> None:
    dataset = server.dataset([0, 1], [0, 1], text=pa.array(["a", "b"]), odd=pa.array([1.0, None]))
    observer = observed(dataset).observer
    with pytest.raises(InvalidInputError, match="column 'odd' has 1 missing values"):
        observer.columns(np.array([0, 1]), ())
    only_text = server.dataset([0], [0], text=pa.array(["a"]))
    with pytest.raises(InvalidInputError, match=r"has no column of numbers \(text: string\)"):
        observed(only_text).observer.columns(np.array([0]), ())


def test_samples_are_decoded_as_for_evaluation(server: EvaluationServer, name: str, observed: Any) -> None:
    halved = {"parser": {"name": "columns", "scale": 0.5}}
    dataset = {"dataset_id": name, "metrics": [{"name": "Accuracy"}], **halved}
    handlers = [{"strategy": {"type": "SlicingEvalStrategy", "eval_every": "1d"}}]
    observer = observed(name, evaluation={"handlers": handlers, "datasets": [dataset]}).observer
    with torch.no_grad():
        expected = body(1)(torch.from_numpy(FEATURES / 2)).numpy()
    np.testing.assert_allclose(observer.embeddings(np.arange(9), server.model(1)), expected[:9], atol=1e-6)


def test_labels_that_are_no_classes(server: EvaluationServer, observed: Any) -> None:
    dataset = server.dataset([0.5, 1.5], [0, 1], **{k: v[:2] for k, v in COLUMNS.items()})
    with pytest.raises(InvalidInputError, match="labels of type double"):
        observed(dataset).observer.outcomes(np.array([0, 1]), server.model(1), known_at=9, scores=False)


def test_random_numbers_are_those_of_the_seed(name: str, observed: Any) -> None:
    observer = observed(name).observer
    assert observer.generator(3).random() == generator(9, Purpose.TRIGGER, 3).random()


def test_after_an_error_the_next_question_is_answered(server: EvaluationServer, name: str, observed: Any) -> None:
    observer = observed(name).observer
    for _ in range(2):
        with pytest.raises(NotFoundError, match="0000"):
            observer.embeddings(np.arange(3), "0" * 40)
        assert len(observer.embeddings(np.arange(3), server.model(1))) == 3
    observer.close()
    observer.close()
    assert len(observer.embeddings(np.arange(6), server.model(1))) == 6


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_end_of_a_pipeline_in_mid_request(
    server: EvaluationServer, name: str, observed: Any, tmp_path: Path, how: str
) -> None:
    (tmp_path / "slow.py").write_text(SLEEPS)
    pipeline = observed(name, RunOptions(code_root=str(tmp_path)), model={"id": "slow:Sleeps"})

    def end() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        getattr(pipeline.run.stop, how)()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(CancelledError):
        pipeline.observer.embeddings(np.arange(3), server.model(1))
    thread.join()
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(CancelledError):
        pipeline.observer.embeddings(np.arange(3), server.model(1))


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_job_that_dies_is_replaced_once(
    server: EvaluationServer, name: str, observed: Any, tmp_path: Path, deaths: int
) -> None:
    (tmp_path / "fragile.py").write_text(DIES.format(folder=str(tmp_path), deaths=deaths))
    observer = observed(name, RunOptions(code_root=str(tmp_path)), model={"id": "fragile:Dies"}).observer
    if deaths == 1:
        answer = observer.outcomes(np.arange(3), server.model(1), known_at=10**6, scores=False)
        assert answer.outcomes.predictions.tolist() == [1, 1, 1]
    else:
        with pytest.raises(JobFailedError, match="SIGKILL"):
            observer.outcomes(np.arange(3), server.model(1), known_at=10**6, scores=False)


def test_two_pipelines_at_once(server: EvaluationServer, name: str, observed: Any) -> None:
    observers, models = [observed(name).observer for _ in range(2)], [server.model(seed) for seed in (1, 2)]
    answers: dict[int, npt.NDArray[np.float32]] = {}

    def ask(index: int) -> None:
        for end in range(10, N, 10):
            answers[index] = observers[index].embeddings(np.arange(end), models[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, seed in enumerate((1, 2)):
        np.testing.assert_allclose(answers[index], hidden(seed)[:110], atol=1e-6)
        assert observers[index].samples_embedded == 110

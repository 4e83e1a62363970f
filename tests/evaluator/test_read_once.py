"""What one request costs: each sample read at most once, each model run at most once on it, and what is counted."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import grpc
import numpy as np
import pytest

from modyn.core.jobs import ForkServerLauncher
from modyn.core.keysets import KeySet
from modyn.proto.storage_pb2 import ReadSamplesRequest, SampleLocations
from modyn.storage.service import StorageService
from tests.helpers import evaluating
from tests.helpers.evaluating import EvaluationServer
from tests.helpers.labelling import delete

N = 1_000
RNG = np.random.default_rng(9)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
TIMES = RNG.permutation(N)

SEEING = """
import json, os, pathlib
import torch
from modyn.models.modules.mlp import mlp

class Net(torch.nn.Sequential):
    '''Writes down which samples it sees: their last feature is their key.'''

    def __init__(self, folder):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))
        self.log = pathlib.Path(folder) / f"{os.getpid()}-{id(self)}"

    def forward(self, x):
        with self.log.open("a") as log:
            log.writelines(f"{int(key)}\\n" for key in x[:, 3].tolist())
        return super().forward(x)
"""


class RecordingStorage(StorageService):
    """Writes down the keys of samples that are asked for."""

    keys: ClassVar[Counter[int]] = Counter()

    def LocateSamples(self, request: ReadSamplesRequest, context: grpc.ServicerContext) -> SampleLocations:
        self.keys.update(KeySet.from_proto(request.keys).to_array().tolist())
        return super().LocateSamples(request, context)


@pytest.fixture
def recording(launcher: ForkServerLauncher, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvaluationServer]:
    monkeypatch.setattr(evaluating, "StorageService", RecordingStorage)
    RecordingStorage.keys.clear()
    folder = Path(tempfile.mkdtemp(prefix="modyn-"))  # short: a Unix socket's path has at most 107 bytes
    server = EvaluationServer(folder, launcher)
    yield server
    server.close()
    shutil.rmtree(folder)


def test_a_model_window_matrix_reads_and_shows_each_sample_once(recording: EvaluationServer, tmp_path: Path) -> None:
    """Windows of two handlers at once: sliding ones that overlap fivefold for all models, and others for some."""
    server = recording
    features = np.column_stack([FEATURES[:, :3], np.arange(N, dtype=np.float32)])
    name = server.dataset(LABELS, TIMES, **{f"x{i}": features[:, i] for i in range(4)})
    delete(server.peers, name, range(100, 110))
    sliding = [(start, start + 100) for start in range(0, 700, 20)]
    windows = [*sliding, (650, 900), (890, 950), (0, 10)]
    models = [server.model(seed) for seed in range(4)]
    wanted = {model: list(range(len(sliding))) for model in models}
    wanted[models[1]] += [35, 36]
    wanted[models[2]] = [36, 37]
    (tmp_path / "seeing.py").write_text(SEEING)
    (logs := tmp_path / "logs").mkdir()
    section = {"id": "seeing:Net", "config": {"folder": str(logs)}}
    answer = server.evaluate(name, windows, wanted, model=section, root=tmp_path, baselines=True)

    there = ~np.isin(np.arange(N), np.arange(100, 110))

    def needed(indices: list[int]) -> set[int]:
        inside = [(windows[i][0] <= TIMES) & (windows[i][1] > TIMES) for i in indices]
        return set(np.flatnonzero(np.logical_or.reduce(inside) & there).tolist())

    union = set.union(*(needed(own) for own in wanted.values()))
    assert RecordingStorage.keys == Counter(union)
    seen = [[int(line) for line in log.read_text().split()] for log in logs.iterdir()]
    assert sorted(sorted(own) for own in seen) == sorted(sorted(needed(own)) for own in wanted.values())
    assert answer.done is not None
    assert answer.done.samples_read == len(union)
    assert answer.predictions == sum(len(needed(own)) for own in wanted.values())
    assert answer.done.bytes_read == len(union) * (4 * 4 + 3 * 8)  # the features; key, label and time


def test_stored_predictions_need_no_samples(recording: EvaluationServer) -> None:
    server = recording
    name = server.dataset(LABELS, TIMES, **{f"x{i}": FEATURES[:, i] for i in range(4)})
    models = [server.model(seed) for seed in range(2)]
    server.evaluate(name, [(0, 500)], {model: [0] for model in models}, reuse=True)
    RecordingStorage.keys.clear()
    answer = server.evaluate(name, [(0, 400), (300, 500)], {models[0]: [0, 1], models[1]: [1]}, reuse=True)
    assert not RecordingStorage.keys
    assert answer.done is not None
    assert (answer.done.samples_read, answer.done.bytes_read, answer.predictions) == (0, 0, 0)
    more = server.evaluate(name, [(0, 400), (300, 600)], {models[0]: [0, 1], models[1]: [1]}, reuse=True)
    assert RecordingStorage.keys == Counter(np.flatnonzero((TIMES >= 500) & (TIMES < 600)).tolist())
    assert more.done is not None
    assert (more.done.samples_read, more.predictions) == (100, 200)

"""Checks: one batch through everything, and errors that say where it does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.proto.trainer_server_pb2 import CheckRequest, CheckResult
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

N = 40

MLP: dict[str, Any] = {"id": "MLP", "config": {"in_features": 4, "num_classes": 3}}

SGD: dict[str, Any] = {"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.1}}]}

CODE = """
import torch
from modyn.core.plugins.callbacks import TrainingEvents

def bad_parser(columns):
    raise KeyError("pixels")

class TwoLayers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.fc2 = torch.nn.Linear(9, 3)

    def forward(self, x):
        return self.fc2(self.norm(self.fc1(x)))

def step(model, batch, context):
    return model(batch.inputs).mean().item()

class Begun(TrainingEvents):
    def on_begin(self, view):
        self.seen = ["begin"]

    def on_before_step(self, view):
        self.seen.append("step")

    def on_batch_end(self, view, loss):
        self.seen.append("batch")

    def on_epoch_end(self, view, loss):
        raise ValueError(f"{self.seen} {loss > 0}")
"""


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    features = {f"x{i}": np.linspace(0, 1, N, dtype=np.float32) for i in range(4)}
    return server.dataset(np.arange(N) % 3, **features)


def check(
    server: TrainingServer, dataset: str, keys: Any = range(16), *, model: dict[str, Any] = MLP, **sections: Any
) -> CheckResult:
    request = server.request(dataset, "", model=model, **sections)
    asked = CheckRequest(training=request, keys=KeySet.from_array(list(keys)).to_proto())
    return server.peers.trainer_server.Check(asked)


def test_what_fits_is_described(server: TrainingServer, dataset: str) -> None:
    models_before = list((server.state.path / "models").rglob("*"))
    result = check(server, dataset)
    assert [(part.dtype, list(part.shape)) for part in result.inputs] == [("float32", [16, 4])]
    assert [(part.dtype, list(part.shape)) for part in result.outputs] == [("float32", [16, 3])]
    assert (result.labels_dtype, list(result.labels_shape), result.num_samples) == ("int64", [16], 16)
    assert 0.5 < result.loss < 5
    assert result.num_parameters > 0
    assert list((server.state.path / "models").rglob("*")) == models_before  # nothing is stored
    assert not list(server.state.folder("jobs").rglob("check-*"))  # nor left behind


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"id": "MLP", "config": {"in_features": 5, "num_classes": 3}}},
            r"layer '.*' \(Linear\) expects inputs of 5 features, got float32 \[16, 4\]",
        ),
        (
            {"model": {"id": "mine:TwoLayers"}},
            r"layer 'fc2' \(Linear\) expects inputs of 9 features, got float32 \[16, 8\]",
        ),
        ({"data": {"parser": "mine:bad_parser"}}, r"mine:bad_parser' raised KeyError: 'pixels'.*sample key 0"),
        ({"data": {"parser": "mine:missing"}}, "has no attribute 'missing'"),
        ({"model": {"id": "absent:Net"}}, "no module named 'absent'"),
        ({"training": {"optimizers": [{"algorithm": "AdamX"}]}}, "AdamX"),
        ({"training": {"optimization_criterion": {"name": "BCEWithLogitsLoss"}}}, r"BCEWithLogitsLoss.*\[16, 3\]"),
        ({"model": {"id": "MLP", "config": {"in_features": 4, "num_classes": 2}}}, "label 2 .* 2 classes"),
        ({"training": {"lr_scheduler": {"name": "NoSuchLR"}}}, "NoSuchLR"),
        ({"training": {"callbacks": ["mine:absent"]}}, "absent"),
        (
            {"training": {"callbacks": [{"name": "FreezeLayers", "modules": ["fc9"]}]}},
            "FreezeLayers.modules: the model has no module 'fc9'",
        ),
        (  # told of everything from the beginning, as in a training
            {"training": {"callbacks": ["mine:Begun"]}},
            r"on_epoch_end raised ValueError: \['begin', 'step', 'batch'\] True",
        ),
        ({"training": {"step": "mine:step"}}, "training.step: mine:step returned a float"),
        ({"training": {"compile": {"backend": "no_such"}}}, "training.compile.backend: 'no_such'"),
    ],
)
def test_what_does_not_fit_is_named(
    server: TrainingServer, dataset: str, code_root: CodeRoot, sections: dict[str, Any], message: str
) -> None:
    code_root.write("mine.py", CODE)
    with pytest.raises(InvalidInputError, match=message):
        check(server, dataset, root=code_root, **sections)


def test_samples_without_labels_and_single_ones(server: TrainingServer) -> None:
    """The forward pass is tried without labels; one labelled sample is enough for batch statistics."""
    labels = pa.array([None] * 9 + [1], pa.int64())
    dataset = server.dataset(labels, **{f"x{i}": np.ones(10, np.float32) for i in range(4)})
    unlabelled = check(server, dataset, range(5))
    assert unlabelled.num_samples == 0
    assert [list(part.shape) for part in unlabelled.outputs] == [[5, 3]]
    assert "label" in unlabelled.notices[0]
    assert check(server, dataset, range(5, 10)).num_samples == 1
    nothing = check(server, dataset, ())
    assert not nothing.outputs
    assert "no samples" in nothing.notices[0]


def test_initial_weights_that_do_not_fit(server: TrainingServer, dataset: str) -> None:
    stored = server.train(server.request(dataset, server.sets.put_range(dataset, 0, N), model=MLP)).model
    request = server.request(dataset, "", model={"id": "MLP", "config": {"in_features": 4, "num_classes": 4}})
    request.initial_model = stored
    asked = CheckRequest(training=request, keys=KeySet.from_array(range(8)).to_proto())
    with pytest.raises(ModynError, match="stored weights do not fit the model"):
        server.peers.trainer_server.Check(asked)

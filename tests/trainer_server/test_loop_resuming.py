"""What the loop's own parts remember: a training that is cut goes on bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from modyn.trainer_server.checkpoints import Checkpoints
from tests.helpers.looping import Fitted, TensorFeed, sgd

GENERATOR = torch.Generator().manual_seed(8)
INPUTS = torch.randn(30, 5, generator=GENERATOR)
LABELS = torch.randint(0, 3, (30,), generator=GENERATOR)
CUTS = (1, 4, 6, 12)
"""Of 3 epochs of 4 batches: in the middle of a group of three, at the end of an epoch, between, and at the very end."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class CutError(Exception):
    """The process was killed."""


class Memory(Checkpoints):
    """Keeps the state after one batch, as text that has nothing in common with what trains, and ends the training."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._saved: bytes | None = None

    def load(self) -> dict[str, Any] | None:
        if self._saved is None:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(self._saved), weights_only=True)
        return state

    def due(self, batches: int) -> bool:
        return self._saved is None and batches == self._batch

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._saved = buffer.getvalue()
        raise CutError


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


BODY_AND_HEAD = [
    {"name": name, "algorithm": "SGD", "param_groups": [{"module": module, "config": {"lr": 0.1}}]}
    for name, module in (("body", "0"), ("head", "4"))
]

CASES: dict[str, dict[str, Any]] = {
    "accumulated": {"gradient_accumulation": 3, "gradient_clipping": {"max_norm": 0.5}},
    "averaged": {"callbacks": [{"name": "ExponentialMovingAverage"}], "gradient_accumulation": 3},
    "frozen": {"callbacks": [{"name": "FreezeLayers", "modules": ["0"], "epochs": 2}]},
    "frozen and scaled": {  # one of the optimizers has nothing to do at first, which scalers refuse
        "callbacks": [{"name": "FreezeLayers", "modules": ["0"], "epochs": 2}],
        "optimizers": BODY_AND_HEAD,
        "amp": True,
        "amp_dtype": "float16",
        "gradient_clipping": {"max_norm": 0.5},
    },
    "own schedule": {
        "lr_scheduler": {
            "name": "tests.helpers.recording:Warming",
            "source": "Custom",
            "step_every": "batch",
            "config": {"steps": "MODYN_NUM_BATCHES"},
        },
    },
    "scheduled": {
        "gradient_accumulation": 3,
        "lr_scheduler": {
            "name": "OneCycleLR",
            "step_every": "batch",
            "config": {"max_lr": 0.4, "total_steps": "MODYN_NUM_BATCHES"},
        },
    },
    "scaled": {"amp": True, "amp_dtype": "float16", "grad_scaler_config": {"init_scale": 2.0**20}},
    "stopping": {
        "early_stopping": {"patience": 5},
        "callbacks": [{"name": "ExponentialMovingAverage"}],
        "lr_scheduler": {"name": "ReduceLROnPlateau", "config": {"patience": 0}},
    },
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_goes_on_where_it_was_cut(case: str) -> None:
    options = {**sgd(lr=0.1, momentum=0.9), "epochs_per_trigger": 3, **CASES[case]}

    def run(checkpoints: Checkpoints) -> tuple[Fitted, dict[str, Any]]:
        model = network()
        torch.manual_seed(3)
        judged = TensorFeed(INPUTS, (LABELS + 1) % 3, 8) if "early_stopping" in options else None
        feed = TensorFeed(INPUTS, LABELS, 8)
        fitted = Fitted(model, feed, options, num_samples=30, validation=judged, checkpoints=checkpoints)
        return fitted, model.state_dict()

    whole, expected = run(Checkpoints())
    for batch in CUTS:
        memory = Memory(batch)
        with pytest.raises(CutError):
            run(memory)
        resumed, weights = run(memory)
        assert all(torch.equal(value, expected[name]) for name, value in weights.items()), batch
        assert resumed.progress.epoch_losses == whole.progress.epoch_losses
        assert resumed.progress.telemetry(curve=True).losses == whole.progress.telemetry(curve=True).losses
        if whole.stopping is not None and resumed.stopping is not None:
            assert resumed.stopping.losses == whole.stopping.losses


def test_what_choosing_took_counts_once() -> None:
    memory, seconds = Memory(6), 1000.0

    def run() -> float:
        feed = TensorFeed(INPUTS, LABELS, 8)
        feed.costs.score_seconds = seconds
        return Fitted(network(), feed, {"epochs_per_trigger": 3}, num_samples=30, checkpoints=memory).seconds

    with pytest.raises(CutError):
        run()
    assert seconds < run() < 1.5 * seconds

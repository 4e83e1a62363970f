"""The trainings whose speed is compared: samples in storage, in a file and in memory, and a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from benchmarks.storage.data import LABEL_BYTES, Records
from benchmarks.storage.server import StorageProcess
from modyn.core.config.data import DataSection
from modyn.core.config.pipeline import ModelSection
from modyn.core.config.training import TrainingSection
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.parsers import PARSERS
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.storage.reader import append
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.feeds import WholeFeed
from modyn.trainer_server.loop import Setup, train
from modyn.trainer_server.progress import Progress
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.training_sets import TrainingSamples

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "mnist_test_10k.npz"
OPTIMIZER: dict[str, Any] = {"lr": 0.01, "momentum": 0.9}
CPU = torch.device("cpu")

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One training of one epoch, in random order and with weights.

    Attributes:
        model: id and config of the model.
        parser: of the payload.
        num_samples: in the epoch.
        batch_size: samples in a batch.
        classes: labels are 0 to this - 1.
        width: bytes of a sample; None: digits.
    """

    name: str
    model: dict[str, Any]
    parser: dict[str, Any]
    num_samples: int
    batch_size: int
    classes: int
    width: int | None = None

    def sentence(self) -> str:
        """For a reader."""
        size = 784 if self.width is None else self.width
        return (
            f"{self.num_samples:,} samples of {size:,} B, batches of {self.batch_size}, random order, weights, 1 thread"
        )

    def records(self) -> Records:
        """Labels and payload, as files hold them."""
        rng = np.random.default_rng(5)
        if self.width is None:
            digits = np.load(DIGITS)
            chosen = np.arange(self.num_samples) % len(digits["labels"])
            payload = digits["images"].reshape(-1, 784)[chosen]
            labels = digits["labels"][chosen]
        elif self.parser.get("dtype") == "float32":
            payload = rng.standard_normal((self.num_samples, self.width // 4), np.float32).view(np.uint8)
            labels = rng.integers(0, self.classes, self.num_samples)
        else:
            payload = rng.integers(0, 256, (self.num_samples, self.width), np.uint8)
            labels = rng.integers(0, self.classes, self.num_samples)
        return Records(np.concatenate([labels.astype("<u4")[:, None].view(np.uint8), payload], axis=1))

    def weights(self) -> Float32Array:
        """Of the samples, float32 [n]."""
        return np.random.default_rng(6).uniform(0.5, 1.5, self.num_samples).astype(np.float32)

    def network(self) -> torch.nn.Module:
        """The model with the same weights each time."""
        torch.manual_seed(0)
        return build_model(ModelSection(**self.model), None)

    def parse(self, payload: npt.NDArray[np.uint8]) -> Float32Array:
        """What our parser makes of payloads, uint8 [n, bytes]."""
        column = pa.Array.from_buffers(
            pa.binary(payload.shape[1]), len(payload), [None, pa.py_buffer(np.ascontiguousarray(payload).reshape(-1))]
        )
        parsed = PARSERS.parse(self.parser).parse({"payload": column})
        assert isinstance(parsed, np.ndarray)
        return parsed.astype(np.float32, copy=False)


CASES = (
    Case(
        "mlp",
        {"id": "MLP", "config": {"in_features": 40, "hidden": [128], "num_classes": 2}},
        {"name": "numeric_record", "dtype": "float32"},
        num_samples=400_000,
        batch_size=256,
        classes=2,
        width=160,
    ),
    Case(
        "cnn",
        {"id": "SmallCNN", "config": {"in_channels": 1, "num_classes": 10, "channels": [8, 16], "hidden": 64}},
        {"name": "numeric_record", "dtype": "uint8", "shape": [1, 28, 28], "scale": 1 / 255},
        num_samples=6_400,
        batch_size=64,
        classes=10,
    ),
    Case(
        "resnet",
        {"id": "ResNet18", "config": {"num_classes": 10, "stem": "small"}},
        {"name": "image", "encoding": "raw", "height": 32, "width": 32, "channels": 3},
        num_samples=256,
        batch_size=32,
        classes=10,
        width=3_072,
    ),
)


class Ours:
    """Trains epochs as a job does, in this process; storage is in another one."""

    def __init__(self, case: Case, server: StorageProcess, records: Records) -> None:
        self._case = case
        self._stub = server.stub
        self._name = f"bench-{case.name}"
        server.client.register_dataset(self._name)
        batch = records.batch(np.arange(len(records)))
        append(server.stub, self._name, "all", [batch])
        self._decoder = Decoder(DataSection(dataset_id=self._name, parser=case.parser), None)
        self._samples = TrainingSamples(KeySet(ranges=(KeyRange(0, len(records)),)), case.weights())
        self._epochs = 0

    def epoch(self) -> float:
        """Seconds of one more epoch of a new training, its first read included."""
        case = self._case
        section = TrainingSection.model_validate(
            {
                "batch_size": case.batch_size,
                "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": OPTIMIZER}]}],
            }
        )
        schedule = Schedule.of(case.num_samples, section, None)
        setup = Setup.build(case.network(), section, schedule, CPU)
        source = BatchSource(
            self._stub,
            self._name,
            self._samples,
            self._decoder,
            batch_size=case.batch_size,
            drop_last=False,
            shuffle=(0, self._epochs),
            draws=(0, self._epochs),
        )
        self._epochs += 1
        began = time.perf_counter()
        train(setup, WholeFeed(source), Progress(lambda event: None))
        return time.perf_counter() - began


def plain_epoch(case: Case, batches: Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> float:
    """Seconds of one epoch of a plain PyTorch loop.

    Args:
        batches: inputs, labels and weights.
    """
    model = case.network().train()
    optimizer = torch.optim.SGD(model.parameters(), **OPTIMIZER)
    began = time.perf_counter()
    for inputs, labels, weights in batches:
        losses = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="none")
        loss = (losses * weights).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - began


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes with one thread, as jobs do by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = ["CASES", "LABEL_BYTES", "Case", "Ours", "one_thread", "plain_epoch"]

"""Samples of the shape of MNIST and MLPs for them, in a private server that is asked as a pipeline asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from benchmarks.storage.server import temporary_folder
from modyn.client import Client
from modyn.core.arrow import batch_of
from modyn.core.config.pipeline import ModelSection
from modyn.core.peers import Peers
from modyn.core.values import to_value
from modyn.models.building import build_model
from modyn.models.weights import dump
from modyn.proto.common_pb2 import Interval
from modyn.proto.evaluator_pb2 import EvaluateDone, EvaluateRequest, EvaluationWindow, ModelWindows
from modyn.storage.reader import append, store_model

SAMPLES = 60_000
PIXELS = 784
SCALE = 1 / 255
BATCH_SIZE = 256
MODEL: dict[str, Any] = {"id": "MLP", "config": {"in_features": PIXELS, "hidden": [128], "num_classes": 10}}

Windows = Sequence[tuple[int, int]]


def network(seed: int, model: Mapping[str, Any] = MODEL) -> torch.nn.Module:
    """A model with random weights."""
    torch.manual_seed(seed)
    return build_model(ModelSection.model_validate(model), None)


@dataclass(frozen=True)
class Asker:
    """Asks a server for evaluations on one dataset.

    Attributes:
        model, data: sections of the pipeline.
    """

    peers: Peers
    dataset: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    batch_size: int = BATCH_SIZE

    def store(self, seed: int) -> str:
        """Digest of a stored model with random weights."""
        return store_model(self.peers.storage, dump(network(seed, self.model)))

    def ask(
        self,
        models: Sequence[str],
        windows: Windows,
        metrics: Sequence[Mapping[str, Any]] = ({"name": "Accuracy"},),
        *,
        reuse: bool = False,
    ) -> tuple[float, EvaluateDone]:
        """Seconds until every model is scored on every window, with intervals and confusion matrices; and what came.

        No-model baselines are not asked for.
        """
        request = EvaluateRequest(
            pipeline_id="benchmark",
            dataset=self.dataset,
            data=to_value({"dataset_id": self.dataset, **self.data}),
            model=to_value(dict(self.model)),
            metrics=[to_value(dict(metric)) for metric in metrics],
            windows=[EvaluationWindow(interval=Interval(start=start, end=end)) for start, end in windows],
            models=[ModelWindows(model=model, windows=range(len(windows))) for model in models],
            batch_size=self.batch_size,
            device="cpu",
            reuse=reuse,
            confidence=0.95,
            confusion=True,
        )
        began = time.perf_counter()
        scores, done = 0, EvaluateDone()
        for event in self.peers.evaluator.Evaluate(request):
            match event.WhichOneof("kind"):
                case "scores":
                    scores += 1
                case "failure":
                    raise AssertionError(event.failure.message)
                case "done":
                    done = event.done
                case _:
                    pass
        seconds = time.perf_counter() - began
        if scores != len(models) * len(windows):
            raise AssertionError(f"{scores} scores of {len(models)} models on {len(windows)} windows")
        return seconds, done


def images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pixels [n, 784] and labels [n] at random: nothing here depends on what they show."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (SAMPLES, PIXELS), np.uint8)
    return pixels, rng.integers(0, 10, SAMPLES)


@contextmanager
def digits() -> Iterator[Asker]:
    """A server with the images, one a second, and nothing else."""
    pixels, labels = images()
    payload = pa.Array.from_buffers(pa.binary(PIXELS), SAMPLES, [None, pa.py_buffer(pixels)])
    data = {"parser": {"name": "numeric_record", "dtype": "uint8", "scale": SCALE}}
    with temporary_folder() as folder, Client.embedded(folder / "state", what="a benchmark") as client:
        client.register_dataset("digits")
        batch = batch_of(timestamp=np.arange(SAMPLES), label=labels, payload=payload)
        append(client._peers.storage, "digits", "all", [batch])
        yield Asker(client._peers, "digits", MODEL, data)

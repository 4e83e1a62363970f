"""How many bytes models take that are stored as differences from the last whole one, as a pipeline would store them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import Result
from benchmarks.storage.server import storage_process, temporary_folder
from modyn.models.weights import dump
from modyn.models.zoo.small_cnn import SmallCNN
from modyn.proto.storage_pb2 import FetchModelRequest
from modyn.storage.reader import fetch_model, store_model

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "mnist_test_10k.npz"

MODELS, STEPS, BATCH = 20, 200, 32
RATE, MOMENTUM = 0.01, 0.9
INTERVAL = 5
"""A whole model at every fifth trigger, as in the published example."""

SIZE = "training.delta_size"
NAMES = (SIZE,)


def measure() -> dict[str, Result]:
    """Bytes on disk of models that are differences over their own bytes, whole ones left out."""
    torch.set_num_threads(1)
    models = warm_started(torch.manual_seed(0))
    sizes: dict[int | None, tuple[int, int, int]] = {}
    for interval in (INTERVAL, None):
        sizes[interval], seconds = _stored(models, interval)
    deltas, whole, kept = sizes[INTERVAL]
    first_deltas, first_whole, _ = sizes[None]
    share = kept / sum(map(len, models))
    baseline = (
        f"bytes of differences on disk over bytes of the same models as safetensors: {MODELS} models of SmallCNN "
        f"({len(models[0]):,} bytes) from random weights, each warm-started from the last, {STEPS} batches of {BATCH} "
        f"MNIST digits in each, which the others do not see, SGD with rate {RATE} and momentum {MOMENTUM}; every "
        f"{INTERVAL}th model is whole and left out here, with them {share:.3f}; if only the first is whole, "
        f"{first_deltas / first_whole:.3f}; read back byte for byte; {seconds * 1e3:.1f} ms to store one"
    )
    return {SIZE: Result(deltas / whole, "of whole models", baseline, 0.7)}


def warm_started(generator: torch.Generator) -> list[bytes]:
    """Models of one after the other, trained on a twentieth of the digits each."""
    digits = np.load(DIGITS)
    images = torch.from_numpy(digits["images"].astype(np.float32) / 255)[:, None]
    labels = torch.from_numpy(digits["labels"].astype(np.int64))
    order = torch.randperm(len(labels), generator=generator).tensor_split(MODELS)
    model = SmallCNN(in_channels=1, num_classes=10).build()
    models: list[bytes] = []
    for part in order:
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
        for _ in range(STEPS):
            batch = part[torch.randint(len(part), (BATCH,), generator=generator)]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        models.append(dump(model))
    return models


def _stored(models: list[bytes], interval: int | None) -> tuple[tuple[int, int, int], float]:
    """Bytes of differences, bytes of these models, bytes of everything stored; and seconds to store one model."""
    with temporary_folder() as folder, storage_process(folder) as server:
        digests: list[str] = []
        start = time.perf_counter()
        for model in models:
            digests.append(store_model(server.stub, model, digests[-1] if digests else None, interval))
        seconds = (time.perf_counter() - start) / len(models)
        if [fetch_model(server.stub, digest) for digest in digests] != models:
            raise RuntimeError("a model that was read back is another one")
        described = [server.stub.DescribeModel(FetchModelRequest(digest=digest)) for digest in digests]
    deltas = [model for model in described if model.HasField("delta_of")]
    sizes = (
        sum(model.stored_bytes for model in deltas),
        sum(model.num_bytes for model in deltas),
        sum(model.stored_bytes for model in described),
    )
    return sizes, seconds

"""Trainings through the real service against a plain PyTorch loop in this process, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from torch import nn

from modyn.core.randomness import Purpose, derived_seed, generator
from modyn.models.weights import dump, load
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainRequest
from modyn.storage.reader import fetch_model, store_model
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

RNG = np.random.default_rng(7)
N = 101
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
WEIGHTS = RNG.uniform(0.1, 2, N).astype(np.float32)
MLP = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 3}}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    return server.dataset(LABELS, **{f"x{i}": FEATURES[:, i] for i in range(4)})


def network(seed: int = 0, trigger: int = 0, dropout: float = 0.0) -> nn.Module:
    """What the zoo's MLP is, written again."""
    torch.manual_seed(derived_seed(seed, Purpose.MODEL_INIT, trigger))
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), *drop, nn.Linear(8, 3))


def orders(n: int, epochs: int, seed: int = 0, trigger: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    for epoch in range(epochs):
        yield generator(seed, Purpose.SHUFFLE, trigger * 2**20 + epoch).permutation(n)


def batches(order: npt.NDArray[np.int64], size: int) -> Iterator[tuple[torch.Tensor, ...]]:
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield torch.from_numpy(FEATURES[rows]), torch.from_numpy(LABELS[rows]), torch.from_numpy(WEIGHTS[rows])


def backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def sgd(**config: Any) -> dict[str, Any]:
    return {"optimizers": [{"algorithm": "SGD", "param_groups": [{"config": config}]}]}


def weights_of(server: TrainingServer, request: TrainRequest) -> bytes:
    return fetch_model(server.peers.storage, server.train(request).model)


# --------------------------------------------------------------------------- against the plain loop


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_a_plain_loop(server: TrainingServer, dataset: str, weighted: bool) -> None:
    training_set = server.sets.put(dataset, np.arange(N), WEIGHTS if weighted else None)
    training = {"batch_size": 16, "epochs_per_trigger": 3, **sgd(lr=0.1, momentum=0.9)}
    request = server.request(dataset, training_set, model=MLP, training=training)
    events = server.events(request)
    result = events[-1].result

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for order in orders(N, 3):
        total = 0.0
        for inputs, labels, weights in batches(order, 16):
            optimizer.zero_grad()
            if weighted:
                each = nn.functional.cross_entropy(model(inputs), labels, reduction="none")
                loss = (each * weights).sum() / len(weights)
            else:
                loss = nn.functional.cross_entropy(model(inputs), labels)
            backward(loss)
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / N)

    assert fetch_model(server.peers.storage, result.model) == dump(model)
    assert list(result.epoch_losses) == pytest.approx(losses, rel=1e-6)
    assert result.final_loss == result.epoch_losses[-1]
    assert (result.num_samples, result.samples_trained, result.batches, result.epochs) == (N, 3 * N, 21, 3)
    assert 0 < result.train_seconds < result.job_seconds
    assert 0 < result.store_seconds < result.job_seconds
    assert [event.WhichOneof("kind") for event in events[:2]] == ["started", "first_batch"]
    assert events[0].started.total_samples == 3 * N
    assert events[-2].progress.samples == 3 * N


def test_several_optimizers_and_a_schedule_per_batch(server: TrainingServer, dataset: str) -> None:
    training = {
        "batch_size": 10,
        "epochs_per_trigger": 2,
        "drop_last_batch": True,
        "optimizers": [
            {"name": "body", "algorithm": "AdamW", "param_groups": [{"module": "model.1", "config": {"lr": 0.01}}]},
            {"name": "head", "algorithm": "SGD", "param_groups": [{"module": "3", "config": {"lr": 0.1}}]},
        ],
        "lr_scheduler": {
            "name": "OneCycleLR",
            "step_every": "batch",
            "optimizers": ["head"],
            "config": {"max_lr": 0.5, "total_steps": "MODYN_NUM_BATCHES"},
        },
    }
    request = server.request(dataset, server.sets.put_range(dataset, 0, N), model=MLP, training=training)

    model = network()
    assert isinstance(model, nn.Sequential)
    body = torch.optim.AdamW(model[1].parameters(), lr=0.01)
    head = torch.optim.SGD(model[3].parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(head, max_lr=0.5, total_steps=20)
    for order in orders(N, 2):
        for inputs, labels, _ in batches(order[:100], 10):
            body.zero_grad()
            head.zero_grad()
            backward(nn.functional.cross_entropy(model(inputs), labels))
            body.step()
            head.step()
            schedule.step()
    assert weights_of(server, request) == dump(model)


def test_schedule_per_epoch_and_samples_to_pass(server: TrainingServer, dataset: str) -> None:
    training = {
        "batch_size": 32,
        **sgd(lr=0.5),
        "lr_scheduler": {"name": "StepLR", "step_every": "epoch", "config": {"step_size": 1, "gamma": 0.3}},
    }
    training_set = server.sets.put_range(dataset, 0, N)
    request = server.request(dataset, training_set, model=MLP, training=training, num_samples_to_pass=250)
    result = server.train(request)
    assert (result.samples_trained, result.batches, result.epochs) == (2 * N + 64, 10, 3)

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for epoch, order in enumerate(orders(N, 3)):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * 0.3**epoch
        for inputs, labels, _ in batches(order if epoch < 2 else order[:64], 32):
            optimizer.zero_grad()
            backward(nn.functional.cross_entropy(model(inputs), labels))
            optimizer.step()
    stored, expected = network(), dump(model)
    load(stored, fetch_model(server.peers.storage, result.model))
    for name, value in model.state_dict().items():  # 0.5 * 0.3 * 0.3 rounds differently from 0.5 * 0.09
        torch.testing.assert_close(stored.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert len(dump(stored)) == len(expected)


def test_dropout_and_order_follow_seed_and_trigger(server: TrainingServer, dataset: str) -> None:
    config = {**MLP["config"], "dropout": 0.5}  # type: ignore[dict-item]
    training = {"batch_size": 50, **sgd(lr=0.1)}
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, N),
        model={"id": "MLP", "config": config},
        training=training,
        seed=11,
        trigger_index=4,
    )
    model = network(11, 4, dropout=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(derived_seed(11, Purpose.TRAINING, 4))
    for inputs, labels, _ in batches(next(orders(N, 1, 11, 4)), 50):
        optimizer.zero_grad()
        backward(nn.functional.cross_entropy(model(inputs), labels))
        optimizer.step()
    assert weights_of(server, request) == dump(model)


def test_without_shuffling_the_order_is_the_set_s(server: TrainingServer, dataset: str) -> None:
    keys = RNG.permutation(N)[:40]
    request = server.request(
        dataset,
        server.sets.put(dataset, keys, WEIGHTS[keys]),
        model=MLP,
        training={"batch_size": 7, "shuffle": False, **sgd(lr=0.1)},
    )
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, labels, weights in batches(keys, 7):
        optimizer.zero_grad()
        each = nn.functional.cross_entropy(model(inputs), labels, reduction="none")
        backward((each * weights).sum() / len(weights))
        optimizer.step()
    assert weights_of(server, request) == dump(model)


def test_warm_start_begins_with_the_stored_weights(server: TrainingServer, dataset: str) -> None:
    first = network(seed=99)
    digest = store_model(server.peers.storage, dump(first))
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, N),
        model=MLP,
        training={"batch_size": 200, **sgd(lr=0.0)},
        initial_model=digest,
    )
    assert server.train(request).model == digest  # a learning rate of 0 changes nothing
    request.ClearField("initial_model")
    assert server.train(request).model != digest


# ------------------------------------------------------------------------------------- determinism


def test_two_runs_are_bit_identical(server: TrainingServer, dataset: str) -> None:
    training_set = server.sets.put(dataset, np.arange(N), WEIGHTS)
    requests = [
        server.request(dataset, training_set, model=MLP, training={"threads": 2, "batch_size": 8}, seed=5)
        for _ in range(2)
    ]
    assert weights_of(server, requests[0]) == weights_of(server, requests[1])


def test_ranges_and_keys_train_the_same(server: TrainingServer, dataset: str) -> None:
    sets = [server.sets.put_range(dataset, 0, N), server.sets.put(dataset, np.arange(N), content="keys")]
    assert sets[0] != sets[1]
    models = {server.train(server.request(dataset, digest, model=MLP)).model for digest in sets}
    assert len(models) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"trigger_index": 1}])
def test_seed_and_trigger_change_the_weights(server: TrainingServer, dataset: str, change: dict[str, Any]) -> None:
    training_set = server.sets.put_range(dataset, 0, N)
    one = server.train(server.request(dataset, training_set, model=MLP)).model
    assert server.train(server.request(dataset, training_set, model=MLP, **change)).model != one


# ------------------------------------------------------------------------------------ odds and ends


def notices(events: list[TrainEvent]) -> list[str]:
    return [event.notice for event in events if event.WhichOneof("kind") == "notice"]


def test_a_set_smaller_than_a_batch_is_trained_with_a_notice(server: TrainingServer, dataset: str) -> None:
    training = {"batch_size": 1000, "drop_last_batch": True}
    request = server.request(dataset, server.sets.put_range(dataset, 0, N), model=MLP, training=training)
    events = server.events(request)
    assert events[-1].result.samples_trained == N
    assert "fewer than one batch of 1000" in notices(events)[0]


def test_samples_without_a_label_are_left_out_and_counted(server: TrainingServer) -> None:
    labels = pa.array([int(label) if i % 3 else None for i, label in enumerate(LABELS)])
    dataset = server.dataset(labels, **{f"x{i}": FEATURES[:, i] for i in range(4)})
    request = server.request(
        dataset,
        server.sets.put(dataset, np.arange(N), WEIGHTS),
        model=MLP,
        training={"batch_size": N, "shuffle": False, **sgd(lr=0.1)},
    )
    events = server.events(request)
    labelled = np.flatnonzero(np.arange(N) % 3)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs, targets, weights in batches(labelled, N):
        each = nn.functional.cross_entropy(model(inputs), targets, reduction="none")
        backward((each * weights).sum() / len(weights))
        optimizer.step()
    assert fetch_model(server.peers.storage, events[-1].result.model) == dump(model)
    assert events[-1].result.samples_trained == len(labelled)
    assert notices(events) == [f"{N - len(labelled)} samples without a label were left out of training"]


def test_mixed_precision_on_the_cpu(server: TrainingServer, dataset: str) -> None:
    training_set = server.sets.put_range(dataset, 0, N)
    full = server.train(server.request(dataset, training_set, model=MLP))
    mixed = server.train(server.request(dataset, training_set, model=MLP, training={"amp": True}))
    assert mixed.model != full.model
    assert mixed.final_loss == pytest.approx(full.final_loss, rel=0.05)


def test_images_through_a_convolutional_network(server: TrainingServer) -> None:
    labels = RNG.integers(0, 2, 64)
    pixels = [np.full(64, 200 * int(label), np.uint8).tobytes() for label in labels]
    dataset = server.dataset(labels, image=pa.array(pixels))
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, 64),
        model={"id": "SmallCNN", "config": {"in_channels": 1, "num_classes": 2, "channels": [4, 4]}},
        data={"parser": {"name": "image", "encoding": "raw", "height": 8, "width": 8, "channels": 1}},
        training={"epochs_per_trigger": 40, "optimizers": [{"param_groups": [{"config": {"lr": 0.01}}]}]},
    )
    assert server.train(request).final_loss < 0.05


def test_user_model_and_parser_with_named_inputs(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write(
        "mine.py",
        """
        import torch

        def parse(columns):
            return {"left": columns["x0"].to_numpy(), "right": torch.tensor(columns["x1"].to_numpy())}

        class Net(torch.nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.fc = torch.nn.Linear(2, classes)

            def forward(self, data):
                return self.fc(torch.stack([data["left"], data["right"]], dim=1))
        """,
    )
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, N),
        model={"id": "mine:Net", "config": {"classes": 3}},
        data={"parser": "mine:parse"},
        root=code_root,
    )
    events = server.events(request)
    assert events[-1].result.samples_trained == N
    assert notices(events) == []

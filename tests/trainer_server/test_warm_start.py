"""What trainings begin with: weights, states of optimizers, and outputs for classes that are new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load as tensors_of

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError
from modyn.models.building import build_model
from modyn.models.weights import load
from modyn.proto.trainer_server_pb2 import TrainResult
from modyn.storage.reader import fetch_model
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

N = 90
RNG = np.random.default_rng(5)
LABELS = np.concatenate([RNG.integers(0, 3, N // 2), RNG.integers(0, 6, N - N // 2)])
LABELS[-1] = 5
X = (RNG.normal(size=(N, 4)) + LABELS[:, None]).astype(np.float32)
FIRST, SECOND = (0, N // 2), (0, N)
MLP: dict[str, Any] = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 3}}


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    return server.dataset(pa.array(LABELS), **{f"x{i}": X[:, i] for i in range(4)})


class Sequence:
    """Trainings one after the other, each warm-started as a pipeline does it."""

    def __init__(self, server: TrainingServer, dataset: str) -> None:
        self.server = server
        self.dataset = dataset

    def __call__(
        self, keys: tuple[int, int], before: TrainResult | None = None, model: dict[str, Any] = MLP, **fields: Any
    ) -> TrainResult:
        training = {"batch_size": 8, **fields.pop("training", {})}
        if before is not None:
            fields["initial_model"] = before.model
            if before.HasField("optimizer_state"):
                fields["optimizer_state"] = before.optimizer_state
            fields["trigger_index"] = 1
        training_set = self.server.sets.put_range(self.dataset, *keys)
        request = self.server.request(self.dataset, training_set, model=model, training=training, reuse=True, **fields)
        return self.server.train(request)

    def weights(self, result: TrainResult) -> dict[str, torch.Tensor]:
        return tensors_of(fetch_model(self.server.peers.storage, result.model))


@pytest.fixture
def train(server: TrainingServer, dataset: str) -> Sequence:
    return Sequence(server, dataset)


# --------------------------------------------------------------------------------------- states of optimizers


def test_two_trainings_equal_one_if_optimizers_keep_their_state(train: Sequence) -> None:
    training = {"optimizer_state": "keep", "shuffle": False}
    both = train(FIRST, training={**training, "epochs_per_trigger": 2})
    first = train(FIRST, training=training)
    second = train(FIRST, first, training=training)
    assert second.model == both.model
    assert second.optimizer_state == both.optimizer_state
    forgetful = train(FIRST, train(FIRST, training={"shuffle": False}), training={"shuffle": False})
    assert forgetful.model != both.model
    assert not forgetful.HasField("optimizer_state")


def test_a_reused_training_leaves_its_state_too(train: Sequence) -> None:
    training = {"optimizer_state": "keep", "seed": 3}
    first = train(FIRST, training=training, seed=3)
    again = train(FIRST, training=training, seed=3)
    assert again.reused
    assert again.optimizer_state == first.optimizer_state
    second = train(FIRST, first, training=training)
    assert not second.reused
    assert train(FIRST, first, training=training).reused
    without = TrainResult(model=first.model)
    assert not train(FIRST, without, training=training).reused  # the state is an input


def test_a_state_of_another_optimizer_is_refused(train: Sequence) -> None:
    first = train(FIRST, training={"optimizer_state": "keep"})
    training = {
        "optimizer_state": "keep",
        "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 1}}]}],
    }
    with pytest.raises(InvalidInputError, match=r"was AdamW, now it is SGD; set training.optimizer_state: reset"):
        train(FIRST, first, training=training)


# ------------------------------------------------------------------------------------------------- prefixes


def test_a_prefix_takes_the_body_and_leaves_the_head(train: Sequence) -> None:
    other = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 6}}
    first = train(SECOND, model=other)
    frozen = {"optimizers": [{"algorithm": "SGD", "param_groups": [{"module": "model.3", "config": {"lr": 0.0}}]}]}
    named = {"initial_model": "pretrained", "initial_model_id": first.model, "initial_model_prefix": "1."}
    second = train(FIRST, first, training={**frozen, **named})
    weights, before = train.weights(second), train.weights(first)
    assert torch.equal(weights["1.weight"], before["1.weight"])
    assert weights["3.weight"].shape == (3, 8)
    # Later triggers continue their own model, all of it.
    third = train(FIRST, second, training={**frozen, **named})
    assert all(torch.equal(tensor, weights[name]) for name, tensor in train.weights(third).items())
    with pytest.raises(InvalidInputError, match=r"initial_model_prefix.*begin with 'body\.'"):
        train(FIRST, first, training={"initial_model_prefix": "body."})


# ---------------------------------------------------------------------------------------------- new classes


def test_new_classes_are_an_error_by_default(train: Sequence) -> None:
    first = train(FIRST)
    message = r"label \d \(sample key \d+\) is outside the model's 3 classes.*training\.new_classes: grow"
    with pytest.raises(InvalidInputError, match=message):
        train(SECOND, first)


def test_the_last_layer_grows_and_keeps_what_it_knew(train: Sequence) -> None:
    growing = {"new_classes": "grow", "optimizer_state": "keep"}
    still = {
        **growing,
        "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.0, "momentum": 0.9}}]}],
    }
    first = train(FIRST, training=growing)
    assert first.num_outputs == 0  # nothing was new
    before = train.weights(first)
    unmoved = train(SECOND, TrainResult(model=first.model), training=still)
    assert unmoved.num_outputs == 6
    after = train.weights(unmoved)
    assert after["3.weight"].shape == (6, 8)
    assert all(torch.equal(after[name][: len(tensor)], tensor) for name, tensor in before.items())

    second = train(SECOND, first, training=growing)  # with AdamW, whose moments grow too
    assert second.num_outputs == 6
    third = train(SECOND, second, training=growing)
    assert third.num_outputs == 6
    assert train(SECOND, second, training=growing).reused
    module = build_model(ModelSection.model_validate(MLP), None)
    load(module, fetch_model(train.server.peers.storage, third.model))
    with torch.no_grad():
        assert module(torch.zeros(2, 4)).shape == (2, 6)


def test_a_fresh_model_grows_before_its_first_batch(train: Sequence) -> None:
    first = train(SECOND, training={"new_classes": "grow"})
    assert first.num_outputs == 6
    again = train(SECOND, training={"new_classes": "grow", "seed": 0, "record_loss_every": 1}, pipeline_id="other")
    assert again.reused


def test_labels_count_as_they_are_transformed(train: Sequence) -> None:
    source = "def label_transformer_function(labels):\n    return labels % 3"
    result = train(SECOND, training={"new_classes": "grow"}, data={"label_transformer_function": source})
    assert result.num_outputs == 0


def test_user_models_grow_by_their_own_method(train: Sequence, code_root: CodeRoot) -> None:
    code_root.write(
        "prototypes.py",
        """
        import torch

        class Net(torch.nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.prototypes = torch.nn.Parameter(torch.randn(classes, 4))

            def grow_outputs(self, count):
                new = torch.randn(count - len(self.prototypes), 4)
                self.prototypes = torch.nn.Parameter(torch.cat([self.prototypes.detach(), new]))

            def forward(self, x):
                return x @ self.prototypes.T
        """,
    )
    growing = {"new_classes": "grow"}
    model = {"id": "prototypes:Net", "config": {"classes": 3}}
    first = train(FIRST, model=model, training=growing, root=code_root)
    second = train(SECOND, first, model=model, training=growing, root=code_root)
    third = train(SECOND, second, model=model, training=growing, root=code_root)
    assert train.weights(third)["prototypes"].shape == (6, 4)


def test_outputs_count_wherever_their_layer_stands(train: Sequence, code_root: CodeRoot) -> None:
    code_root.write(
        "backwards.py",
        """
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.head = torch.nn.Linear(8, 3)
                self.body = torch.nn.Linear(4, 8)  # the last one, and wider than the outputs need to be

            def forward(self, x):
                return self.head(self.body(x).relu())
        """,
    )
    result = train(SECOND, model={"id": "backwards:Net"}, training={"new_classes": "grow"}, root=code_root)
    assert train.weights(result)["head.weight"].shape == (6, 8)


def test_a_label_that_is_ignored_is_no_class(train: Sequence) -> None:
    criterion = {"name": "CrossEntropyLoss", "config": {"ignore_index": 5}}
    result = train(SECOND, training={"new_classes": "grow", "optimization_criterion": criterion})
    assert result.num_outputs == 5


def test_only_criteria_of_classes_can_grow(train: Sequence) -> None:
    training = {"new_classes": "grow", "optimization_criterion": {"name": "MSELoss"}}
    with pytest.raises(InvalidInputError, match="class indices, as CrossEntropyLoss takes them"):
        train(FIRST, training=training)
    source = "def label_transformer_function(labels):\n    return labels.double()"
    with pytest.raises(InvalidInputError, match="class indices; they are float"):
        train(FIRST, training={"new_classes": "grow"}, data={"label_transformer_function": source})

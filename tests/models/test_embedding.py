"""Embeddings of built-in and own models against forward passes by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.models import MODELS
from modyn.models.building import build_model
from modyn.models.embedding import EmbeddingTap
from tests.helpers.zoo import inputs_of

CASES: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "MLP": ({"in_features": 12, "hidden": [5, 4], "num_classes": 3, "dropout": 0.5}, (12,), 4),
    "SmallCNN": ({"in_channels": 1, "num_classes": 3, "hidden": 7}, (1, 8, 8), 7),
    "ResNet18": ({"num_classes": 3, "stem": "small"}, (3, 32, 32), 512),
    "ResNet50": ({"num_classes": 3, "in_channels": 1}, (1, 64, 64), 2048),
    "ResNet152": ({"num_classes": 3, "stem": "small"}, (3, 8, 8), 2048),
    "YearbookNet": ({"num_input_channels": 1, "num_classes": 3}, (1, 32, 32), 32),
    "SmallYearbookNet": ({"num_input_channels": 1, "num_classes": 3}, (1, 32, 32), 16),
    "Dummy": ({}, (2,), 2),
    "TextClassifier": ({"vocabulary_size": 50, "dim": 4, "num_classes": 3}, (7,), 4),
    "TabularMLP": ({"numeric": 2, "categorical": {"a.b": 9, "c": 5}, "hidden": [6], "num_classes": 3}, (2,), 6),
}


def embed(model: nn.Module, inputs: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    tap = EmbeddingTap(model.eval(), "mine")
    with torch.no_grad(), tap.catching():
        scores = model(inputs)
        return tap.embeddings(count), scores


def test_every_registered_model_has_a_case() -> None:
    assert sorted(CASES) == MODELS.names()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "ResNet152" else []) for name in sorted(CASES)]
)
def test_the_last_layer_makes_the_scores_of_the_embeddings(name: str) -> None:
    config, shape, width = CASES[name]
    model = build_model(ModelSection(id=name, config=config), None)
    embeddings, scores = embed(model, inputs_of(name, shape, 3), 3)
    assert embeddings.shape == (3, width)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    torch.testing.assert_close(last(embeddings), scores)


def test_nothing_is_caught_outside_the_block_and_hooks_are_gone() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    tap = EmbeddingTap(model, "mine")
    with tap.catching():
        model(torch.ones(1, 2))
    model(torch.zeros(1, 2))
    assert torch.equal(tap.embeddings(1), torch.ones(1, 2))
    assert not model[0]._forward_pre_hooks
    with pytest.raises(InvalidInputError, match="no linear layer of model 'mine' took part"):
        tap.embeddings(1)


class Unused(nn.Module):
    """Its last layer only takes part in training; the one before is called twice, by keyword, and works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.auxiliary = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(self.second(x))
        scores: torch.Tensor = self.second(input=hidden)
        hidden.zero_()
        return scores


def test_the_last_call_of_the_last_layer_that_runs() -> None:
    model, inputs = Unused(), torch.randn(4, 2)
    expected = model.first(model.second(inputs))
    torch.testing.assert_close(embed(model, inputs, 4)[0], expected)


def test_inputs_of_more_dimensions_are_flattened() -> None:
    model = nn.Sequential(nn.Linear(5, 3))
    inputs = torch.randn(4, 6, 5, dtype=torch.float32)
    assert torch.equal(embed(model, inputs, 4)[0], inputs.reshape(4, 30))
    with pytest.raises(InvalidInputError, match=r"shape \[4, 6, 5\] for 24 samples"):
        embed(model, inputs, 24)


class Named(nn.Sequential):
    embedding_layer: Any

    def __init__(self, named: Any) -> None:
        super().__init__(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        self.embedding_layer = named


@pytest.mark.parametrize("how", ["path", "method", "layer"])
def test_a_model_names_its_layer(how: str) -> None:
    model = Named("1")
    if how == "method":
        model.embedding_layer = lambda: model[1]
    elif how == "layer":
        del model.embedding_layer
        object.__setattr__(model, "embedding_layer", model[1])
    inputs = torch.randn(4, 2)
    torch.testing.assert_close(embed(model, inputs, 4)[0], model[0](inputs))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv1d(1, 1, 1)), "model 'mine' has no torch.nn.Linear layer"),
        (Named("7"), "embedding_layer '7'"),
        (Named(7), "embedding_layer is a int; expected a layer"),
    ],
)
def test_what_has_no_embeddings(model: nn.Module, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        EmbeddingTap(model, "mine")

"""A forward pass that fails is blamed on its layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modyn.models.shapes import failed_layer, misfit


class Named(nn.Module):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleDict(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.body.values():
            x = layer(x)
        return x


class Own(nn.Module):
    """Computes without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (
            Named(conv=nn.Conv2d(1, 4, 3), flat=nn.Flatten(), fc1=nn.Linear(784, 10)),
            torch.zeros(2, 1, 28, 28),
            r"layer 'body.fc1' \(Linear\) expects inputs of 784 features, got float32 \[2, 2704\]",
        ),
        (
            Named(conv=nn.Conv2d(3, 4, 3)),
            torch.zeros(2, 1, 28, 28),
            r"layer 'body.conv' \(Conv2d\) expects .* with 3 channels in 4 dimensions, got float32 \[2, 1, 28, 28\]",
        ),
        (
            Named(fc=nn.Linear(4, 3), norm=nn.BatchNorm1d(5)),
            torch.zeros(2, 4),
            r"layer 'body.norm' \(BatchNorm1d\) expects inputs \[n, 5, …\] with 5 channels, got float32 \[2, 3\]",
        ),
        (
            Named(words=nn.Embedding(10, 4)),
            torch.tensor([[1, 10]]),
            r"layer 'body.words' \(Embedding\) expects integer indices from 0 to 9, got int64 .* values from 1 to 10",
        ),
        (nn.Linear(3, 2), torch.zeros(2, 3, dtype=torch.int64), r"the model \(Linear\) expects .* got int64 \[2, 3\]"),
        (Named(a=nn.ReLU(), own=Own()), torch.zeros(2, 4), r"'body.own' \(Own\) expects .* weight \[3, 2\], got .*4\]"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), torch.zeros(2, 4), r"layer '1' \(Linear\) expects inputs of 3"),
    ],
)
def test_the_layer_what_it_expects_and_what_it_got(model: nn.Module, inputs: Any, message: str) -> None:
    with pytest.raises((RuntimeError, ValueError, IndexError)) as raised:
        model(inputs)
    error = misfit(model, inputs, raised.value)
    assert error.message.startswith("the model cannot process its inputs (")
    with pytest.raises(type(error), match=message):
        raise error
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


def test_an_error_of_the_model_itself_is_not_blamed_on_a_layer() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.fc(x)
            raise KeyError("image")

    model = Wrong()
    assert failed_layer(model, torch.zeros(1, 2)) is None
    with pytest.raises(KeyError) as raised:
        model(torch.zeros(1, 2))
    assert "KeyError: 'image' (line" in misfit(model, torch.zeros(1, 2), raised.value).message

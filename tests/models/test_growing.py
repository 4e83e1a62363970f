"""Models that get more outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError
from modyn.models.building import build_model
from modyn.models.growing import grow, num_outputs
from modyn.models.weights import dump, load


class TwoHeads(nn.Module):
    """The outputs are not those of the layer that is held last."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.body = nn.Linear(2, 4)
        self.unused = nn.Linear(4, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


class Convolutional(nn.Sequential):
    def __init__(self, classes: int = 3) -> None:
        super().__init__(nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, classes, 1, bias=False), nn.Flatten())


class Itself(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, 2))

    def grow_outputs(self, count: int) -> None:
        added = torch.randn(count - len(self.prototypes), 2)
        self.prototypes = nn.Parameter(torch.cat([self.prototypes.detach(), added]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.prototypes.T


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.write.weight = self.read.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.write(self.read(x))  # type: ignore[no-any-return]


def zoo(name: str, **config: Any) -> nn.Module:
    return build_model(ModelSection(id=name, config=config), None)


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (lambda: zoo("MLP", in_features=2, num_classes=3), torch.randn(5, 2)),
        (lambda: zoo("SmallCNN", in_channels=1, num_classes=3), torch.randn(5, 1, 8, 8)),
        (lambda: zoo("ResNet18", in_channels=1, num_classes=3, stem="small"), torch.randn(2, 1, 8, 8)),
        (TwoHeads, torch.randn(5, 2)),
        (Convolutional, torch.randn(5, 2)),
        (Itself, torch.randn(5, 2)),
    ],
    ids=["MLP", "SmallCNN", "ResNet18", "TwoHeads", "Convolutional", "Itself"],
)
def test_old_outputs_are_kept_bit_for_bit(build: Any, inputs: torch.Tensor) -> None:
    torch.manual_seed(1)
    model = build()
    model.train()
    with torch.no_grad():
        before = model.eval()(inputs)
    model.train()
    stored = dump(model)
    torch.manual_seed(2)
    grow(model, 5, inputs[:1])
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        after = model.eval()(inputs)
    assert after.shape == (len(inputs), 5)
    torch.testing.assert_close(after[:, :3], before)  # products of other sizes may differ in the last bit
    torch.manual_seed(2)
    again = build()
    load(again, stored)
    torch.manual_seed(2)
    grow(again, 5, inputs[:1])
    assert dump(again) == dump(model)

    # What was stored is found again, by a module that is built as before.
    fresh = build()
    load(fresh, dump(model))
    assert dump(fresh) == dump(model)
    with pytest.raises(InvalidInputError, match="the model needs"):
        load(build(), dump(model), fit=False)


def test_rows_are_added_and_the_others_stay() -> None:
    model = TwoHeads()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.head.weight.requires_grad_(False)
    grow(model, 7, torch.zeros(1, 2))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor[: len(before[name])], before[name])
    assert model.head.out_features == 7
    assert not model.head.weight.requires_grad
    assert model.head.weight[3:].abs().sum() > 0
    assert num_outputs(zoo("MLP", in_features=2, num_classes=3)) == 3


def test_a_model_is_not_made_smaller() -> None:
    model = TwoHeads()
    grow(model, 2, torch.zeros(1, 2))
    assert model.head.out_features == 3


def test_what_is_missing_is_said() -> None:
    with pytest.raises(InvalidInputError, match=r"grow_outputs\(n\)"):
        grow(nn.Sequential(nn.Linear(2, 8), nn.MaxPool1d(2)), 5, torch.zeros(1, 2))
    with pytest.raises(InvalidInputError, match=r"shares its weights with 'read.weight'"):
        grow(Tied(), 3, torch.zeros(1, 2))
    with pytest.raises(InvalidInputError, match=r"expected scores of classes, \[n, classes\]"):
        grow(nn.Flatten(0), 3, torch.zeros(1, 2))


def test_other_differences_are_errors_as_before() -> None:
    wide = dump(zoo("MLP", in_features=2, hidden=[9], num_classes=3))
    with pytest.raises(InvalidInputError, match="do not fit the model"):
        load(zoo("MLP", in_features=2, hidden=[4], num_classes=3), wide)
    many = dump(zoo("MLP", in_features=2, hidden=[4], num_classes=5))
    with pytest.raises(InvalidInputError, match="do not fit the model"):
        load(zoo("MLP", in_features=3, hidden=[4], num_classes=3), many)
    with pytest.raises(InvalidInputError, match="do not fit the model"):
        load(zoo("MLP", in_features=2, hidden=[4], num_classes=6), many)


def test_weights_of_a_prefix() -> None:
    stored = TwoHeads(classes=8)
    model = TwoHeads(classes=3)
    head = model.head.weight.clone()
    load(model, dump(stored), prefix="body.")
    assert torch.equal(model.body.weight, stored.body.weight)
    assert torch.equal(model.head.weight, head)
    for prefix, message in (
        ("nothing.", "no weights of the model have names that begin with 'nothing.'; it has head.weight, head.bias"),
        ("head.", r"head.weight is \[8, 4\], the model needs \[3, 4\]"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            load(model, dump(stored), prefix=prefix)

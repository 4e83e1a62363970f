from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.models.weights import dump, load


def network(width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_bytes_are_equal_in_every_process() -> None:
    code = (
        "import torch, sys; from torch import nn; from modyn.models.weights import dump; torch.manual_seed(0);"
        "sys.stdout.buffer.write(dump(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))))"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert other == dump(network())


def test_any_safetensors_reader_understands_them() -> None:
    import safetensors.torch

    tensors = safetensors.torch.load(dump(network()))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in network().state_dict().items()
    }


def test_tied_weights_round_trip() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    data = dump(model)
    nn.init.zeros_(first.weight)
    load(model, data)
    assert first.weight.any()
    assert dump(model) == data


def test_transposed_and_half_precision_weights_round_trip() -> None:
    model = nn.Linear(3, 5).to(torch.bfloat16)
    model.weight = nn.Parameter(torch.randn(3, 5, dtype=torch.bfloat16).T)
    other = nn.Linear(3, 5).to(torch.bfloat16)
    load(other, dump(model))
    assert torch.equal(other.weight, model.weight)


def test_other_shapes_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"0\.weight is \[5, 4\], the model needs \[3, 4\]"):
        load(network(), dump(network(width=5)))


def test_missing_and_unexpected_names_are_listed() -> None:
    bigger = nn.Sequential(*network(), nn.Linear(2, 2))
    with pytest.raises(InvalidInputError, match=r"missing 3\.weight, 3\.bias"):
        load(bigger, dump(network()))
    with pytest.raises(InvalidInputError, match=r"unexpected 3\.bias, 3\.weight"):
        load(network(), dump(bigger))


@pytest.mark.parametrize("data", [b"", b"no safetensors", dump(nn.Linear(2, 2))[:-3]])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="no safetensors file"):
        load(nn.Linear(2, 2), data)


def test_state_that_is_no_tensor_is_refused() -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> object:
            return {"calls": 3}

    with pytest.raises(InvalidInputError, match="_extra_state"):
        dump(Odd())

"""States of optimizers that go from one training to the next."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from modyn.core.errors import CorruptDataError, InvalidInputError
from modyn.models.growing import grow
from modyn.models.weights import dump
from modyn.trainer_server.optimizer_states import dump_states, load_states

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1}),
    ("AdamW", {}),
    ("Adam", {"amsgrad": True}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Rprop", {}),
    ("ASGD", {}),
    ("Adafactor", {}),
]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def optimizers(model: nn.Module, kind: str, options: dict[str, Any]) -> dict[str, torch.optim.Optimizer]:
    body, head = list(model.parameters())[:2], list(model.parameters())[2:]
    cls = getattr(torch.optim, kind)
    return {"body": cls(body, **options), "head": cls([{"params": head[:1]}, {"params": head[1:]}], **options)}


def train(model: nn.Module, both: dict[str, torch.optim.Optimizer], steps: int) -> None:
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        inputs = torch.randn(6, 3, generator=generator)
        for optimizer in both.values():
            optimizer.zero_grad()
        model(inputs).square().sum().backward()
        for optimizer in both.values():
            optimizer.step()


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_training_goes_on_as_if_it_had_not_stopped(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = network()
    both = optimizers(model, kind, options)
    train(model, both, 3)
    state = dump_states(both, model)
    assert state == dump_states(both, model)
    other = copy.deepcopy(model)
    theirs = optimizers(other, kind, options)
    load_states(state, theirs, other)
    assert dump_states(theirs, other) == state
    train(model, both, 3)
    train(other, theirs, 3)
    assert dump(other) == dump(model)


def test_options_are_those_of_now() -> None:
    model = network()
    both = optimizers(model, "AdamW", {"lr": 0.5})
    train(model, both, 1)
    now = optimizers(model, "AdamW", {"lr": 0.01})
    load_states(dump_states(both, model), now, model)
    assert now["body"].param_groups[0]["lr"] == 0.01


def test_param_groups_stay_the_same_objects() -> None:
    model = network()
    both = optimizers(model, "SGD", {"lr": 0.5, "momentum": 0.9})
    train(model, both, 1)
    groups = both["head"].param_groups
    held = list(groups)
    load_states(dump_states(both, model), both, model)
    assert both["head"].param_groups is groups
    assert all(group is before for group, before in zip(groups, held, strict=True))
    assert held[0]["lr"] == 0.5


def test_rows_that_were_added_begin_with_zeros() -> None:
    model = network()
    both = optimizers(model, "AdamW", {})
    train(model, both, 2)
    state = dump_states(both, model)
    grow(model, 5, torch.zeros(1, 3))
    now = optimizers(model, "AdamW", {})
    load_states(state, now, model)
    before = both["head"].state[both["head"].param_groups[0]["params"][0]]
    after = now["head"].state[now["head"].param_groups[0]["params"][0]]
    assert torch.equal(after["exp_avg"][:2], before["exp_avg"])
    assert not after["exp_avg"][2:].any()
    assert after["step"] == before["step"]
    train(model, now, 1)


def test_what_does_not_fit_is_named() -> None:
    model = network()
    both = optimizers(model, "AdamW", {})
    train(model, both, 1)
    state = dump_states(both, model)
    with pytest.raises(InvalidInputError, match=r"optimizer 'body' was AdamW, now it is SGD"):
        load_states(state, optimizers(model, "SGD", {}), model)
    with pytest.raises(InvalidInputError, match=r"optimizer 'third' was not there"):
        load_states(state, {"third": both["body"]}, model)
    other = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(InvalidInputError, match=r"exp_avg of parameter '0.weight' is \[4, 3\].*\[4, 5\] now"):
        load_states(state, optimizers(other, "AdamW", {}), other)
    frozen = {"body": torch.optim.AdamW(list(model.parameters())[:1])}
    with pytest.raises(InvalidInputError, match=r"parameters that it does not update: 0.bias"):
        load_states(state, frozen, model)
    with pytest.raises(CorruptDataError, match="cannot be read"):
        load_states(state[:50], both, model)
    with pytest.raises(CorruptDataError, match="cannot be read"):
        load_states(dump(model), both, model)


@pytest.mark.parametrize("kind", ["AdamW", "Adagrad"])
def test_only_those_of_a_prefix(kind: str) -> None:
    model = network()
    both = optimizers(model, kind, {})
    train(model, both, 1)
    now = optimizers(model, kind, {})
    load_states(dump_states(both, model), now, model, wanted="0.")
    assert now["body"].state
    assert all(state["step"] == 0 for state in now["head"].state.values())
    train(model, now, 1)

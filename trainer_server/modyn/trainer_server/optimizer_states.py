"""What optimizers know of parameters (momenta, second moments, steps), stored between two trainings.

Safetensors, like weights: no pickle, and the same bytes for the same state. States go by the names of parameters, not
by their numbers, so that they still belong to the right ones when a model has grown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from modyn.core.errors import CorruptDataError, InvalidInputError

FORMAT_VERSION = 1

_KEY = "training.optimizer_state: keep"
_REMEDY = "set training.optimizer_state: reset, or keep model and optimizers as they were"


class _Entry(NamedTuple):
    """One value of a parameter's state, tensors[i] of the file being that of entry i."""

    optimizer: str
    parameter: str
    key: str
    kind: str
    """``tensor``, or the type of a number."""


def dump_states(optimizers: Mapping[str, Optimizer], model: nn.Module) -> bytes:
    """The states of all parameters.

    Args:
        optimizers: by name.
        model: whose parameters they update.

    Raises:
        InvalidInputError: an optimizer keeps something else than tensors and numbers.
    """
    from safetensors.torch import save

    entries: list[_Entry] = []
    tensors: dict[str, torch.Tensor] = {}
    shapes: dict[str, dict[str, list[int]]] = {}
    for name, optimizer in optimizers.items():
        shapes[name] = {}
        for parameter_name, parameter in _parameters(optimizer, model):
            shapes[name][parameter_name] = list(parameter.shape)
            for key, value in optimizer.state.get(parameter, {}).items():
                if value is None:
                    continue
                entry = _Entry(name, parameter_name, key, _kind(value, optimizer))
                tensors[f"{len(entries):08d}"] = _tensor(value)
                entries.append(entry)
    algorithms = {name: type(optimizer).__name__ for name, optimizer in optimizers.items()}
    header = {"version": FORMAT_VERSION, "algorithms": algorithms, "shapes": shapes, "entries": entries}
    return save(tensors, metadata={"modyn": json.dumps(header)})


def load_states(
    data: bytes, optimizers: Mapping[str, Optimizer], model: nn.Module, wanted: str = "", remedy: str = _REMEDY
) -> None:
    """Puts stored states into new optimizers; learning rates and other options stay as they are.

    Rows that parameters have gained since (see :mod:`modyn.models.growing`) begin with zeros.

    Args:
        data: what :func:`dump_states` gave.
        optimizers: by name.
        model: whose parameters they update.
        wanted: only states of parameters whose names begin with this.
        remedy: for messages.

    Raises:
        CorruptDataError: the bytes are no stored state.
        InvalidInputError: optimizers, parameters or their shapes are others.
    """
    header, tensors = _read(data)
    for name, optimizer in optimizers.items():
        was = header["algorithms"].get(name)
        if was != type(optimizer).__name__:
            raise InvalidInputError(
                f"{_KEY}: the previous training's optimizer {name!r} was {was or 'not there'}, now it is "
                f"{type(optimizer).__name__}; {remedy}"
            )
        states: dict[str, dict[str, Any]] = {}
        for number, fields in enumerate(header["entries"]):
            entry = _Entry(*fields)
            if entry.optimizer == name and entry.parameter.startswith(wanted):
                tensor = tensors[f"{number:08d}"]
                value = tensor if entry.kind == "tensor" else _NUMBERS[entry.kind](tensor.item())
                states.setdefault(entry.parameter, {})[entry.key] = value
        shapes = {key: torch.Size(shape) for key, shape in header["shapes"][name].items()}
        _put(optimizer, model, states, shapes, remedy)


def put_back(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """``optimizer.load_state_dict``, but ``param_groups`` and the dicts in it stay the same objects: a learning-rate
    schedule of the user's own may hold them."""
    groups = optimizer.param_groups
    optimizer.load_state_dict(state)
    for group, loaded in zip(groups, optimizer.param_groups, strict=True):
        group.clear()
        group.update(loaded)
    optimizer.param_groups = groups


def _put(
    optimizer: Optimizer,
    model: nn.Module,
    states: dict[str, dict[str, Any]],
    shapes: dict[str, torch.Size],
    remedy: str,
) -> None:
    own = optimizer.state_dict()
    by_number: dict[int, dict[str, Any]] = dict(own["state"])  # some algorithms, such as Adagrad, begin with a state
    names = [name for name, _ in _parameters(optimizer, model)]
    if missing := sorted(states.keys() - set(names)):
        raise InvalidInputError(
            f"{_KEY}: there are states of parameters that it does not update: {missing[0]}; {remedy}"
        )
    for number, (name, parameter) in enumerate(_parameters(optimizer, model)):
        if name in states:
            by_number[number] = _fitted(name, states[name], shapes[name], parameter.shape, remedy)
    put_back(optimizer, {"state": by_number, "param_groups": own["param_groups"]})


def _fitted(name: str, state: dict[str, Any], was: torch.Size, now: torch.Size, remedy: str) -> dict[str, Any]:
    if was == now:
        return state
    grown = len(was) == len(now) > 0 and was[1:] == now[1:] and was[0] < now[0]
    fitted: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.ndim == 0:
            fitted[key] = value
        elif grown and value.shape == was:
            fitted[key] = torch.cat([value, value.new_zeros(now[0] - was[0], *now[1:])])
        else:
            raise InvalidInputError(
                f"{_KEY}: {key} of parameter {name!r} is {list(value.shape)} for weights {list(was)}, which are "
                f"{list(now)} now; {remedy}"
            )
    return fitted


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["modyn"])
        if header["version"] != FORMAT_VERSION:
            raise CorruptDataError(
                f"stored optimizer state has format {header['version']}; this release reads {FORMAT_VERSION}"
            )
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptDataError(f"stored optimizer state cannot be read: {error}") from error
    return header, tensors


def _parameters(optimizer: Optimizer, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """An optimizer's parameters in its own order, by their names in the model."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], parameter


_NUMBERS: dict[str, type[bool] | type[int] | type[float]] = {"bool": bool, "int": int, "float": float}


def _kind(value: Any, optimizer: Optimizer) -> str:
    kind = "tensor" if isinstance(value, torch.Tensor) else type(value).__name__
    if kind != "tensor" and kind not in _NUMBERS:
        raise InvalidInputError(
            f"{_KEY}: {type(optimizer).__name__} keeps a {kind}, which cannot be stored; set it to reset"
        )
    return kind


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous().clone()
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)

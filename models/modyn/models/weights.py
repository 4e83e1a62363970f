"""Weights of a module as safetensors bytes: no pickle, and the same bytes for the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modyn.core.errors import CorruptDataError, InvalidInputError

if TYPE_CHECKING:
    import torch

_METADATA = {"format": "pt"}
"""One entry only: the order of several is not deterministic in the file."""

MAX_NAMES_IN_MESSAGE = 3


def dump(module: torch.nn.Module) -> bytes:
    """The module's parameters and persistent buffers.

    Raises:
        InvalidInputError: its state has entries that are no tensors.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise InvalidInputError(f"the model's state {name!r} is a {type(value).__name__}; only tensors are stored")
        tensor = value.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        # Tied weights share memory, which the format does not know: each name gets its own copy.
        tensors[name] = tensor.clone() if address in storages and tensor.numel() else tensor
        storages.add(address)
    return save(tensors, metadata=_METADATA)


def load(module: torch.nn.Module, data: bytes, *, prefix: str = "", fit: bool = True) -> None:
    """Puts stored weights into a module of the same architecture.

    Args:
        module: changed in place.
        data: what :func:`dump` gave.
        prefix: take only weights whose names begin with this; the others stay as they are.
        fit: where the stored model has grown more outputs than the module was built with, widen the module.

    Raises:
        CorruptDataError: the bytes are no safetensors file.
        InvalidInputError: names or shapes differ; the message lists them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from modyn.models.growing import fit_outputs

    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise CorruptDataError(f"stored weights are no safetensors file: {error}") from error
    if prefix:
        _load_some(module, tensors, prefix)
        return
    if fit:
        fit_outputs(module, tensors)
    problems = _mismatches(module.state_dict(), tensors)
    if problems:
        raise InvalidInputError(
            f"stored weights do not fit the model: {'; '.join(problems)}; "
            "use the model section they were trained with, or start from random weights"
        )
    module.load_state_dict(tensors)


def _load_some(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
    expected = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(prefix)}
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    for names, whose, of in ((expected, "the model", module.state_dict()), (found, "the stored model", tensors)):
        if not names:
            raise InvalidInputError(
                f"training.initial_model_prefix: no weights of {whose} have names that begin with {prefix!r}; it has "
                f"{_some(list(of))}"
            )
    if problems := _mismatches(expected, found):
        raise InvalidInputError(
            f"training.initial_model_prefix {prefix!r}: stored weights do not fit the model: {'; '.join(problems)}; "
            "give a prefix of weights that both have in the same shapes"
        )
    module.load_state_dict(found, strict=False)


def _mismatches(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"missing {_some(missing)}")
    if unexpected := sorted(name for name in found if name not in expected):
        problems.append(f"unexpected {_some(unexpected)}")
    shapes = [
        f"{name} is {list(found[name].shape)}, the model needs {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(_some(shapes))
    return problems


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_IN_MESSAGE
    return ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")

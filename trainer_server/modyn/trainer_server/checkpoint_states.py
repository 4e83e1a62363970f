"""The state of a training as something that is read back without running pickled code."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch

from modyn.core.errors import InvalidInputError

State = dict[str, Any]
"""Tensors, arrays, numbers, strings, lists and dicts of them."""

_PLAIN = (bool, int, float, str, type(None), Counter)  # the milestones of some schedulers are counted
_ARRAY = "__numpy__"


def packed(value: Any, where: str = "") -> Any:
    """What ``torch.save`` writes such that ``torch.load`` reads it with ``weights_only``.

    Args:
        value: a state, or a part of one.
        where: the part, for messages.

    Raises:
        InvalidInputError: it has something else in it; the message says where.
    """
    if isinstance(value, torch.Tensor):
        whole = value.numel() * value.element_size() == value.untyped_storage().nbytes()
        return value.detach() if whole else value.detach().clone()  # of a view, all would be saved that is behind it
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.require(value, requirements=["C", "W"]))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict) and not isinstance(value, Counter):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((_packed_key(key, where), packed(item, f"{where}.{key}")) for key, item in value.items())
    if isinstance(value, list | tuple):
        items = [packed(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, _PLAIN):
        return value
    raise _unsuitable(where, f"is a {type(value).__name__}")


def unpacked(value: Any) -> Any:
    """What :func:`packed` was given."""
    if isinstance(value, dict) and not isinstance(value, Counter):
        if len(value) == 1 and _ARRAY in value:
            return value[_ARRAY].numpy()
        for key, item in value.items():
            value[key] = unpacked(item)
        return value
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if isinstance(value, tuple):
        return tuple(unpacked(item) for item in value)
    return value


def _packed_key(key: Any, where: str) -> Any:
    if isinstance(key, str | int | float):
        return key
    raise _unsuitable(where, f"has the key {key!r}")


def _unsuitable(where: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"the training's state {where.lstrip('.')} {what}, which no checkpoint can hold; give it tensors, arrays, "
        "numbers, strings, lists and dicts only"
    )

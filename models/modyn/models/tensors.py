"""Tensors of whatever parsers, transforms and tokenizers return, and of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from modyn.core.errors import InvalidInputError
from modyn.models.parsers.payload import is_numeric

if TYPE_CHECKING:
    import torch

    Tensors = torch.Tensor | dict[str, torch.Tensor]
    """Model inputs of n samples: one tensor [n, …], or several by name."""


def batch_of(value: Any, count: int, name: str) -> Tensors:
    """Whatever a parser returned as tensors of ``count`` rows; float64 becomes float32.

    Args:
        value: arrays, tensors, a list with an entry per sample, or a mapping of those.
        count: samples in the batch.
        name: what returned it, for messages.

    Raises:
        InvalidInputError: it is none of these, or has another number of rows.
    """
    import torch

    if isinstance(value, Mapping):
        parts = {str(key): batch_of(part, count, f"{name}[{key!r}]") for key, part in value.items()}
        return {key: part for key, part in parts.items() if isinstance(part, torch.Tensor)}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], Mapping):
            return batch_of({key: [sample[key] for sample in value] for key in value[0]}, count, name)
        value = _stack(value, name)
    tensor = value if isinstance(value, torch.Tensor) else _from_numpy(value, name)
    if tensor.ndim == 0 or len(tensor) != count:
        shape = list(tensor.shape)
        raise InvalidInputError(f"{name} returned shape {shape} for {count} samples; expected [{count}, …]")
    return tensor.float() if tensor.dtype is torch.float64 else tensor


def _stack(samples: Sequence[Any], name: str) -> torch.Tensor | np.ndarray[Any, Any]:
    import torch

    try:
        if samples and isinstance(samples[0], torch.Tensor):
            return torch.stack(list(samples))
        return np.stack([np.asarray(sample) for sample in samples])
    except (ValueError, RuntimeError, TypeError) as error:
        raise InvalidInputError(f"{name}: its samples cannot be stacked into one array: {error}") from error


def _from_numpy(value: Any, name: str) -> torch.Tensor:
    import torch

    if isinstance(value, pa.Array | pa.ChunkedArray):
        value = value.to_numpy(zero_copy_only=False) if isinstance(value, pa.Array) else value.to_numpy()
    if not isinstance(value, np.ndarray):
        raise InvalidInputError(f"{name} returned a {type(value).__name__}; expected an array, a tensor or a mapping")
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        # Arrow memory is read-only, which torch tensors cannot express
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))
    except TypeError as error:
        raise InvalidInputError(f"{name} returned an array of {value.dtype}; expected numbers") from error


def label_tensor(labels: pa.Array) -> torch.Tensor:
    """Labels (no nulls) as int64 [n], float32 [n], or [n, k] for lists of equal length k.

    Raises:
        InvalidInputError: they are no numbers.
    """
    import torch

    kind = labels.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = labels.flatten()
        if len(labels) and (len(values) % len(labels) or not is_numeric(values.type)):
            raise InvalidInputError(f"labels of type {kind} are no numeric lists of one length")
        shape: tuple[int, ...] = (len(labels), len(values) // max(1, len(labels)))
    elif is_numeric(kind):
        values, shape = labels, (len(labels),)
    else:
        raise InvalidInputError(f"labels are of type {kind}; expected integers, floats or lists of them")
    array = values.to_numpy(zero_copy_only=False).reshape(shape)
    floating = np.issubdtype(array.dtype, np.floating)
    return torch.from_numpy(np.array(array, dtype=np.float32 if floating else np.int64))

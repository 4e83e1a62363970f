"""From columns of a batch to tensors: the built-in or the user's parser, and what transforms follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from modyn.core.config.inline import is_reference
from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, ModynError, NotAvailableError
from modyn.core.plugins.parsers import Parser
from modyn.models.parsers.columns import ColumnsParser
from modyn.models.parsers.payload import is_binary, is_numeric, single_binary
from modyn.models.usercode import describe_error, load_attribute, load_function

if TYPE_CHECKING:
    import torch

    Tensors = torch.Tensor | dict[str, torch.Tensor]

Columns = Mapping[str, pa.Array]


class Decoder:
    """Decodes batches as the ``data`` section says.

    Args:
        data: its parser, transformations and label transformer are used.
        root: folder that user code may be imported from, or None.

    Raises:
        InvalidInputError: a parser or function cannot be loaded.
        NotAvailableError: something needed is not installed, or not in this release.
    """

    def __init__(self, data: DataSection, root: str | None) -> None:
        if data.tokenizer is not None:
            raise NotAvailableError(
                f"data.tokenizer: {data.tokenizer!r} is not in this release; tokenize in your own parser instead"
            )
        if data.parser is not None and data.bytes_parser_function:
            raise InvalidInputError("data.parser and data.bytes_parser_function are both set; keep one")
        self._user_parser: Callable[..., Any] | None = None
        self._parser: Parser | None = None
        self._name = "the default parser"
        self._transforms = _Transforms(data.transformations, root) if data.transformations else None
        self._label_function = (
            load_function(data.label_transformer_function, "data.label_transformer_function", root)
            if data.label_transformer_function.strip()
            else None
        )
        self._set_parser(data, root)

    def _set_parser(self, data: DataSection, root: str | None) -> None:
        if isinstance(data.parser, str):
            self._name = f"data.parser {data.parser!r}"
            self._user_parser = load_function(data.parser, "data.parser", root)
        elif data.parser is not None:
            self._name = f"data.parser {data.parser.plugin_name!r}"
            self._parser = data.parser
        elif data.bytes_parser_function:
            self._name = "data.bytes_parser_function"
            self._user_parser = _per_sample(load_function(data.bytes_parser_function, self._name, root))

    @property
    def columns(self) -> tuple[str, ...]:
        """Payload columns that have to be read; empty: all."""
        return self._parser.reads() if self._parser is not None else ()

    def inputs(self, columns: Columns) -> Tensors:
        """Model inputs of one batch.

        Args:
            columns: payload columns by name, each of length n.

        Returns:
            A tensor [n, …], or several by name. float64 becomes float32, as models expect.

        Raises:
            InvalidInputError: the columns do not suit the parser, or the user's parser raised.
        """
        count = len(next(iter(columns.values())))
        with self._blamed(self._name):
            if self._user_parser is not None:
                parsed = self._user_parser(columns)
            else:
                parsed = (self._parser or default_parser(columns)).parse(columns)
        if self._transforms is not None:
            with self._blamed("data.transformations"):
                parsed = [self._transforms(sample) for sample in parsed]
        return _batch(parsed, count, self._name)

    def labels(self, labels: pa.Array) -> torch.Tensor:
        """Labels of one batch (no nulls): int64 [n], float32 [n], or [n, k] for lists of equal length k.

        Raises:
            InvalidInputError: labels that are no numbers, or the user's label function raised.
        """
        tensor = _label_tensor(labels)
        if self._label_function is None:
            return tensor
        with self._blamed("data.label_transformer_function"):
            transformed = self._label_function(tensor)
        result = _batch(transformed, len(labels), "data.label_transformer_function")
        if isinstance(result, dict):
            raise InvalidInputError("data.label_transformer_function returned a mapping; expected one tensor")
        return result

    @contextmanager
    def _blamed(self, name: str) -> Iterator[None]:
        try:
            yield
        except ModynError:
            raise
        except Exception as error:
            raise InvalidInputError(f"{name} raised {describe_error(error)}") from error


def default_parser(columns: Columns) -> Parser:
    """The parser of a pipeline that names none: numeric columns, in stored order.

    Raises:
        InvalidInputError: the payload is something else.
    """
    if columns and all(is_numeric(array.type) for array in columns.values()):
        return ColumnsParser()
    if any(is_binary(array.type) for array in columns.values()):
        hint = "samples are bytes: set data.parser to {name: image, …}, {name: numeric_record, …} or module:function"
    else:
        odd = [name for name, array in columns.items() if not is_numeric(array.type)]
        hint = f"no numbers in {', '.join(odd)}: set data.parser to {{name: columns, columns: […]}} or module:function"
    payload = ", ".join(f"{name}: {array.type}" for name, array in columns.items())
    raise InvalidInputError(f"data.parser is not set and the payload ({payload}) has no default parser; {hint}")


def _per_sample(function: Callable[[bytes], Any]) -> Callable[[Columns], list[Any]]:
    """A batch function from the user's function of one sample's bytes (slow: Python runs for every sample)."""

    def parse(columns: Columns) -> list[Any]:
        _, payload = single_binary(columns, None, "data.bytes_parser_function")
        return [function(value) for value in payload.to_pylist()]

    return parse


class _Transforms:
    """Per-sample transforms: torchvision expressions such as ``transforms.Normalize(0.5, 0.5)``, or references."""

    def __init__(self, texts: Sequence[str], root: str | None) -> None:
        self._steps: list[Callable[[Any], Any]] = []
        for position, text in enumerate(texts):
            key = f"data.transformations[{position}]"
            step = load_attribute(text, root) if is_reference(text) else _evaluated(text, key)
            if not callable(step):
                raise InvalidInputError(f"{key} {text!r} is a {type(step).__name__}; expected a function of a sample")
            self._steps.append(step)

    def __call__(self, sample: Any) -> Any:
        for step in self._steps:
            sample = step(sample)
        return sample


def _evaluated(expression: str, key: str) -> Any:
    try:
        from torchvision import transforms
    except ModuleNotFoundError as error:
        raise NotAvailableError(
            f"{key} needs torchvision, which is not installed; install it, use the options of the built-in parsers "
            "(scale, mean, std, resize), or name a function of your own as module:attribute"
        ) from error
    try:
        return eval(expression.strip(), {"transforms": transforms})  # noqa: S307 - only where user code is allowed
    except Exception as error:
        raise InvalidInputError(f"{key} {expression!r}: {describe_error(error)}") from error


def _batch(value: Any, count: int, name: str) -> Tensors:
    """Whatever a parser returned as tensors of ``count`` rows."""
    import torch

    if isinstance(value, Mapping):
        parts = {str(key): _batch(part, count, f"{name}[{key!r}]") for key, part in value.items()}
        return {key: part for key, part in parts.items() if isinstance(part, torch.Tensor)}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], Mapping):
            return _batch({key: [sample[key] for sample in value] for key in value[0]}, count, name)
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


def _label_tensor(labels: pa.Array) -> torch.Tensor:
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

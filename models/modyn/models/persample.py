"""The user's functions of single samples: slow, because Python runs for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modyn.core.config.inline import is_reference
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.parsers.payload import Columns, single_binary
from modyn.models.usercode import describe_error, load_attribute


def per_sample(function: Callable[[bytes], Any]) -> Callable[[Columns], list[Any]]:
    """A batch function from the user's function of one sample's bytes (slow: Python runs for every sample)."""

    def parse(columns: Columns) -> list[Any]:
        _, payload = single_binary(columns, None, "data.bytes_parser_function")
        return [function(value) for value in payload.to_pylist()]

    return parse


class Transforms:
    """Per-sample transforms: torchvision expressions such as ``transforms.Normalize(0.5, 0.5)``, or references.

    Args:
        texts: of ``data.transformations``.
        root: folder that user code may be imported from, or None.

    Raises:
        InvalidInputError: one cannot be loaded, or is no function.
        NotAvailableError: it needs torchvision, which is not installed.
    """

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

"""What the published selection strategies share: which triggers' data count, and how many samples at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, WithJsonSchema

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SelectionPolicy, TriggerData


def _none_for_minus_one(value: Any) -> Any:
    return None if value == -1 and not isinstance(value, bool) else value


Limit = Annotated[
    PositiveInt | None,
    BeforeValidator(_none_for_minus_one),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": -1}, {"type": "null"}]}),
]
"""A largest number of samples; null, or -1 as in the published system, is none."""


class TailPolicy(SelectionPolicy):
    """A policy over the data of the current trigger and some before it."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "maximum_keys_in_memory": "a training set is one file that is read in slices",
        "processor_type": "there is no metadata processor",
        "storage_backend": "keys are kept as files of columns",
        "uses_weights": "weights are used whenever a policy gives them",
    }

    tail_triggers: NonNegativeInt | None = Field(
        0,
        description="Data to select from: of the current trigger (0), of it and the n triggers before (n), or "
        "everything so far (null).",
    )
    limit: Limit = Field(None, description="Most samples in a training set, over all of it; null: no limit.")

    def tail(self, history: Sequence[TriggerData]) -> KeySet:
        """All keys of the triggers that count, in the order in which the pipeline saw them."""
        first = 0 if self.tail_triggers is None else max(0, len(history) - 1 - self.tail_triggers)
        return KeySet.concat(entry.keys for entry in history[first:])

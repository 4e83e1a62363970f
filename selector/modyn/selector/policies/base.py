"""What the published selection strategies share: which triggers' data count, and how many samples at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, WithJsonSchema

from modyn.core.arrow import Int64Array
from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import SelectionInput, SelectionPolicy, TriggerData
from modyn.core.randomness import Purpose, generator
from modyn.selector.sampling import Generator, sample_mask, uniform_sample


def _none_for_minus_one(value: Any) -> Any:
    return None if value == -1 and not isinstance(value, bool) else value


Limit = Annotated[
    PositiveInt | None,
    BeforeValidator(_none_for_minus_one),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": -1}, {"type": "null"}]}),
]
"""A largest number of samples; null, or -1 as in the published system, is none."""


class LimitedPolicy(SelectionPolicy):
    """A policy with a largest number of samples."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "maximum_keys_in_memory": "a training set is one file that is read in slices",
        "processor_type": "there is no metadata processor",
        "storage_backend": "keys are kept as files of columns",
        "uses_weights": "weights are used whenever a policy gives them",
    }

    limit: Limit = Field(None, description="Most samples in a training set, over all of it; null: no limit.")

    def limited(self, num_samples: int) -> int:
        """A number of samples, or the limit if that is smaller."""
        return num_samples if self.limit is None else min(num_samples, self.limit)

    def sample(self, data: SelectionInput, keys: KeySet, target: int) -> KeySet:
        """A uniform sample without replacement, in the order of the keys; all of them if there are fewer."""
        return uniform_sample(keys, target, seed=data.seed, purpose=Purpose.SELECTION, index=data.trigger_index)

    @staticmethod
    def sample_positions(data: SelectionInput, num_keys: int, target: int) -> Int64Array:
        """The positions of :meth:`sample`, ascending, int64."""
        purpose, index = Purpose.SELECTION, data.trigger_index
        return np.flatnonzero(sample_mask(num_keys, target, seed=data.seed, purpose=purpose, index=index))

    @staticmethod
    def random(data: SelectionInput) -> Generator:
        """The random numbers of this trigger."""
        return generator(data.seed, Purpose.SELECTION, data.trigger_index)


class TailPolicy(LimitedPolicy):
    """A policy over the data of the current trigger and some before it."""

    tail_triggers: NonNegativeInt | None = Field(
        0,
        description="Data to select from: of the current trigger (0), of it and the n triggers before (n), or "
        "everything so far (null).",
    )

    def tail_entries(self, history: Sequence[TriggerData]) -> Sequence[TriggerData]:
        """The triggers that count, oldest first."""
        first = 0 if self.tail_triggers is None else max(0, len(history) - 1 - self.tail_triggers)
        return history[first:]

    def tail(self, history: Sequence[TriggerData]) -> KeySet:
        """All keys of the triggers that count, in the order in which the pipeline saw them."""
        return KeySet.concat(entry.keys for entry in self.tail_entries(history))

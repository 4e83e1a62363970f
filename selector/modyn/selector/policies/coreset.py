"""Narrowing the data in two stages: presampling here, downsampling with the model in the training job."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    NonNegativeInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import core_schema

from modyn.core.config.problems import nested_error
from modyn.core.config.published import Described
from modyn.core.keysets import KeySet
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, DownsamplingStrategy, NoDownsampling
from modyn.core.plugins.selection import (
    PRESAMPLING_STRATEGIES,
    SELECTION_POLICIES,
    PresamplingStrategy,
    Selection,
    SelectionInput,
)
from modyn.core.randomness import Purpose
from modyn.core.registry import without_references
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import uniform_sample


class DownsamplingSchedule(Described):
    """Several strategies, one after the other: the next one from a threshold on."""

    downsampling_list: list[Annotated[DownsamplingStrategy, DOWNSAMPLING_STRATEGIES.field()]] = Field(
        min_length=1, description="The strategies, in order."
    )
    downsampling_thresholds: list[NonNegativeInt] = Field(
        [],
        validate_default=True,
        description="The i-th is the trigger, counted after warm-up, from which strategy i + 1 is used; one fewer than "
        "strategies, ascending.",
    )

    @field_validator("downsampling_thresholds")
    @classmethod
    def _check_thresholds(cls, thresholds: list[int], info: ValidationInfo) -> list[int]:
        strategies = info.data.get("downsampling_list")
        if strategies is not None and len(thresholds) != len(strategies) - 1:
            raise ValueError(
                f"{len(thresholds)} thresholds for {len(strategies)} strategies; expected {len(strategies) - 1}, one "
                "fewer than there are strategies"
            )
        if any(later <= earlier for earlier, later in itertools.pairwise(thresholds)):
            raise ValueError(f"value {thresholds}: expected each threshold to be larger than the one before")
        return thresholds

    def at(self, trigger_index: int) -> DownsamplingStrategy:
        """The strategy of a trigger, counted after warm-up."""
        return self.downsampling_list[bisect.bisect_right(self.downsampling_thresholds, trigger_index)]


class _OneOrSchedule:
    """Tells pydantic that a field holds a strategy, or a schedule of some."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        one = DOWNSAMPLING_STRATEGIES.field().__get_pydantic_core_schema__(DownsamplingStrategy, handler)

        def validate(value: Any, parse_one: Callable[[Any], Any], info: ValidationInfo) -> Any:
            if isinstance(value, DownsamplingSchedule):
                return value
            if not isinstance(value, Mapping) or "downsampling_list" not in value:
                return parse_one(value)
            try:
                return DownsamplingSchedule.model_validate(value, context=info.context)
            except ValidationError as error:
                raise nested_error(error, DownsamplingSchedule) from error

        def serialize(value: Any, dump_one: Callable[[Any], Any]) -> Any:
            return value.model_dump(mode="json") if isinstance(value, DownsamplingSchedule) else dump_one(value)

        return core_schema.with_info_wrap_validator_function(
            validate,
            one,
            serialization=core_schema.wrap_serializer_function_ser_schema(serialize, schema=one),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        one = DOWNSAMPLING_STRATEGIES.field().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [one, without_references(DownsamplingSchedule.model_json_schema())]}


@SELECTION_POLICIES.register("CoresetStrategy")
class CoresetStrategy(TailPolicy):
    """Presample the data without a model, then downsample it with the model in the training job.

    The training set has ``ratio/ratio_max`` of the candidates (rounded down, at least one), or ``limit`` if that
    is fewer.
    """

    presampling_config: Annotated[PresamplingStrategy, PRESAMPLING_STRATEGIES.field()] = Field(
        {"strategy": "No"},
        validate_default=True,
        description="How to narrow the data before training.",
    )
    downsampling_config: Annotated[DownsamplingStrategy | DownsamplingSchedule, _OneOrSchedule()] = Field(
        {"strategy": "No"},
        validate_default=True,
        description="How to narrow the training set further, with the model: a strategy, or a schedule of some.",
    )
    warmup_triggers: NonNegativeInt = Field(0, description="The first triggers train on all candidates, up to limit.")

    @field_validator("presampling_config")
    @classmethod
    def _check_triggers(cls, presampling: PresamplingStrategy, info: ValidationInfo) -> PresamplingStrategy:
        if presampling.over_triggers and info.data.get("tail_triggers") == 0:
            raise ValueError(
                f"{presampling.plugin_name} draws from several triggers; expected tail_triggers null or at least 1, "
                "not 0"
            )
        return presampling

    def select(self, data: SelectionInput) -> Selection:
        entries = self.tail_entries(data.history)
        candidates = KeySet.concat(entry.keys for entry in entries)
        if data.trigger_index < self.warmup_triggers:
            target = self.limited(len(candidates))
            sample = uniform_sample(
                candidates, target, seed=data.seed, purpose=Purpose.PRESAMPLING, index=data.trigger_index
            )
            return Selection(sample)
        target = self.limited(self.presampling_config.target_size(len(candidates)))
        return self.presampling_config.select(replace(data, history=entries), candidates, target)

    def downsampling(self, trigger_index: int) -> DownsamplingStrategy | None:
        if trigger_index < self.warmup_triggers:
            return None
        config = self.downsampling_config
        if isinstance(config, DownsamplingSchedule):
            config = config.at(trigger_index - self.warmup_triggers)
        return None if isinstance(config, NoDownsampling) else config

    @property
    def downsamples(self) -> bool:
        config = self.downsampling_config
        strategies = config.downsampling_list if isinstance(config, DownsamplingSchedule) else [config]
        return not all(isinstance(strategy, NoDownsampling) for strategy in strategies)

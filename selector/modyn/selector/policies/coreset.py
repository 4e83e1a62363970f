"""Narrowing the data in two stages: presampling here, downsampling with the model in the training job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, NonNegativeInt
from pydantic_core import core_schema

from modyn.core.config.problems import planned_error
from modyn.core.plugins.selection import (
    DOWNSAMPLING_STRATEGIES,
    PRESAMPLING_STRATEGIES,
    SELECTION_POLICIES,
    DownsamplingStrategy,
    PresamplingStrategy,
    Selection,
    SelectionInput,
)
from modyn.core.randomness import Purpose
from modyn.selector.policies.base import TailPolicy
from modyn.selector.sampling import uniform_sample


class _SchedulesArePlanned:
    """Recognises a list of downsamplers over triggers, which has no ``strategy`` key of its own."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def check(value: Any) -> Any:
            if isinstance(value, Mapping) and "downsampling_list" in value:
                raise planned_error("a schedule of downsampling strategies (downsampling_list)")
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schedule = {
            "title": "Schedule",
            "description": "Not in this release yet.",
            "type": "object",
            "properties": {"downsampling_list": {"type": "array"}, "downsampling_thresholds": {"type": "array"}},
            "required": ["downsampling_list"],
        }
        return {"anyOf": [handler(schema), schedule]}


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
    downsampling_config: Annotated[DownsamplingStrategy, DOWNSAMPLING_STRATEGIES.field(), _SchedulesArePlanned()] = (
        Field(
            {"strategy": "No"},
            validate_default=True,
            description="How to narrow the training set further, with the model.",
        )
    )
    warmup_triggers: NonNegativeInt = Field(0, description="The first triggers train on all candidates, up to limit.")

    def select(self, data: SelectionInput) -> Selection:
        candidates = self.tail(data.history)
        warm_up = data.trigger_index < self.warmup_triggers
        target = len(candidates) if warm_up else self.presampling_config.target_size(len(candidates))
        target = target if self.limit is None else min(target, self.limit)
        if target == len(candidates):
            return Selection(candidates)
        if warm_up:
            sample = uniform_sample(
                candidates, target, seed=data.seed, purpose=Purpose.PRESAMPLING, index=data.trigger_index
            )
            return Selection(sample)
        return self.presampling_config.select(data, candidates, target)

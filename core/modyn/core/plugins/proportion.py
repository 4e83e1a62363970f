"""What strategies that keep a part of their samples share."""

from __future__ import annotations

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from modyn.core.registry import Plugin


class Proportion(Plugin):
    """A plug-in that keeps ``ratio/ratio_max`` of some samples."""

    ratio_max: PositiveInt = Field(100, description="What ratio is a part of; 100: per cent.")
    ratio: PositiveInt = Field(description="Share of the samples to keep, in parts of ratio_max.")

    @field_validator("ratio")
    @classmethod
    def _check_ratio(cls, ratio: int, info: ValidationInfo) -> int:
        if ratio > info.data.get("ratio_max", ratio):
            raise ValueError(f"expected at most ratio_max ({info.data['ratio_max']})")
        return ratio

    def target_size(self, num_samples: int) -> int:
        """How many of the samples to keep: ``ratio/ratio_max`` of them, rounded down, at least one if any."""
        return min(num_samples, max(1, num_samples * self.ratio // self.ratio_max))

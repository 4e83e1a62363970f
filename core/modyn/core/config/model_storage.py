"""The ``model_storage`` section: how models are stored, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from modyn.core.config.sections import Section

_LOSSLESS = "differences are always without loss, and compressed where that helps"


class IncrementalModelStrategy(Section):
    """Models are stored as their difference from an earlier one, where that takes fewer bytes; without any loss."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "zip": _LOSSLESS,
        "zip_algorithm": _LOSSLESS,
        "config": _LOSSLESS,
    }

    name: Literal["WeightsDifference"] = Field(description="The kind of difference.")
    full_model_interval: PositiveInt | None = Field(
        None,
        description="A whole model at every n-th trigger; those between are differences from the last whole one. null: "
        "only the first is whole.",
    )


class RetentionSection(Section):
    """Which models of the pipeline stay in storage. By default all of them do.

    A model that several pipelines have stays as long as one of them keeps it.
    """

    keep_reported: bool = Field(
        True, description="Keep every model that the pipeline's report names, which are all that it trained."
    )
    keep_last: PositiveInt | None = Field(
        None,
        validate_default=True,
        description="With keep_reported: false, keep the models of the last n triggers that trained one. The report of "
        "earlier ones stays; their weights are removed.",
    )

    @field_validator("keep_last")
    @classmethod
    def _check_both(cls, keep_last: int | None, info: ValidationInfo) -> int | None:
        keep_reported = info.data.get("keep_reported", keep_last is None)
        if keep_last is not None and keep_reported:
            raise ValueError(
                "has no effect while every model of the report is kept; say keep_reported: false too, so that the "
                "weights of earlier models may be removed"
            )
        if keep_last is None and not keep_reported:
            raise ValueError("expected how many models to keep, as keep_reported is false")
        return keep_last


class ModelStorageSection(Section):
    """How models are stored, and how long. It has no influence on what is trained."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "full_model_strategy": "a whole model is a safetensors file, named by its content"
    }

    incremental_model_strategy: IncrementalModelStrategy | None = Field(
        None, description="Store models as differences; null: each is whole."
    )
    retention: RetentionSection = Field(RetentionSection(), description="Which models stay.")

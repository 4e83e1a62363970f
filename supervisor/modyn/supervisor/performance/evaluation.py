"""The published system's `evaluation` section of a trigger: only its metrics mean something here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from modyn.core.config.published import Described
from modyn.core.plugins.evaluation import METRICS, Metric

_OF_THE_PIPELINE = "samples are read as the pipeline's data section says"


class PublishedDataset(Described):
    """What predictions are scored with."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "dataset_id": "the trigger looks at the pipeline's own dataset",
        "bytes_parser_function": _OF_THE_PIPELINE,
        "transformations": _OF_THE_PIPELINE,
        "label_transformer_function": _OF_THE_PIPELINE,
        "tokenizer": _OF_THE_PIPELINE,
        "batch_size": "the evaluator chooses it",
        "dataloader_workers": "samples are read in whole batches ahead of the model",
    }

    metrics: list[Annotated[Metric, METRICS.field()]] = Field(
        min_length=1, description="Read as the trigger's `metrics`."
    )


class PublishedEvaluation(Described):
    """How predictions are scored."""

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "device": "predictions are made where the pipeline evaluates",
        "label_transformer_function": _OF_THE_PIPELINE,
    }

    dataset: PublishedDataset = Field(description="Only its `metrics` have an effect.")

"""What the metrics of classifiers share."""

from __future__ import annotations

from pydantic import Field, field_validator

from modyn.core.config.problems import planned_error
from modyn.core.plugins.evaluation import Metric


class ClassificationMetric(Metric):
    """A metric of predicted classes or of class scores."""

    evaluation_transformer_function: str | None = Field(
        None,
        description="Inline Python between model and metric; not in this release. The predicted class is the "
        "largest of two or more outputs, or the sign of a single one.",
    )

    @field_validator("evaluation_transformer_function")
    @classmethod
    def _not_yet(cls, code: str | None) -> None:
        if code and code.strip():
            raise planned_error(
                "inline Python here (leave the key out: the predicted class is the largest of two or more outputs, or "
                "the sign of a single one)"
            )

"""What the metrics of classifiers share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from modyn.core.config.inline import check_function
from modyn.core.plugins.evaluation import DecomposableMetric, Metric


class ClassificationMetric(Metric):
    """A metric of predicted classes or of class scores."""

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    evaluation_transformer_function: str | None = Field(
        None,
        description="Inline Python that defines evaluation_transformer_function(model_output), or module:attribute: a "
        "function of the model's raw outputs, a float32 tensor [samples, outputs], that returns classes [samples] or "
        "scores [samples, k] for this metric to take instead. By default the predicted class is the largest of two or "
        "more outputs, or the sign of a single one.",
    )

    @field_validator("evaluation_transformer_function")
    @classmethod
    def _check_transformer(cls, code: str | None) -> str | None:
        if code is None or not code.strip():
            return None
        return check_function(code, "evaluation_transformer_function")

    @property
    def needs_scores(self) -> bool:
        return self.evaluation_transformer_function is not None or self._takes_scores

    @property
    def user_code(self) -> str | None:
        return self.evaluation_transformer_function

    @property
    def _takes_scores(self) -> bool:
        """Whether the metric itself looks at scores."""
        return False


class DecomposableClassificationMetric(ClassificationMetric, DecomposableMetric):
    """One that follows from sums over samples."""

"""Calibration error: how far the confidence of a model is from how often it is right."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import METRICS, Float64Array, Outcomes
from modyn.evaluator.metrics.classification import DecomposableClassificationMetric
from modyn.evaluator.metrics.probabilities import chunks
from modyn.evaluator.sums import count_stretches


@METRICS.register("CalibrationError")
class CalibrationError(DecomposableClassificationMetric):
    """Expected calibration error: samples are put into bins by the model's confidence, and in each bin the mean
    confidence is compared with the share of right predictions.

    The confidence is the largest class probability (softmax of two or more outputs, sigmoid of a single one). Of B bins
    of equal width, bin b holds confidences above (b − 1)/B up to b/B. ``l1`` is the mean of the absolute differences,
    weighted by how many samples a bin has; ``max`` is the largest of them. Undefined where a score is not a number.

    Guo et al., "On calibration of modern neural networks", ICML 2017.

    >>> scores = np.log(np.array([[0.25, 0.75], [0.25, 0.75]])).astype(np.float32)
    >>> outcomes = Outcomes(labels=np.array([0, 1]), predictions=np.array([1, 1]), scores=scores)
    >>> round(CalibrationError().score(outcomes), 4)
    0.25
    """

    greater_is_better: ClassVar[bool] = False

    bins: PositiveInt = Field(15, le=1000, description="How many bins of equal width.")
    norm: Literal["l1", "max"] = Field("l1", description="The weighted mean of the differences, or the largest one.")

    @property
    def _takes_scores(self) -> bool:
        return True

    @property
    def result_name(self) -> str:
        return f"ECE-{self.bins}" if self.norm == "l1" else f"MCE-{self.bins}"

    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        """Per bin the number of samples, of right ones, and the sum of confidences."""
        inner = np.arange(1, self.bins) / self.bins
        bins, confidence = np.empty(len(outcomes), dtype=np.int64), np.empty(len(outcomes))
        for rows, part in chunks(self.plugin_name, outcomes):
            confidence[rows] = part.probabilities.max(axis=1)
            bins[rows] = np.searchsorted(inner, confidence[rows], side="left")
        right = np.where(outcomes.labels == outcomes.predictions, bins, self.bins)
        counted = [
            count_stretches(bins, edges, self.bins),
            count_stretches(right, edges, self.bins + 1)[:, :-1],
            count_stretches(bins, edges, self.bins, weights=confidence),
        ]
        return np.concatenate(counted, axis=1)

    def values(self, statistics: Float64Array) -> Float64Array:
        counts, right, confidence = np.split(statistics, 3, axis=-1)
        differences = np.abs(confidence - right)
        total = counts.sum(axis=-1)
        if self.norm == "l1":
            combined = differences.sum(axis=-1) / np.maximum(total, 1.0)
        else:
            combined = (differences / np.maximum(counts, 1.0)).max(axis=-1)
        values: Float64Array = np.where(total > 0, combined, np.nan)
        return values

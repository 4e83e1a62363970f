"""Hellinger distance of histograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from modyn.core.plugins.drift import DRIFT_METRICS, Numbers
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.features import principal_components
from modyn.supervisor.drift.permutation import PermutationMetric, Splits

MOST_BINS = 20

COLUMNS_AT_ONCE = 64
"""Features whose histograms are in memory at once."""


@DRIFT_METRICS.register("Hellinger", aliases=("EvidentlyHellingerDistanceDriftMetric",))
class Hellinger(PermutationMetric):
    """How little the histograms of each feature overlap; sees changes of shape, and needs some hundred samples.

    ``H = sqrt(1 - sum over bins of sqrt(p q))`` per feature with p and q the shares of the two windows' samples in a
    bin; the distance is the mean of H over the features, in [0, 1] (Hellinger, 1909). Bins are bounded by quantiles of
    both windows together, so that the scale of a feature and outliers do not matter. Noise alone makes H about
    ``sqrt((bins - 1) (1 / n + 1 / m) / 8)``.

    >>> rng = np.random.default_rng(0)
    >>> reference, current = rng.normal(size=(2, 500, 2)).astype(np.float32)
    >>> metric = Hellinger(decision_criterion={"id": "ThresholdDecisionCriterion", "threshold": 0.2})
    >>> metric.distance(reference, current, rng) < 0.1, metric.distance(reference, current + 2, rng) > 0.5
    (True, True)
    """

    num_pca_component: PositiveInt | None = Field(
        None, description="Look at so many principal components of both windows instead of the features."
    )

    def statistics(self, pooled: Features, splits: Splits, rng: np.random.Generator) -> Numbers:
        columns = principal_components(pooled, self.num_pca_component)
        bins = _num_bins(min(splits.num_reference, splits.num_current))
        total = np.zeros(splits.current.shape[1])
        for start in range(0, columns.shape[1], COLUMNS_AT_ONCE):
            part = columns[:, start : start + COLUMNS_AT_ONCE]
            counts = _block_counts(_binned(part, bins), bins, splits)
            everywhere = counts.sum(axis=0)
            current = splits.current.T.astype(np.float32) @ counts  # counts are exact in float32 up to 2^24
            overlap = np.sqrt(current * (everywhere - current)).reshape(len(total), -1, bins).sum(axis=2)
            overlap /= np.sqrt(splits.num_reference * splits.num_current)
            total += np.sqrt(np.maximum(1 - overlap, 0)).sum(axis=1)
        return np.asarray(total / columns.shape[1] * splits.scale(0.5), dtype=np.float64)


def _num_bins(samples: int) -> int:
    """2 … 20, growing with the smaller window so that bins hold more samples too."""
    return int(np.clip(round(np.sqrt(samples / 5)), 2, MOST_BINS))


def _binned(columns: Features, bins: int) -> npt.NDArray[np.int64]:
    """The bin of every sample, int64 [n, d]."""
    cuts = np.quantile(columns, np.arange(1, bins) / bins, axis=0)
    return np.stack(
        [np.searchsorted(cut, column, side="right") for cut, column in zip(cuts.T, columns.T, strict=True)], 1
    )


def _block_counts(bins_of: npt.NDArray[np.int64], bins: int, splits: Splits) -> Features:
    """Samples of each block in each bin of each feature, float32 [blocks, d * bins]."""
    samples, features = bins_of.shape
    blocks = np.arange(samples)[:, None] // splits.blocks.length
    cells = (blocks * features + np.arange(features)) * bins + bins_of
    counts = np.bincount(cells.ravel(), minlength=splits.blocks.count * features * bins)
    return counts.astype(np.float32).reshape(splits.blocks.count, features * bins)

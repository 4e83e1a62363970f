"""What learning later data did to earlier and to future data, from a model x window matrix of scores.

Measures of continual learning, with windows of time in the place of tasks: forgetting after Chaudhry et al.
("Riemannian Walk for Incremental Learning", ECCV 2018), backward and forward transfer after Lopez-Paz and Ranzato
("Gradient Episodic Memory for Continual Learning", NeurIPS 2017).

Nothing here knows of services; this is a function of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import Float64Array, Window


@dataclass(frozen=True)
class Transfer:
    """How models did on what they had learned and on what they had not seen yet.

    Attributes:
        forgetting: positive where the last model is worse than the best one before it was; None without windows.
        backward_transfer: positive where the last model is better than the first one that had learned the window.
        forward_transfer: positive where a model is better than no model on what it has not seen.
        windows_backward: how many windows the first two are means of.
        windows_forward: how many windows the third is a mean of.
    """

    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None
    windows_backward: int
    windows_forward: int


def transfer(
    scores: Float64Array,
    *,
    windows: Sequence[Window],
    last_timestamps: Int64Array,
    baseline: Float64Array | None,
    greater_is_better: bool,
) -> Transfer:
    """Forgetting, backward and forward transfer of a sequence of models.

    A model *has learned* a window if its training data reach to the window's last second, and *has not seen* it if
    they end before the window begins.

    - Windows that count backward: a model before the last one has learned it, and the scores of the first such model
      and of the last model are known. Forgetting is the mean of the best of these models (where known) less the last
      model; backward transfer is the mean of the last model less the first of them.
    - Windows that count forward: at least the first model has not seen it, and the scores of the last model that has
      not, and of the baseline, are known. Forward transfer is the mean of that model less the baseline.

    Differences are turned so that a better score is a larger one.

    >>> three = [Window(0, 10, 0), Window(10, 20, 10), Window(20, 30, 20)]
    >>> found = transfer(
    ...     np.array([[0.9, 0.5, 0.5], [0.8, 0.9, 0.6], [0.6, 0.7, 0.9]]),
    ...     windows=three,
    ...     last_timestamps=np.array([9, 19, 29]),
    ...     baseline=np.array([0.5, 0.5, 0.5]),
    ...     greater_is_better=True,
    ... )
    >>> round(found.forgetting, 6), round(found.backward_transfer, 6), round(found.forward_transfer, 6)
    (0.25, -0.25, 0.05)

    Args:
        scores: of one metric, float64 [models, windows], models in training order; NaN or infinite where unknown.
        windows: [windows]
        last_timestamps: per model, int64 [models]: the largest timestamp (inclusive) of all data handed over up to
            its trigger.
        baseline: score of a prediction without a model per window, float64 [windows]; None if there is none.
        greater_is_better: False for losses and errors.
    """
    models, count = scores.shape
    if models == 0:
        return Transfer(None, None, None, 0, 0)
    value = np.where(np.isfinite(scores), scores if greater_is_better else -scores, np.nan)
    starts = np.array([window.start for window in windows], dtype=np.int64)
    last_seconds = np.array([window.end - 1 for window in windows], dtype=np.int64)
    ends = np.asarray(last_timestamps, dtype=np.int64)[:, np.newaxis]
    column = np.arange(count)

    learned = (ends >= last_seconds)[:-1]
    best, first = np.full(count, np.nan), np.full(count, np.nan)
    if models > 1:
        best = np.fmax.reduce(np.where(learned, value[:-1], np.nan), axis=0)
        first = np.where(learned.any(axis=0), value[learned.argmax(axis=0), column], np.nan)
    backward = ~np.isnan(first) & ~np.isnan(value[-1])

    unseen = ends < starts
    newest = models - 1 - unseen[::-1].argmax(axis=0)
    ahead = np.where(unseen[0], value[newest, column], np.nan)
    if baseline is None:
        gain = np.full(count, np.nan)
    else:
        gain = ahead - np.where(np.isfinite(baseline), baseline if greater_is_better else -baseline, np.nan)
    forward = ~np.isnan(gain)
    return Transfer(
        forgetting=_mean((best - value[-1])[backward]),
        backward_transfer=_mean((value[-1] - first)[backward]),
        forward_transfer=_mean(gain[forward]),
        windows_backward=int(backward.sum()),
        windows_forward=int(forward.sum()),
    )


def _mean(values: Float64Array) -> float | None:
    return float(values.mean()) if len(values) else None

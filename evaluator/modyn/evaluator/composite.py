"""The composite model: what a sequence of models, each replaced by the next, was worth.

A window has an anchor, the moment it stands for (its start; its centre for a periodic window). At an anchor the
*currently active* model is the last one whose training data end strictly before it; the *currently trained* model
is the one after that (the first model while none is active, the last one if there is no later). The composite
score is the mean over windows of the score of the model that was active (or trained) at each window.

Nothing here knows of services; these are functions of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.plugins.evaluation import Window


def active_and_trained(anchors: Int64Array, last_timestamps: Int64Array) -> tuple[list[int | None], list[int | None]]:
    """The model in charge at each anchor.

    >>> active_and_trained(np.array([5, 10, 11, 99]), np.array([10, 20]))
    ([None, None, 0, 1], [0, 0, 1, 1])

    Args:
        anchors: moments, int64 [w], Unix seconds, in any order.
        last_timestamps: per model in training order, int64 [m]: the largest timestamp (inclusive) of all data
            handed over up to its trigger.

    Returns:
        Two lists of length w: index of the currently active and of the currently trained model, None where
        there is none.
    """
    count = len(last_timestamps)
    if count == 0:
        nobody: list[int | None] = [None] * len(anchors)
        return nobody, list(nobody)
    # "The last model that ended before a" is a search in the running minimum from the right; for a data clock,
    # which never runs backwards, that is the array itself.
    earliest_from_here = np.minimum.accumulate(np.asarray(last_timestamps, dtype=np.int64)[::-1])[::-1]
    active = np.searchsorted(earliest_from_here, np.asarray(anchors, dtype=np.int64), side="left") - 1
    trained = np.minimum(active + 1, count - 1)
    return [int(a) if a >= 0 else None for a in active], [int(t) for t in trained]


@dataclass(frozen=True)
class CompositeSummary:
    """One metric of a composite model over its windows.

    Attributes:
        mean: plain mean over the windows scored; None if there is none.
        time_weighted: the same with each window weighted by its length in seconds.
        scored: windows that count.
        empty: windows without a labelled sample.
        without_model: windows with samples at which no model was in charge.
        undefined: windows with samples and a model on which the metric has no value.
        counted: per window, whether it is among the scored ones.
    """

    mean: float | None
    time_weighted: float | None
    scored: int
    empty: int
    without_model: int
    undefined: int
    counted: tuple[bool, ...]


def summarise(
    windows: Sequence[Window],
    scores: Sequence[float | None],
    *,
    samples: Sequence[int],
    has_model: Sequence[bool],
) -> CompositeSummary:
    """Means over windows; every window falls into exactly one of the four counts.

    >>> day = [Window(0, 10, 0), Window(10, 40, 10), Window(40, 50, 40)]
    >>> summary = summarise(day, [0.5, 0.9, None], samples=[4, 4, 0], has_model=[True, True, True])
    >>> (round(summary.mean, 6), round(summary.time_weighted, 6), summary.empty)
    (0.7, 0.8, 1)

    Args:
        windows: [w]
        scores: value of the metric for the model in charge, [w]; None if undefined or unknown.
        samples: labelled samples per window, [w].
        has_model: whether a model was in charge, [w]. To average a baseline over the windows that a model was
            scored on, pass that summary's ``counted``.
    """
    values: list[float] = []
    lengths: list[int] = []
    counted: list[bool] = []
    empty = without_model = undefined = 0
    for window, score, size, present in zip(windows, scores, samples, has_model, strict=True):
        counts = size > 0 and present and score is not None
        counted.append(counts)
        if score is not None and counts:
            values.append(score)
            lengths.append(window.end - window.start)
        elif size <= 0:
            empty += 1
        elif not present:
            without_model += 1
        else:
            undefined += 1
    total = sum(lengths)
    return CompositeSummary(
        mean=math.fsum(values) / len(values) if values else None,
        time_weighted=math.fsum(v * n for v, n in zip(values, lengths, strict=True)) / total if total else None,
        scored=len(values),
        empty=empty,
        without_model=without_model,
        undefined=undefined,
        counted=tuple(counted),
    )

"""The composite model: what a sequence of models, each replaced by the next, was worth.

A window has an anchor, the moment it stands for (its start; its centre for a periodic window). At an anchor the
*currently active* model is the last one whose training data end strictly before it and, where training takes time,
whose training would have ended by then; the *currently trained* model is the one after that (the first model while
none is active, the last one if there is no later). The composite score is the mean over windows of the score of the
model that was active (or trained) at each window.

Nothing here knows of services; these are functions of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Float64Array, Window

_FIRST_SECOND, _LAST_SECOND = -(2**63), 2**63 - 1


def active_and_trained(
    anchors: Int64Array, last_timestamps: Int64Array, live_from: Float64Array | None = None
) -> tuple[list[int | None], list[int | None]]:
    """The model in charge at each anchor.

    >>> active_and_trained(np.array([5, 10, 11, 99]), np.array([10, 20]))
    ([None, None, 0, 1], [0, 0, 1, 1])
    >>> active_and_trained(np.array([5, 10, 11, 99]), np.array([10, 20]), live_from=np.array([10.5, 200]))
    ([None, None, 0, 0], [0, 0, 1, 1])

    Args:
        anchors: moments, int64 [w], Unix seconds, in any order.
        last_timestamps: per model in training order, int64 [m]: the largest timestamp (inclusive) of all data
            handed over up to its trigger. Of equal ones, the last in order wins.
        live_from: per model, float64 [m], Unix seconds: the model is not active before (see :func:`live_from`); never
            where it is infinite or NaN. None: training takes no time.

    Returns:
        Two lists of length w: index of the currently active and of the currently trained model, None where
        there is none.
    """
    count = len(last_timestamps)
    if count == 0:
        nobody: list[int | None] = [None] * len(anchors)
        return nobody, list(nobody)
    after = np.asarray(last_timestamps, dtype=np.int64)
    if live_from is not None:
        after = np.maximum(after, _seconds_before(live_from))
    # "The last model with after < a" is a search in the running minimum from the right; for a data clock, which
    # never runs backwards, that is the array itself.
    earliest_from_here = np.minimum.accumulate(after[::-1])[::-1]
    active = np.searchsorted(earliest_from_here, np.asarray(anchors, dtype=np.int64), side="left") - 1
    trained = np.minimum(active + 1, count - 1)
    return [a if a >= 0 else None for a in active.tolist()], trained.tolist()


def live_from(fired_at: Int64Array, seconds: Float64Array) -> Float64Array:
    """When each model could have been live, on the clock of the data.

    Trainings follow each other: one begins when its trigger fires, or when the one before has ended if that is later.

    >>> live_from(np.array([100, 110, 500]), np.array([30.0, 30.0, 30.0]))
    array([130., 160., 530.])

    Args:
        fired_at: data clock at each trigger in order, int64 [m], Unix seconds.
        seconds: how long each training takes, float64 [m]; infinity for one that never ends.

    Returns:
        float64 [m], Unix seconds; exact to a few microseconds for times of this millennium.

    Raises:
        InvalidInputError: a training takes less than no time, or an unknown one.
    """
    ends: list[float] = []
    for index, (fired, taken) in enumerate(zip(fired_at.tolist(), seconds.tolist(), strict=True)):
        if not taken >= 0:
            raise InvalidInputError(f"training {index} took {taken} s; expected a time of zero or more seconds")
        begin = max(float(fired), ends[-1]) if ends else float(fired)
        ends.append(begin + taken)
    return np.array(ends, dtype=np.float64)


def _seconds_before(moments: Float64Array) -> Int64Array:
    """The last whole second strictly before each moment, int64: ``a > second`` is ``a >= moment`` for whole a."""
    whole = np.ceil(moments)
    never = ~(whole < 2.0**63)  # NaN, too
    always = whole <= -(2.0**63)
    seconds = np.where(never | always, 0.0, whole).astype(np.int64) - 1
    seconds[never], seconds[always] = _LAST_SECOND, _FIRST_SECOND
    return seconds


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

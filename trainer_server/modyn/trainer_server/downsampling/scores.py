"""What scoring strategies share: columns they asked for, and the lowest of a column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InternalError
from modyn.core.plugins.downsampling import Float32Array, Score
from modyn.core.pps import uniform_sample


def asked(column: Float32Array | None, score: Score) -> Float32Array:
    """A column of the candidates that the strategy needs.

    Raises:
        InternalError: it was not handed over.
    """
    if column is None:
        raise InternalError(f"the strategy needs {score.value!r} of the candidates, which the training did not compute")
    return column


def lowest(values: npt.NDArray[np.floating], size: int, random: np.random.Generator) -> Int64Array:
    """Positions of the ``size`` lowest values, ascending, int64 [size].

    Which of those that tie at the threshold are taken is drawn: samples that a model is sure about tie in great
    numbers, and the first of them would always be the oldest.

    Args:
        values: [n], no NaN.
        size: 0 <= size <= n.
    """
    if size in (0, len(values)):
        return np.arange(size, dtype=np.int64)
    threshold = np.partition(values, size - 1)[size - 1]
    below = np.flatnonzero(values < threshold)
    ties = np.flatnonzero(values == threshold)
    drawn = ties[uniform_sample(len(ties), size - len(below), random)]
    return np.sort(np.concatenate((below, drawn)))

"""Metrics tried on the labels of one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.evaluation import Float64Array, Metric, Outcomes
from modyn.evaluator.samples import class_labels, number_labels
from modyn.models.usercode import describe_error
from modyn.proto.evaluator_pb2 import MetricValue

_STEP = 0.7548776662466927
"""Multiples of it, modulo 1, lie evenly: the inverse of the plastic number."""


def try_metrics(
    metrics: Sequence[Metric], outcomes: Outcomes, user_code: Callable[[Metric, Outcomes], float | None] | None = None
) -> list[MetricValue]:
    """Scores each metric once.

    Args:
        outcomes: at least one, with scores.
        user_code: scores those that run code of the user; None: they are left out.

    Raises:
        InvalidInputError: a metric cannot take these labels or outputs; the message names it.
    """
    assert outcomes.scores is not None
    values = []
    for metric in metrics:
        try:
            if metric.user_code is None:
                value = metric.score(outcomes)
            elif user_code is not None:
                value = user_code(metric, outcomes)
            else:
                continue
        except ModynError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"metric {metric.plugin_name} raised {describe_error(error)} on labels int64 "
                f"{list(outcomes.labels.shape)} and scores float32 {list(outcomes.scores.shape)}"
            ) from error
        values.append(MetricValue(name=metric.result_name, value=value))
    return values


def stored_labels(labels: pa.Array, metrics: Sequence[Metric], dataset: str) -> tuple[Int64Array, Float64Array | None]:
    """Labels as metrics take them, from labels as they are stored, [n] without nulls.

    Returns:
        Classes, int64 [n], zeros if no metric takes classes; numbers, float64 [n, k], None if none takes numbers.

    Raises:
        InvalidInputError: a metric cannot take labels of this type.
    """
    kinds = {metric.labels_are for metric in metrics}
    classes = class_labels(labels, dataset) if "classes" in kinds else np.zeros(len(labels), dtype=np.int64)
    return classes, number_labels(labels, dataset) if "numbers" in kinds else None


def made_up(labels: Int64Array, num_outputs: int, targets: Float64Array | None = None) -> Outcomes:
    """Outcomes with these labels, int64 [n] and float64 [n, k], and outputs that stand for those of an untrained
    model."""
    places = np.arange(len(labels) * num_outputs, dtype=np.float64).reshape(len(labels), num_outputs)
    scores: npt.NDArray[np.float32] = ((places * _STEP) % 1.0 - 0.5).astype(np.float32)
    predictions = scores.argmax(axis=1) if num_outputs > 1 else (scores[:, 0] > 0).astype(np.int64)
    return Outcomes(labels, predictions, scores, targets)

"""Metrics tried on the labels of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.evaluation import Metric, Outcomes
from modyn.models.usercode import describe_error
from modyn.proto.evaluator_pb2 import MetricValue

_STEP = 0.7548776662466927
"""Multiples of it, modulo 1, lie evenly: the inverse of the plastic number."""


def try_metrics(metrics: Sequence[Metric], outcomes: Outcomes) -> list[MetricValue]:
    """Scores each metric once.

    Args:
        outcomes: at least one, with scores.

    Raises:
        InvalidInputError: a metric cannot take these labels or outputs; the message names it.
    """
    assert outcomes.scores is not None
    values = []
    for metric in metrics:
        try:
            value = metric.score(outcomes)
        except ModynError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"metric {metric.plugin_name} raised {describe_error(error)} on labels int64 "
                f"{list(outcomes.labels.shape)} and scores float32 {list(outcomes.scores.shape)}"
            ) from error
        values.append(MetricValue(name=metric.result_name, value=value))
    return values


def made_up(labels: Int64Array, num_outputs: int) -> Outcomes:
    """Outcomes with these labels, int64 [n], and outputs that stand for those of an untrained model."""
    places = np.arange(len(labels) * num_outputs, dtype=np.float64).reshape(len(labels), num_outputs)
    scores: npt.NDArray[np.float32] = ((places * _STEP) % 1.0 - 0.5).astype(np.float32)
    predictions = scores.argmax(axis=1) if num_outputs > 1 else (scores[:, 0] > 0).astype(np.int64)
    return Outcomes(labels, predictions, scores)

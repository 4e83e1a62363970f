"""Labels of an evaluation as its metrics take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InternalError
from modyn.core.plugins.evaluation import Float64Array
from modyn.evaluator.request import Evaluation
from modyn.evaluator.samples import Samples, class_labels, number_labels
from modyn.proto.evaluator_pb2 import PredictedLabels


@dataclass(frozen=True, eq=False)
class Labels:
    """All labels of some samples, the newest and then the earlier ones: n in all.

    Attributes:
        classes: int64 [n]; None if no metric takes classes.
        numbers: float64 [n, k]; None if no metric takes numbers.
        failed: which of them are not known, int64, ascending; what stands for them means nothing.
        reason: why the first of these is not known.
    """

    classes: Int64Array | None
    numbers: Float64Array | None
    failed: Int64Array
    reason: str = ""

    @staticmethod
    def of_stored(samples: Samples, evaluation: Evaluation) -> Labels:
        """As they are stored.

        Raises:
            InvalidInputError: a metric cannot take labels of this type.
        """
        labels = samples.all_labels
        return Labels(
            class_labels(labels, evaluation.dataset) if evaluation.needs_classes else None,
            number_labels(labels, evaluation.dataset) if evaluation.needs_numbers else None,
            np.empty(0, dtype=np.int64),
        )

    @staticmethod
    def of_transformed(message: PredictedLabels | None, samples: Samples, evaluation: Evaluation) -> Labels:
        """What the label transformer made of them.

        Raises:
            InternalError: it is not one label for each.
        """
        message = message or PredictedLabels()
        numbers = np.frombuffer(message.numbers, "<f8").astype(np.float64, copy=False)
        labels = Labels(
            integers(message.classes) if evaluation.needs_classes else None,
            numbers.reshape(-1, max(message.width, 1)) if evaluation.needs_numbers else None,
            integers(message.failed),
            message.reason,
        )
        count = len(samples.all_labels)
        if any(values is not None and len(values) != count for values in (labels.classes, labels.numbers)):
            raise InternalError("the evaluation job did not answer one label for each sample")
        return labels

    def only(self, kept: npt.NDArray[np.bool_]) -> Labels:
        """Without the newest labels of samples that are not kept, bool [samples]."""
        count = max(len(values) for values in (self.classes, self.numbers) if values is not None)
        rows = np.concatenate([kept, np.ones(count - len(kept), dtype=np.bool_)])
        bad = np.zeros(len(rows), dtype=np.bool_)
        bad[self.failed] = True
        return Labels(
            None if self.classes is None else self.classes[rows],
            None if self.numbers is None else self.numbers[rows],
            np.flatnonzero(bad[rows]),
            self.reason,
        )


def integers(packed: bytes) -> Int64Array:
    """int64, little-endian, one after the other."""
    return np.frombuffer(packed, dtype="<i8").astype(np.int64, copy=False)

"""Evaluation: metrics over outcome columns, and strategies that lay windows over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.registry import Plugin, Registry

Float64Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Labelled samples of one window and what a model said of them.

    Attributes:
        labels: classes, int64 [n]; zeros where labels are numbers.
        predictions: predicted class, int64 [n] (arg max of the scores; sign for one output).
        scores: raw model outputs, float32 [n, outputs]; None unless a metric asked for them.
        targets: labels as numbers, float64 [n, k], for metrics whose ``labels_are`` numbers; else None.
    """

    labels: Int64Array
    predictions: Int64Array
    scores: npt.NDArray[np.float32] | None = None
    targets: Float64Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def probabilities(self) -> Float64Array:
        """Class probabilities, float64 [n, classes]: softmax of two or more outputs; of one output [1 - p, p] with its
        sigmoid p. Computed once for all metrics, so they cannot be written to.

        Raises:
            ValueError: there are no scores.
        """
        if self.scores is None:
            raise ValueError("probabilities need scores; the metric has to say so with needs_scores")
        exact = self.scores.astype(np.float64)
        if exact.shape[1] == 1:
            exact = np.concatenate([np.zeros_like(exact), exact], axis=1)
        exact -= exact.max(axis=1, keepdims=True)
        np.exp(exact, out=exact)
        exact /= exact.sum(axis=1, keepdims=True)
        exact.flags.writeable = False
        return exact


class Metric(Plugin, ABC):
    """A score of outcomes; never sees the model.

    Subclass this for a *holistic* metric, which needs all samples of a window at once (ROC-AUC), and
    :class:`DecomposableMetric` for one that follows from sums over samples (accuracy): those are computed once for all
    windows however they overlap.
    """

    labels_are: ClassVar[Literal["classes", "numbers"]] = "classes"
    """What it takes: classes (``Outcomes.labels``), or numbers (``Outcomes.targets``)."""

    greater_is_better: ClassVar[bool] = True
    """False for losses and errors. A comparison needs to know."""

    bounds: ClassVar[tuple[float, float] | None] = None
    """Smallest and largest possible value, such as (0, 1) of a share; None: any number."""

    @property
    def needs_scores(self) -> bool:
        """Whether predicted classes are not enough."""
        return False

    @property
    def user_code(self) -> str | None:
        """``module:attribute`` or inline Python that it runs, if any. Such a metric is scored in a job of its own."""
        return None

    @property
    @abstractmethod
    def result_name(self) -> str:
        """Name in reports, such as ``Top-5-Accuracy``, without ``[`` and ``#``; no two of a dataset may share it."""

    @abstractmethod
    def score(self, outcomes: Outcomes) -> float | None:
        """The value over at least one outcome, or None where the metric is undefined on them."""

    def score_classes(self, outcomes: Outcomes) -> dict[int, float | None]:
        """The value of each class, if the metric has them and was asked for them (``per_class``); else nothing."""
        return {}


class DecomposableMetric(Metric):
    """A metric that is a function of sums over samples (its *sufficient statistics*)."""

    is_mean: ClassVar[bool] = False
    """Whether it is the plain mean of something that each sample has on its own."""

    @abstractmethod
    def statistics(self, outcomes: Outcomes, edges: Int64Array) -> Float64Array:
        """Sums over stretches of samples.

        Args:
            outcomes: n of them.
            edges: ascending positions, int64 [s + 1], from 0 to n; stretch i is ``edges[i] … edges[i + 1] - 1``.

        Returns:
            float64 [s, k], zero for an empty stretch. What belongs to two disjoint stretches together is the sum of
            their rows.

        Raises:
            InvalidInputError: it cannot take these labels or outputs.
        """

    @abstractmethod
    def values(self, statistics: Float64Array) -> Float64Array:
        """The metric from statistics [..., k]: float64 [...], NaN where it is undefined."""

    def class_values(self, statistics: Float64Array) -> dict[int, float | None]:
        """The value of each class from the statistics [k] of a window; see :meth:`Metric.score_classes`."""
        return {}

    def score(self, outcomes: Outcomes) -> float | None:
        value = float(self.values(self._all(outcomes)))
        return None if np.isnan(value) else value

    def score_classes(self, outcomes: Outcomes) -> dict[int, float | None]:
        return self.class_values(self._all(outcomes))

    def _all(self, outcomes: Outcomes) -> Float64Array:
        row: Float64Array = self.statistics(outcomes, np.array([0, len(outcomes)], dtype=np.int64))[0]
        return row


@dataclass(frozen=True)
class Window:
    """An evaluation window [start, end), Unix seconds, and the moment it stands for.

    The currently active model is the one live at the anchor: the window's start, or a periodic window's centre.

    Attributes:
        trigger_index: the only trigger whose model the window is about; None: all of them.
        offset: how a window that belongs to one model lies to its training data, such as ``+1w``; else empty.
    """

    start: int
    end: int
    anchor: int
    trigger_index: int | None = None
    offset: str = ""

    @property
    def place(self) -> Window:
        """The window without what says whose it is."""
        return Window(self.start, self.end, self.anchor)


@dataclass(frozen=True)
class TrainedInterval:
    """The event-time span of the new data of one trigger, inclusive, and the largest timestamp so far."""

    trigger_index: int
    first_timestamp: int
    last_timestamp: int


@dataclass(frozen=True)
class WindowContext:
    """What a strategy may look at.

    Attributes:
        first_timestamp: smallest event time of the evaluation dataset.
        last_timestamp: largest event time (inclusive).
        triggers: trainings so far, in order.
    """

    first_timestamp: int
    last_timestamp: int
    triggers: Sequence[TrainedInterval] = ()


class WindowStrategy(Plugin, ABC):
    """Lays evaluation windows over a dataset."""

    belongs_to_models: ClassVar[bool] = False
    """Whether each window is about the model of one trigger (``Window.trigger_index``)."""

    @abstractmethod
    def windows(self, context: WindowContext) -> list[Window]:
        """Windows in time order, clipped to the data ([first_timestamp, last_timestamp + 1))."""


METRICS: Registry[Metric] = Registry(
    "metric",
    key="name",
    package="modyn.evaluator.metrics",
    group="modyn.metrics",
    own=("UserMetric", "function"),
)

WINDOW_STRATEGIES: Registry[WindowStrategy] = Registry(
    "evaluation strategy",
    key="type",
    package="modyn.evaluator.windows",
    group="modyn.window_strategies",
)

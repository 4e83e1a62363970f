"""Evaluation: metrics over outcome columns, and strategies that lay windows over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.registry import Plugin, Registry


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Labelled samples of one window and what a model said of them.

    Attributes:
        labels: int64 [n].
        predictions: predicted class, int64 [n] (arg max of the scores; sign for one output).
        scores: raw model outputs, float32 [n, outputs]; None unless a metric asked for them.
    """

    labels: Int64Array
    predictions: Int64Array
    scores: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Metric(Plugin, ABC):
    """A score of outcomes; never sees the model."""

    @property
    def needs_scores(self) -> bool:
        """Whether predicted classes are not enough."""
        return False

    @property
    @abstractmethod
    def result_name(self) -> str:
        """Name in reports, such as ``Top-5-Accuracy``; two metrics of one dataset must not share it."""

    @abstractmethod
    def score(self, outcomes: Outcomes) -> float | None:
        """The value over at least one outcome, or None where the metric is undefined on them."""


@dataclass(frozen=True)
class Window:
    """An evaluation window [start, end), Unix seconds, and the moment it stands for.

    The currently active model is the one live at the anchor: the window's start, or a periodic window's centre.
    """

    start: int
    end: int
    anchor: int


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

    @abstractmethod
    def windows(self, context: WindowContext) -> list[Window]:
        """Windows in time order, clipped to the data ([first_timestamp, last_timestamp + 1))."""


METRICS: Registry[Metric] = Registry("metric", key="name", package="modyn.evaluator.metrics", group="modyn.metrics")

WINDOW_STRATEGIES: Registry[WindowStrategy] = Registry(
    "evaluation strategy",
    key="type",
    package="modyn.evaluator.windows",
    group="modyn.window_strategies",
    planned=("BetweenTwoTriggersEvalStrategy", "OffsetEvalStrategy"),
)

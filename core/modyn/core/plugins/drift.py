"""Drift: the windows that are compared, two-sample metrics, criteria that turn what they measure into a decision, and
how the decisions of several metrics are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from modyn.core.arrow import Int64Array
from modyn.core.packed import EMPTY, Int64Column
from modyn.core.plugins.triggers import Features
from modyn.core.registry import Plugin, Registry

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TestResult:
    """A two-sample test.

    Attributes:
        statistic: what was measured; larger is more different.
        threshold: the statistic from which on the test rejects; None if it could not be made.
        p_value: in float64; None if the test could not be made.
        rejects: whether the windows differ at the stated false-alarm rate; False if it could not be made.
        note: why it could not be made, or how it was made (block length); may be empty.
    """

    __test__ = False  # no test class, whatever pytest thinks of its name

    statistic: float
    threshold: float | None
    p_value: float | None
    rejects: bool
    note: str = ""


@dataclass(frozen=True)
class Decision:
    """What a criterion says of a measurement.

    Attributes:
        decision: whether it speaks for a trigger.
        threshold: what the measurement was compared with; None if there was nothing to compare it with yet.
        note: for people; may be empty.
    """

    decision: bool
    threshold: float | None
    note: str = ""


class DecisionCriterion(Plugin, ABC):
    """Turns a stream of measurements into decisions.

    Its memory is the tuple of its last measurements; :attr:`memory` says how many it wants.
    """

    @property
    def memory(self) -> int:
        """How many earlier measurements it looks at."""
        return 0

    @property
    def needs_calibration(self) -> bool:
        """Whether it can decide nothing before it has seen some measurements."""
        return self.memory > 0

    @abstractmethod
    def decide(self, measured: float, earlier: tuple[float, ...], *, higher_is_worse: bool) -> Decision:
        """
        Args:
            measured: the new measurement.
            earlier: the last :attr:`memory` ones before it, oldest first; fewer in the beginning.
            higher_is_worse: True for distances, False for scores such as accuracy.
        """

    def judge(
        self,
        metric: DriftMetric,
        reference: Features,
        current: Features,
        *,
        earlier: tuple[float, ...],
        rng: np.random.Generator,
    ) -> TestResult:
        """What it says of two windows; by default a decision about their distance.

        Args:
            metric: the one it belongs to.
            reference, current: float32 [n, d] and [m, d], n, m >= 1, each in the order of time.
            earlier: as for :meth:`decide`.
            rng: for metrics that draw numbers.
        """
        distance = float(metric.distance(reference, current, rng))
        if not np.isfinite(distance):
            return TestResult(distance, None, None, rejects=False, note=f"the distance is {distance}")
        said = self.decide(distance, earlier, higher_is_worse=True)
        return TestResult(distance, said.threshold, None, said.decision, said.note)


DECISION_CRITERIA: Registry[DecisionCriterion] = Registry(
    "decision criterion", key="id", package="modyn.supervisor.drift.criteria", group="modyn.decision_criteria"
)


class DriftMetric(Plugin, ABC):
    """Compares a reference window with the current one."""

    decision_criterion: Annotated[DecisionCriterion, DECISION_CRITERIA.field()] = Field(
        description="When a distance counts as drift."
    )

    @abstractmethod
    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        """How different two windows are; larger is more different.

        Args:
            reference, current: float32 [n, d] and [m, d], n, m >= 1, each in the order of time.
            rng: for metrics that draw numbers.
        """

    @abstractmethod
    def test(
        self,
        reference: Features,
        current: Features,
        *,
        alpha: float,
        permutations: int,
        block_length: int | None,
        rng: np.random.Generator,
    ) -> TestResult:
        """Whether two windows differ, at a stated false-alarm rate that also holds on autocorrelated data.

        Args:
            reference, current: float32 [n, d] and [m, d], each in the order of time, ``current`` after ``reference``.
            alpha: false-alarm rate, 0 < alpha < 1.
            permutations: how many, where the test permutes.
            block_length: samples per block; None to choose it by the autocorrelation that the windows show.
            rng: source of permutations.
        """


DRIFT_METRICS: Registry[DriftMetric] = Registry(
    "drift metric", key="id", package="modyn.supervisor.drift.metrics", group="modyn.drift_metrics"
)


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a window in the order of arrival.

    Attributes:
        keys, timestamps: int64 [n]; event times in Unix seconds.
    """

    keys: Int64Array
    timestamps: Int64Array

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, which: slice | Int64Array) -> Samples:
        """Some of them, in the order asked for."""
        return Samples(self.keys[which], self.timestamps[which])

    def followed_by(self, others: Samples) -> Samples:
        """These, then others."""
        return Samples(np.concatenate((self.keys, others.keys)), np.concatenate((self.timestamps, others.timestamps)))


class Windows(BaseModel):
    """What a windowing strategy remembers; plain data.

    Attributes:
        reference_keys, reference_timestamps: the reference window, int64 [n].
        recent_keys, recent_timestamps: samples that are or may come into one of the windows, int64 [m].
        num_new: how many of the last recent ones have come since the last training.
        clock: largest event time seen, Unix seconds; None before the first sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_keys: Int64Column = EMPTY
    reference_timestamps: Int64Column = EMPTY
    recent_keys: Int64Column = EMPTY
    recent_timestamps: Int64Column = EMPTY
    num_new: int = 0
    clock: int | None = None

    @property
    def reference(self) -> Samples:
        return Samples(self.reference_keys, self.reference_timestamps)

    @property
    def recent(self) -> Samples:
        return Samples(self.recent_keys, self.recent_timestamps)


class WindowingStrategy(Plugin, ABC):
    """Says which samples are compared: a reference window, of samples that the model was trained on, and the current
    one.

    Without overlap a sample is in one of the windows: the current one starts anew after a training. What the current
    window has no room for any more waits in a reservoir, and joins the reference with it.
    """

    @abstractmethod
    def add(self, windows: Windows, samples: Samples) -> Windows:
        """The windows after some more samples."""

    @abstractmethod
    def after_training(self, windows: Windows) -> Windows:
        """The windows after a training on all that came before: what is new joins the reference."""

    @abstractmethod
    def current(self, windows: Windows) -> Samples:
        """The current window."""


WINDOWING_STRATEGIES: Registry[WindowingStrategy] = Registry(
    "windowing strategy", key="id", package="modyn.supervisor.drift.windows", group="modyn.windowing_strategies"
)


class AggregationStrategy(Plugin, ABC):
    """Turns the decisions of several metrics into one."""

    @abstractmethod
    def decide(self, votes: Sequence[bool]) -> bool:
        """Whether there is drift.

        Args:
            votes: one of every metric, n >= 1; a metric that could not be measured votes no.
        """

    def check(self, num_voters: int) -> None:
        """Whether it can ever say yes with so many voters.

        Raises:
            ValueError: it cannot.
        """


AGGREGATION_STRATEGIES: Registry[AggregationStrategy] = Registry(
    "aggregation strategy", key="id", package="modyn.supervisor.drift.aggregation", group="modyn.drift_aggregations"
)

"""A test at a stated false-alarm rate."""

from __future__ import annotations

from math import ceil
from typing import Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from modyn.core.plugins.drift import DECISION_CRITERIA, Decision, DecisionCriterion, DriftMetric, TestResult
from modyn.core.plugins.triggers import Features


@DECISION_CRITERIA.register("HypothesisTestCriterion")
class HypothesisTestCriterion(DecisionCriterion):
    """Asks the metric for a two-sample test: there is drift if p <= ``alpha``.

    A quiet stream is flagged in a share ``alpha`` of the evaluations, whatever the metric, the data and the size of the
    windows: there is no threshold to find, and no warm-up is needed. The rate holds for each metric by itself; with
    several metrics the aggregation changes it. Samples that resemble their neighbours are exchanged between the
    windows in blocks (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of
    Statistics 17(3), 1989), or every season would count as drift. Windows too short for the autocorrelation they show
    are reported as such and do not count as drift.

    >>> HypothesisTestCriterion().needs_calibration
    False
    """

    alpha: float = Field(0.05, gt=0, lt=1, description="Share of false alarms among evaluations of a quiet stream.")
    permutations: PositiveInt = Field(
        100, description="How often a permutation test permutes; at least `1 / alpha - 1`."
    )
    block_length: PositiveInt | None = Field(
        None,
        description="Neighbouring samples that stay together when permuting; by default chosen by the autocorrelation "
        "that the windows show.",
    )

    @model_validator(mode="after")
    def _check_permutations(self) -> Self:
        if self.alpha < 1 / (1 + self.permutations):
            raise ValueError(
                f"alpha {self.alpha:g} cannot be reached with {self.permutations} permutations: the smallest p is "
                f"1 / {1 + self.permutations}; expected at least {ceil(1 / self.alpha) - 1} permutations"
            )
        return self

    def decide(self, measured: float, earlier: tuple[float, ...], *, higher_is_worse: bool) -> Decision:
        return Decision(decision=False, threshold=None, note="a number alone cannot be tested; it needs both windows")

    def judge(
        self,
        metric: DriftMetric,
        reference: Features,
        current: Features,
        *,
        earlier: tuple[float, ...],
        rng: np.random.Generator,
    ) -> TestResult:
        return metric.test(
            reference,
            current,
            alpha=self.alpha,
            permutations=self.permutations,
            block_length=self.block_length,
            rng=rng,
        )

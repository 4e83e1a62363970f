"""A drift trigger over arrays, and metrics whose distances can be worked out by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from modyn.core.plugins.drift import DriftMetric, TestResult
from modyn.core.plugins.triggers import (
    Arrivals,
    Evaluation,
    Features,
    Firing,
    Observer,
    TrainingOutcome,
)
from modyn.supervisor.drift.criteria import (
    ThresholdDecisionCriterion,
)
from modyn.supervisor.triggers.drift import DataDriftTrigger


class Gap(DriftMetric):
    """Distance of the means; its test rejects from ``critical`` on."""

    critical: float = 1.0
    answers: list[tuple[Any, ...]] = Field(default_factory=list)

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        return float(np.abs(reference.mean(axis=0, dtype=float) - current.mean(axis=0, dtype=float)).max())

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
        statistic = self.distance(reference, current, rng)
        self.answers.append((alpha, permutations, block_length, float(rng.random()), len(reference), len(current)))
        rejects = statistic >= self.critical
        return TestResult(statistic, self.critical, 0.01 if rejects else 0.4, rejects, "blocks of 3")


class Broken(Gap):
    """Measures nothing that is a number."""

    def distance(self, reference: Features, current: Features, rng: np.random.Generator) -> float:
        return float("nan")


def above(threshold: float) -> Gap:
    return Gap(decision_criterion=ThresholdDecisionCriterion(threshold=threshold))


def run(
    trigger: DataDriftTrigger,
    times: list[int],
    observer: Observer,
    cuts: list[int] | None = None,
    through_json: bool = False,
) -> tuple[list[Firing], list[Evaluation], Any]:
    """All firings by their position in the stream, all evaluations (seconds 0), and the last state."""
    stream = Arrivals(np.arange(len(times)), np.array(times, dtype=np.int64))
    state, fired, evaluations = trigger.initial_state(), [], []
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts or ())})
    for first, end in itertools.pairwise(edges):
        start = first
        while True:
            step = trigger.next_firing(state, stream.slice(start, end), observer)
            state = step.state
            evaluations += [replace(evaluation, seconds=0.0) for evaluation in step.evaluations]
            if through_json:
                state = trigger.state_type.model_validate_json(state.model_dump_json())
            if step.firing is None:
                break
            start += step.firing.position
            fired.append(replace(step.firing, position=start))
            state = trigger.after_training(state, TrainingOutcome(len(fired), f"model {len(fired)}", 1, 1.0))
    return fired, evaluations, state


def shifting(count: int, at: int, by: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise in two columns whose mean moves at some sample, float32 [n, 2]."""
    rows = np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)
    rows[at:] += by
    return rows

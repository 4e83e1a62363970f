"""Weighted samples whose gradients add up to that of the whole training set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from pydantic import Field

from modyn.core.apportion import proportional_budgets
from modyn.core.arrow import Int64Array
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice
from modyn.core.pps import uniform_sample
from modyn.trainer_server.downsampling.gradients import GradientStrategy, gradient_features, mean_one, merged, per_class
from modyn.trainer_server.greedy.calibration import calibrated
from modyn.trainer_server.greedy.features import Features
from modyn.trainer_server.greedy.matching_pursuit import matching_pursuit

MOST = 500
"""Samples that are matched together; the cost grows with the cube of their number."""


@DOWNSAMPLING_STRATEGIES.register("GradMatch")
class GradMatch(GradientStrategy):
    """Choose samples, and weights, whose weighted gradients add up to the mean gradient of all.

    Non-negative orthogonal matching pursuit of the mean (Killamsetty, Sivasubramanian, Ramakrishnan, De and Iyer,
    "GRAD-MATCH: gradient matching based data subset selection for efficient deep model training", ICML 2021), without
    their penalty on the weights: against the mean of gradients it would decide everything. Weights are at least 0
    and 1 on average, so the weighted mean gradient has the direction of the mean of all.

    As many samples as the gradients have dimensions match the mean exactly, with outputs alone fewer than there are
    classes. What the budget has beyond that is drawn uniformly from the others, and all weights are then as even as
    the same match allows (Deville and Särndal, "Calibration estimators in survey sampling", Journal of the American
    Statistical Association 1992): drawn samples count for as much as they can, and the match stays exact. If the mean
    gradient is 0, everything is drawn and all weights are 1.

    Budgets above 500 are split: the samples are dealt into equal parts at random, and each part is matched with its
    share of the budget.

    >>> gradients = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(4, dtype=np.int64), gradients=gradients)
    >>> choice = GradMatch(ratio=50).choose(candidates, 2, np.random.default_rng(0))
    >>> choice.positions.tolist(), choice.weights.tolist()
    ([0, 2], [1.0, 1.0])
    """

    balance: bool = Field(
        False,
        description="Match the mean of each class with samples of it, in proportion to their number, rather than that "
        "of all.",
    )

    def choose(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        """``size`` of the candidates.

        Raises:
            InvalidInputError: a gradient or embedding is missing, infinite or not a number.
        """
        features = gradient_features(candidates, self.full_grad_approximation)
        everyone = (np.arange(len(candidates)), size)
        groups = per_class(candidates, size, random) if self.balance else [everyone]
        choice = merged([_matched(features.take(part), part, most, random) for part, most in _parts(groups, random)])
        return choice if choice.weights is None else Choice(choice.positions, mean_one(choice.weights))


def _parts(groups: Iterable[tuple[Int64Array, int]], random: np.random.Generator) -> Iterator[tuple[Int64Array, int]]:
    """Groups of positions and their budgets, the large ones dealt into parts; without those that get nothing."""
    for positions, budget in groups:
        if budget <= MOST:
            parts = [positions]
        else:
            shuffled = random.permutation(positions)
            parts = [np.sort(part) for part in np.array_split(shuffled, -(-budget // MOST))]
        budgets = proportional_budgets(np.array([len(part) for part in parts]), budget, random)
        yield from ((part, int(share)) for part, share in zip(parts, budgets, strict=True) if share)


def _matched(features: Features, positions: Int64Array, size: int, random: np.random.Generator) -> Choice:
    """``size`` > 0 of some samples, with weights by which their gradients add up to the sum of all of theirs."""
    if size == len(positions):
        return Choice(positions, np.ones(size, dtype=np.float32))
    fit = matching_pursuit(features, size)
    matched = len(fit.positions)
    others = np.setdiff1d(np.arange(len(positions)), fit.positions)
    chosen = np.concatenate((fit.positions, others[uniform_sample(len(others), size - matched, random)]))
    weights = np.zeros(size)
    weights[:matched] = size * fit.weights
    if matched == 0:
        weights[:] = 1
    elif matched < size:
        weights = calibrated(features.take(chosen), weights)
    order = np.argsort(chosen)
    return Choice(positions[chosen[order]], (weights[order] * (len(positions) / size)).astype(np.float32))

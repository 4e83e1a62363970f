"""Non-negative orthogonal matching pursuit: few vectors whose weighted sum is the mean of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.cholesky import GrowingCholesky
from modyn.trainer_server.greedy.features import Features, Float64Array

EXACT = 1e-6
"""A residual of this share of the target's norm counts as none; vectors are exact to 6e-8."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A weighted sum of some of n vectors that comes close to a target.

    Attributes:
        positions: of the vectors, in no order, int64 [k]; none twice.
        weights: float64 [k], above 0.
        residual: norm of what is left of the target.
    """

    positions: Int64Array
    weights: Float64Array
    residual: float


def matching_pursuit(features: Features, size: int, ridge: float = 0.0) -> Fit:
    """At most ``size`` vectors, and weights, whose weighted sum comes close to the mean of all n.

    Orthogonal matching pursuit adds the vector whose inner product with what is left of the target is the largest, and
    then fits all weights anew (Pati, Rezaiifar and Krishnaprasad, "Orthogonal matching pursuit", Asilomar 1993);
    non-negative, the weights are those of non-negative least squares (Bruckstein, Elad and Zibulevsky, "On the
    uniqueness of nonnegative sparse solutions to underdetermined systems of equations", IEEE Transactions on
    Information Theory 2008), found with the active set of the step before (Lawson and Hanson, "Solving least squares
    problems", 1974). A vector whose weight becomes 0 leaves and does not count against ``size``.

    As the mean is a sum of all vectors with weights of 1/n, as many of them as they have dimensions fit it exactly
    (Carathéodory's theorem); fewer than ``size`` come out if a fit is exact earlier. The target is the mean of the
    given vectors, whatever their number, so no batch size enters.

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> fit = matching_pursuit(DenseFeatures(np.eye(2, 3, dtype=np.float32)), 2)
    >>> fit.positions.tolist(), fit.weights.tolist()
    ([0, 1], [0.5, 0.5])

    Args:
        features: n vectors, finite.
        size: at least 0.
        ridge: penalty on the squared weights, as a multiple of the mean squared norm of the vectors; with more
            than 0 the fit is not exact.
    """
    pursuit = _Pursuit(features, ridge)
    while len(pursuit.active) < size and pursuit.step():
        pass
    return Fit(np.array(pursuit.active, dtype=np.int64), pursuit.weights, pursuit.norm)


class _Pursuit:
    """The state between two steps.

    Attributes:
        active: positions of the vectors with weight, as they came.
        weights: of these, float64 [p].
        norm: of the residual.
    """

    def __init__(self, features: Features, ridge: float) -> None:
        self._features = features
        self._lengths = np.sqrt(features.squared_norms())
        self._ridge = ridge * float(np.mean(self._lengths**2)) if len(features) else 0.0
        self._target = features.mean() if len(features) else np.zeros(features.dimension)
        self._length = float(np.linalg.norm(self._target))
        self._residual = self._target
        self._cholesky = GrowingCholesky()
        self._products: list[float] = []  # of the active vectors with the target
        self._dropped: set[int] = set()
        self._useless: set[int] = set()  # until a step succeeds
        self.active: list[int] = []
        self.weights = np.zeros(0)
        self.norm = self._length

    def step(self) -> bool:
        """Adds the vector that promises most and fits the weights; False if nothing is left to gain."""
        while self.norm > EXACT * self._length:
            position = self._next()
            if position is None:
                return False
            before = self._objective()
            if self._add(position) and self._refit():
                self._useless.clear()
                return self._objective() < before  # not so only where all that is left is rounding
            self._useless.add(position)
        return False

    def _objective(self) -> float:
        return self.norm**2 + self._ridge * float(self.weights @ self.weights)

    def _next(self) -> int | None:
        """The vector along the residual, None if there is none; first those that were dropped, as a refit of all
        vectors chosen so far would take them back."""
        along = self._features.dot(self._residual / self.norm)
        along[self.active + list(self._useless)] = -np.inf
        useful = along > EXACT * self._lengths
        back = [position for position in self._dropped if useful[position]]
        if back:
            return max(back, key=lambda position: (along[position], -position))
        best = int(along.argmax())
        return best if useful[best] else None

    def _add(self, position: int) -> bool:
        products = self._features.products(np.array([*self.active, position]), position)
        if not self._cholesky.append(products[:-1], float(products[-1]) + self._ridge):
            return False
        vector = self._features.combine(np.array([position]), np.ones(1))
        self._products.append(float(vector @ self._target))
        self.active.append(position)
        self.weights = np.append(self.weights, 0.0)
        return True

    def _refit(self) -> bool:
        """Weights of non-negative least squares; vectors whose weight becomes 0 leave. False: the last one is of no
        use and has left."""
        last = self.active[-1]
        while True:
            fitted = self._cholesky.solve(np.array(self._products))
            wrong = np.flatnonzero(fitted <= 0)
            if not len(wrong):
                break
            if fitted[-1] <= 0 and self.active[-1] == last:
                self._drop([len(self.active) - 1])
                continue
            ways = self.weights[wrong] / (self.weights[wrong] - fitted[wrong])
            self.weights += ways.min() * (fitted - self.weights)
            self._drop(sorted(wrong[ways == ways.min()].tolist(), reverse=True))
        self.weights = fitted
        self._residual = self._target - self._features.combine(np.array(self.active, dtype=np.int64), fitted)
        self.norm = float(np.linalg.norm(self._residual))
        return self.active[-1:] == [last]

    def _drop(self, indices: list[int]) -> None:
        """Takes vectors out, the last one first."""
        for index in indices:
            self._cholesky.remove(index)
            self._dropped.add(self.active.pop(index))
            del self._products[index]
        self.weights = np.delete(self.weights, indices)

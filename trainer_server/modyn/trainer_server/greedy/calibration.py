"""Weights as even as a fit allows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.trainer_server.greedy.features import Features, Float64Array

RANK = 1e-11
"""Directions with less than this share of the largest squared length are rounding."""

STEPS = 60
TOLERANCE = 1e-7
"""As exact as the vectors; the dual objective, in double precision, cannot tell much less apart."""

RIDGE = 1e-9
"""Keeps a Newton step finite where few weights are above 0."""


def calibrated(features: Features, weights: Float64Array) -> Float64Array:
    """The weights with the same weighted sum of the vectors that differ least from 1, and are not below 0.

    They minimise the sum of (w - 1)² under these conditions, which survey statistics calls calibration (Deville and
    Särndal, "Calibration estimators in survey sampling", Journal of the American Statistical Association 1992). The
    solution is max(0, 1 + Xy) for the y that solves the dual problem, which takes a few Newton steps.

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> same = DenseFeatures(np.ones((4, 1), dtype=np.float32))
    >>> calibrated(same, np.array([4.0, 0.0, 0.0, 0.0])).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]

    Args:
        features: k vectors.
        weights: with the weighted sum to keep, float64 [k], at least 0.

    Returns:
        float64 [k], at least 0; the given ones if rounding keeps the search from its end.
    """
    basis = _basis(features)
    if not basis.shape[1]:
        return np.ones(len(weights))
    target = basis.T @ weights
    dual = target - basis.sum(axis=0)  # the solution, if nothing is below 0
    found = _even(basis, dual)
    gradient = basis.T @ found - target
    enough = TOLERANCE * (float(np.linalg.norm(target)) + np.sqrt(len(weights)))
    for _ in range(STEPS):
        if float(np.linalg.norm(gradient)) <= enough:
            return found
        active = basis[found > 0]
        curvature = active.T @ active
        curvature[np.diag_indices_from(curvature)] += RIDGE
        step = np.linalg.solve(curvature, gradient).astype(np.float64, copy=False)
        dual, found = _descended(basis, target, dual, step, float(gradient @ step))
        gradient = basis.T @ found - target
    return weights


def _descended(
    basis: Float64Array, target: Float64Array, dual: Float64Array, step: Float64Array, slope: float
) -> tuple[Float64Array, Float64Array]:
    """The dual variables after a step that is as long as the dual objective allows, and the weights for them."""
    before = _objective(_even(basis, dual), target, dual)
    length = 1.0
    while True:
        moved = dual - length * step
        found = _even(basis, moved)
        if _objective(found, target, moved) <= before - 1e-4 * length * slope or length < 1e-12:
            return moved, found
        length /= 2


def _even(basis: Float64Array, dual: Float64Array) -> Float64Array:
    weights: Float64Array = np.maximum(0, 1 + basis @ dual)
    return weights


def _objective(found: Float64Array, target: Float64Array, dual: Float64Array) -> float:
    return float(found @ found) / 2 - float(target @ dual)


def _basis(features: Features) -> Float64Array:
    """Orthonormal columns that span those of the vectors, float64 [k, rank]."""
    if features.dimension > len(features):
        everyone = slice(None)
        gram = np.array([features.products(everyone, position) for position in range(len(features))])
        squares, basis = np.linalg.eigh(gram)
        return basis[:, _kept(squares)]
    columns = features.dense().astype(np.float64)
    squares, directions = np.linalg.eigh(columns.T @ columns)
    kept = _kept(squares)
    spanning: Float64Array = columns @ (directions[:, kept] / np.sqrt(squares[kept]))
    return spanning


def _kept(squares: Float64Array) -> npt.NDArray[np.bool_]:
    kept: npt.NDArray[np.bool_] = squares > RANK * max(squares[-1], np.finfo(np.float64).tiny)
    return kept

"""Greedy log-determinant: samples that differ from each other as much as can be."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import Float64Array
from modyn.trainer_server.greedy.similarity import CosineSimilarity, Similarity

RIDGE = 1e-3
"""Added to the diagonal: how different a sample is from its duplicate. Well above the rounding of float32."""

_TIE = 1e-6


def log_determinant(similarity: Similarity, size: int, ridge: float = RIDGE) -> Int64Array:
    """Greedily maximises ``f(S) = log det(K_S + ridge I)``, K the similarities, as of a determinantal point process.

    Chen, Zhang, Zhou: "Fast greedy MAP inference for determinantal point process to improve recommendation
    diversity", NeurIPS 2018. The gain of a sample is the logarithm of its variance given those chosen, a sample of a
    Gaussian process with covariance K and noise ``ridge``; each step takes the largest variance (of those that agree
    to 1e-6 the lowest position), and a column of the Cholesky factor off the variances: n k² multiplications and
    8 n k bytes. Cosine similarities are inner products of vectors of some dimension d, so that for k > d the
    same comes from the covariance [d, d] of the weights of a linear model, in k n d multiplications and O(n + d²)
    bytes. A duplicate of a chosen sample has the variance 2 ridge or less, and so a gain about log(2 ridge).

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> angles = np.radians([0, 1, 89, 90])
    >>> vectors = np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    >>> log_determinant(CosineSimilarity(DenseFeatures(vectors)), 2).tolist()
    [0, 3]

    Args:
        similarity: of n samples; positive semidefinite.
        size: how many to choose; more than n: all.
        ridge: more than 0.

    Returns:
        positions in the order in which they were chosen, int64 [min(size, n)].
    """
    variances = similarity.diagonal() + ridge
    chosen = np.empty(min(size, len(similarity)), dtype=np.int64)
    posterior: _Weights | _Cholesky
    if isinstance(similarity, CosineSimilarity) and similarity.dimension < len(chosen):
        posterior = _Weights(similarity, ridge)
    else:
        posterior = _Cholesky(similarity, len(chosen))
    for step in range(len(chosen)):
        pick = int(np.argmax(variances >= variances.max() - _TIE))
        chosen[step] = pick
        factor = posterior.factor(pick, variances[pick])
        variances -= factor * factor
        np.maximum(variances, ridge, out=variances)  # rounding
        variances[chosen[: step + 1]] = -np.inf
    return chosen


class _Cholesky:
    """Columns of the Cholesky factor of the chosen, continued to all samples."""

    def __init__(self, similarity: Similarity, steps: int) -> None:
        self._similarity = similarity
        self._columns = np.empty((steps, len(similarity)))
        self._steps = 0

    def factor(self, pick: int, variance: float) -> Float64Array:
        """Covariances with the next one given those before, over its standard deviation; float64 [n]."""
        before = self._columns[: self._steps]
        column: Float64Array = self._columns[self._steps]
        column[:] = self._similarity.rows(np.array([pick]))[0]
        column -= before[:, pick] @ before
        column /= np.sqrt(variance)
        self._steps += 1
        return column


class _Weights:
    """Covariance of the weights of the linear model whose values have the similarities as covariance."""

    def __init__(self, similarity: CosineSimilarity, ridge: float) -> None:
        self._similarity = similarity
        self._ridge = ridge
        self._covariance = np.eye(similarity.dimension)

    def factor(self, pick: int, variance: float) -> Float64Array:
        """Covariances with the next one given those before, over its standard deviation; float64 [n]."""
        vector = self._similarity.vector(pick)
        weights = self._covariance @ vector
        weights /= np.sqrt(vector @ weights + self._ridge)
        self._covariance -= np.outer(weights, weights)
        factor: Float64Array = self._similarity.dot(weights)
        return factor

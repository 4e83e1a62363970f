"""Vectors of n samples that greedy algorithms compare, held in the form that is cheapest to compare."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Rows = slice | Int64Array
"""Which of them."""


class Features(ABC):
    """n vectors of dimension D."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D."""

    @property
    def multiplications(self) -> int:
        """How many an inner product takes."""
        return self.dimension

    @abstractmethod
    def gram(self, rows: Rows, columns: Rows) -> Float32Array:
        """Inner products of some with others, float32 [rows, columns]."""

    @abstractmethod
    def squared_norms(self) -> Float64Array:
        """float64 [n]."""

    @abstractmethod
    def take(self, positions: Int64Array) -> Features:
        """Some of them."""

    @abstractmethod
    def scaled(self, factors: Float64Array) -> Features:
        """Each times its factor, float64 [n]."""

    @abstractmethod
    def dense(self, rows: Rows = slice(None)) -> Float32Array:
        """float32 [rows, D]."""

    @abstractmethod
    def mean(self) -> Float64Array:
        """float64 [D]."""

    @abstractmethod
    def dot(self, vector: Float64Array) -> Float64Array:
        """Inner product of each with one vector [D], float64 [n]; as exact as float32."""

    @abstractmethod
    def combine(self, rows: Rows, weights: Float64Array) -> Float64Array:
        """Weighted sum of some, float64 [D]."""

    @abstractmethod
    def products(self, rows: Rows, position: int) -> Float64Array:
        """Inner products of some with one of them, in double precision, float64 [rows]."""


class DenseFeatures(Features):
    """A matrix, float32 [n, D]."""

    def __init__(self, matrix: Float32Array) -> None:
        self._matrix = np.ascontiguousarray(matrix, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._matrix)

    @property
    def dimension(self) -> int:
        return int(self._matrix.shape[1])

    def gram(self, rows: Rows, columns: Rows) -> Float32Array:
        product: Float32Array = self._matrix[rows] @ self._matrix[columns].T
        return product

    def squared_norms(self) -> Float64Array:
        norms: Float64Array = np.einsum("nd,nd->n", self._matrix, self._matrix, dtype=np.float64)
        return norms

    def take(self, positions: Int64Array) -> DenseFeatures:
        return DenseFeatures(self._matrix[positions])

    def scaled(self, factors: Float64Array) -> DenseFeatures:
        return DenseFeatures((self._matrix * factors[:, None]).astype(np.float32))

    def dense(self, rows: Rows = slice(None)) -> Float32Array:
        return self._matrix[rows]

    def mean(self) -> Float64Array:
        average: Float64Array = self._matrix.mean(axis=0, dtype=np.float64)
        return average

    def dot(self, vector: Float64Array) -> Float64Array:
        return (self._matrix @ vector.astype(np.float32)).astype(np.float64)

    def combine(self, rows: Rows, weights: Float64Array) -> Float64Array:
        total: Float64Array = weights @ self._matrix[rows]
        return total

    def products(self, rows: Rows, position: int) -> Float64Array:
        product: Float64Array = self._matrix[rows] @ self._matrix[position].astype(np.float64)
        return product


class LayerGradients(Features):
    """Gradients of a linear layer's bias and weights, one per sample, never written out.

    With the gradient r [C] of a sample's loss with respect to the layer's outputs and its input e [d], the gradient
    of the weights is the outer product r e^T and that of the bias is r; so the inner product of two of them is
    ``(r·s) (1 + e·f)``.

    Args:
        residuals: r, float32 [n, C].
        embeddings: e, float32 [n, d].
    """

    def __init__(self, residuals: Float32Array, embeddings: Float32Array) -> None:
        self._residuals = np.ascontiguousarray(residuals, dtype=np.float32)
        self._embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._residuals)

    @property
    def dimension(self) -> int:
        return int(self._residuals.shape[1] * (1 + self._embeddings.shape[1]))

    @property
    def multiplications(self) -> int:
        return int(self._residuals.shape[1] + self._embeddings.shape[1])

    def gram(self, rows: Rows, columns: Rows) -> Float32Array:
        product: Float32Array = self._embeddings[rows] @ self._embeddings[columns].T
        product += 1
        product *= self._residuals[rows] @ self._residuals[columns].T
        return product

    def squared_norms(self) -> Float64Array:
        residuals = np.einsum("nc,nc->n", self._residuals, self._residuals, dtype=np.float64)
        embeddings = np.einsum("nd,nd->n", self._embeddings, self._embeddings, dtype=np.float64)
        norms: Float64Array = residuals * (1 + embeddings)
        return norms

    def take(self, positions: Int64Array) -> LayerGradients:
        return LayerGradients(self._residuals[positions], self._embeddings[positions])

    def scaled(self, factors: Float64Array) -> LayerGradients:
        return LayerGradients((self._residuals * factors[:, None]).astype(np.float32), self._embeddings)

    def dense(self, rows: Rows = slice(None)) -> Float32Array:
        residuals = self._residuals[rows]
        outer = residuals[:, :, None] * self._embeddings[rows][:, None, :]
        return np.concatenate((residuals, outer.reshape(len(residuals), -1)), axis=1)

    def mean(self) -> Float64Array:
        residuals, embeddings = self._residuals.astype(np.float64), self._embeddings.astype(np.float64)
        outer = residuals.T @ embeddings
        return np.concatenate((residuals.sum(axis=0), outer.ravel())) / len(self)

    def dot(self, vector: Float64Array) -> Float64Array:
        outputs = self._residuals.shape[1]
        bias, weights = vector[:outputs], vector[outputs:].reshape(outputs, -1)
        per_output = self._embeddings @ weights.T.astype(np.float32)
        per_output += bias.astype(np.float32)
        product: Float64Array = np.einsum("nc,nc->n", self._residuals, per_output).astype(np.float64)
        return product

    def combine(self, rows: Rows, weights: Float64Array) -> Float64Array:
        residuals = weights[:, None] * self._residuals[rows]
        outer = residuals.T @ self._embeddings[rows].astype(np.float64)
        return np.concatenate((residuals.sum(axis=0), outer.ravel()))

    def products(self, rows: Rows, position: int) -> Float64Array:
        product: Float64Array = self._embeddings[rows] @ self._embeddings[position].astype(np.float64)
        product += 1
        product *= self._residuals[rows] @ self._residuals[position].astype(np.float64)
        return product

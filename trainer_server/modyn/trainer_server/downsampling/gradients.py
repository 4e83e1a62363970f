"""What strategies that compare the gradients of samples share; those that choose per class, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from modyn.core.apportion import proportional_budgets
from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import Candidates, Choice, Float32Array, Score, ScoringStrategy
from modyn.trainer_server.greedy.features import DenseFeatures, Features, LayerGradients

FullGradApproximation = Literal["LastLayer", "LastLayerWithEmbedding"]

Greedy = Literal["NaiveGreedy", "LazyGreedy", "StochasticGreedy", "ApproximateLazyGreedy"]
GREEDY_TEXT = (
    "Published names of greedy algorithms. All are answered by the exact greedy choice, that of NaiveGreedy and "
    "LazyGreedy, as here it takes less time than the two that approximate it."
)
SELECTION_BATCH = {"selection_batch": "each step looks at the gains of all samples"}
"""A published key of greedy strategies without effect, and why."""


class GradientStrategy(ScoringStrategy):
    """Base of the strategies that compare gradients of samples."""

    full_grad_approximation: FullGradApproximation = Field(
        "LastLayer",
        description=(
            "What stands for the gradient of a sample: that of its loss with respect to the model's outputs "
            "(LastLayer), or with respect to the weights and bias of the last linear layer (LastLayerWithEmbedding)."
        ),
    )

    @property
    def needs(self) -> tuple[Score, ...]:
        if self.full_grad_approximation == "LastLayer":
            return (Score.GRADIENTS,)
        return (Score.GRADIENTS, Score.EMBEDDINGS)


def gradient_features(candidates: Candidates, full_grad_approximation: FullGradApproximation) -> Features:
    """Gradients of n candidates as vectors.

    Raises:
        InvalidInputError: a gradient or embedding is missing, infinite or not a number.
    """
    gradients = finite_scores(candidates.gradients, Score.GRADIENTS)
    if full_grad_approximation == "LastLayer":
        return DenseFeatures(gradients)
    return LayerGradients(gradients, finite_scores(candidates.embeddings, Score.EMBEDDINGS))


def finite_scores(column: Float32Array | None, score: Score) -> Float32Array:
    """Vectors of the candidates, float32 [n, d].

    Raises:
        InvalidInputError: there are none, or one is infinite or not a number.
    """
    if column is None:
        raise InvalidInputError(f"{score.value} of the candidates are missing; expected one row per sample")
    finite = np.isfinite(column).all(axis=1)
    if not finite.all():
        wrong = int(np.argmin(finite))
        raise InvalidInputError(
            f"{score.value} of {np.count_nonzero(~finite)} of {len(column)} samples are infinite or not a number "
            f"(first: candidate {wrong}); expected finite numbers: has the training diverged?"
        )
    return column


def per_class(
    candidates: Candidates, size: int, random: np.random.Generator | None = None
) -> Iterator[tuple[Int64Array, int]]:
    """Budgets of the classes, in proportion to their samples and adding up to ``size``.

    >>> list(per_class(Candidates(np.array([7, 3, 7, 7])), 3))
    [(array([1]), 1), (array([0, 2, 3]), 2)]

    Args:
        candidates: n samples.
        size: how many to choose of all, 0 <= size <= n.
        random: decides between classes with equal claims to one more, so that no class is left out for ever; None:
            the lowest.

    Yields:
        for each class, lowest first: positions of its samples, ascending, int64 [n_c]; how many to choose of them,
        which can be 0.
    """
    _, counts = np.unique(candidates.classes, return_counts=True)
    budgets = proportional_budgets(counts, size, random)
    order = np.argsort(candidates.classes, kind="stable").astype(np.int64, copy=False)
    ends = np.cumsum(counts)
    for end, count, budget in zip(ends, counts, budgets, strict=True):
        yield order[end - count : end], int(budget)


def merged(choices: Sequence[Choice]) -> Choice:
    """Choices among different candidates as one; weights all or none.

    >>> merged([Choice(np.array([4])), Choice(np.array([1, 3]))]).positions
    array([1, 3, 4])
    """
    if not choices:
        return Choice(np.empty(0, dtype=np.int64))
    positions = np.concatenate([choice.positions for choice in choices])
    order = np.argsort(positions, kind="stable")
    weights = [choice.weights for choice in choices if choice.weights is not None]
    return Choice(positions[order], np.concatenate(weights)[order] if weights else None)


def mean_one(weights: Float32Array) -> Float32Array:
    """Weights rescaled to 1 on average, float32 [k]; their sum is positive unless there are none."""
    if not len(weights):
        return weights.astype(np.float32)
    rescaled: Float32Array = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
    return rescaled

"""Graph cut and log-determinant: equal to the naive algorithm, better than random, defined on duplicates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import DenseFeatures, Float32Array, LayerGradients
from modyn.trainer_server.greedy.graph_cut import graph_cut
from modyn.trainer_server.greedy.log_determinant import RIDGE, log_determinant
from modyn.trainer_server.greedy.similarity import CosineSimilarity, HeldSimilarity

Matrix = npt.NDArray[np.float64]
Function = Callable[[Matrix, list[int]], float]


def cut(matrix: Matrix, chosen: list[int], representation: float = 1.0) -> float:
    return float(representation * matrix[:, chosen].sum() - matrix[np.ix_(chosen, chosen)].sum())


def log_det(matrix: Matrix, chosen: list[int]) -> float:
    sign, logarithm = np.linalg.slogdet(matrix[np.ix_(chosen, chosen)] + RIDGE * np.eye(len(chosen)))
    assert sign > 0
    return float(logarithm)


def naive(matrix: Matrix, size: int, function: Function) -> list[int]:
    """The whole function for every candidate at every step; the lowest of equal ones."""
    chosen: list[int] = []
    for _ in range(size):
        values = np.array([-np.inf if j in chosen else function(matrix, [*chosen, j]) for j in range(len(matrix))])
        tolerance = 1e-9 * max(1.0, abs(values.max()))
        chosen.append(int(np.argmax(values >= values.max() - tolerance)))
    return chosen


def vectors_of(n: int, dimension: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)


def matrix_of(similarity: CosineSimilarity) -> Matrix:
    return similarity.rows(slice(None)).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 20), levels=st.integers(0, 30), share=st.floats(0, 1), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("representation", [0.5, 1.0, 2.0])
def test_graph_cut_is_the_naive_sequence(representation: float, n: int, levels: int, share: float, seed: int) -> None:
    matrix = np.random.default_rng(seed).integers(0, levels + 1, size=(n, n)) / 8
    matrix = np.maximum(matrix, matrix.T)
    size = int(share * n)
    chosen = graph_cut(HeldSimilarity(matrix.astype(np.float32)), size, representation)
    assert chosen.tolist() == naive(matrix, size, lambda m, s: cut(m, s, representation))


def test_graph_cut_is_monotone_from_two_on() -> None:
    similarity = CosineSimilarity(DenseFeatures(vectors_of(40, 3)))
    matrix = matrix_of(similarity)
    chosen = graph_cut(similarity, 40, 2.0).tolist()
    values = [cut(matrix, chosen[:k], 2.0) for k in range(41)]
    assert (np.diff(values) > -1e-5).all()
    chosen = graph_cut(similarity, 40, 1.0).tolist()
    assert cut(matrix, chosen) < cut(matrix, chosen[:20])


@pytest.mark.parametrize("dimension", [30, 4])
def test_log_determinant_is_the_naive_sequence(dimension: int) -> None:
    """Below and above the number of samples that are chosen: by Cholesky columns, and by weights."""
    similarity = CosineSimilarity(DenseFeatures(vectors_of(25, dimension)))
    matrix = matrix_of(similarity)
    assert log_determinant(similarity, 10).tolist()[1:] == _after_first(similarity, matrix, 10)


def _after_first(similarity: CosineSimilarity, matrix: Matrix, size: int) -> list[int]:
    exact = matrix.copy()
    np.fill_diagonal(exact, similarity.diagonal())
    expected = naive(exact, size, log_det)
    assert expected[0] == 0  # all variances are 1 at first
    return expected[1:]


def test_log_determinant_by_weights_is_that_by_columns() -> None:
    for features in (
        DenseFeatures(vectors_of(300, 6)),
        LayerGradients(vectors_of(300, 3, seed=1), vectors_of(300, 4, seed=2)),
    ):
        similarity = CosineSimilarity(features)
        columns = log_determinant(HeldSimilarity(similarity.rows(slice(None))), 60).tolist()
        weights = log_determinant(similarity, 60).tolist()
        matrix = matrix_of(similarity)
        assert columns[: similarity.dimension] == weights[: similarity.dimension]
        assert log_det(matrix, weights) == pytest.approx(log_det(matrix, columns), abs=1e-2)


@pytest.mark.parametrize("dimension", [5, 60])
def test_log_determinant_beats_random_by_far(dimension: int) -> None:
    """A gain with the wrong sign does worse than random."""
    similarity = CosineSimilarity(DenseFeatures(vectors_of(200, dimension)))
    matrix = matrix_of(similarity)
    random = [log_det(matrix, np.random.default_rng(i).permutation(200)[:30].tolist()) for i in range(50)]
    assert log_det(matrix, log_determinant(similarity, 30).tolist()) > max(random)


def test_graph_cut_beats_random() -> None:
    similarity = CosineSimilarity(DenseFeatures(vectors_of(200, 5)))
    matrix = matrix_of(similarity)
    random = [cut(matrix, np.random.default_rng(i).permutation(200)[:30].tolist()) for i in range(50)]
    assert cut(matrix, graph_cut(similarity, 30).tolist()) > max(random)


@pytest.mark.parametrize("dimension", [3, 40])
def test_duplicates_gain_the_logarithm_of_the_ridge(dimension: int) -> None:
    distinct = vectors_of(5, dimension)
    similarity = CosineSimilarity(DenseFeatures(np.repeat(distinct, 2, axis=0)))
    chosen = log_determinant(similarity, 6 if dimension > 5 else 3).tolist()
    if dimension > 5:
        assert sorted(chosen[:5]) == [0, 2, 4, 6, 8]
        exact = matrix_of(similarity)
        gain = log_det(exact, chosen) - log_det(exact, chosen[:5])
        assert gain == pytest.approx(np.log(2 * RIDGE), abs=0.01)
    else:
        assert len({position // 2 for position in chosen}) == 3


Maximise = Callable[[CosineSimilarity, int], Int64Array]


@pytest.mark.parametrize("maximise", [graph_cut, log_determinant])
def test_degenerate_samples(maximise: Maximise) -> None:
    zeros = CosineSimilarity(DenseFeatures(np.zeros((9, 2), dtype=np.float32)))
    assert maximise(zeros, 4).tolist() == [0, 1, 2, 3]
    equal = CosineSimilarity(DenseFeatures(np.ones((9, 2), dtype=np.float32)))
    assert maximise(equal, 5).tolist() == [0, 1, 2, 3, 4]
    some = CosineSimilarity(DenseFeatures(vectors_of(9, 2)))
    assert maximise(some, 0).tolist() == []
    assert sorted(maximise(some, 12).tolist()) == list(range(9))
    none = CosineSimilarity(DenseFeatures(np.empty((0, 2), dtype=np.float32)))
    assert maximise(none, 0).tolist() == []

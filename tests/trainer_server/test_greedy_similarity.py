"""Similarities: what they are, on degenerate vectors too, and in which form they are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from modyn.trainer_server.greedy.features import DenseFeatures, Features, LayerGradients
from modyn.trainer_server.greedy.neighbours import entries_above, nearest_neighbours
from modyn.trainer_server.greedy.similarity import (
    CosineSimilarity,
    DistanceSimilarity,
    Form,
    HeldSimilarity,
    choose_form,
    held,
)

EVERY = slice(None)


def features_of(kind: str, n: int = 40, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    residuals = rng.normal(size=(n, 3)).astype(np.float32)
    if kind == "dense":
        return DenseFeatures(residuals)
    return LayerGradients(residuals, rng.normal(size=(n, 5)).astype(np.float32))


@pytest.mark.parametrize("kind", ["dense", "layer"])
def test_cosines_are_those_of_the_vectors(kind: str) -> None:
    features = features_of(kind)
    vectors = features.dense().astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = 0.5 + 0.5 * unit @ unit.T
    similarity = CosineSimilarity(features)
    np.testing.assert_allclose(similarity.rows(EVERY), expected, atol=1e-6)
    np.testing.assert_allclose(similarity.rows(np.array([7, 3])), expected[[7, 3]], atol=1e-6)
    np.testing.assert_allclose(similarity.totals(), expected.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(similarity.diagonal(), 1)
    vector = similarity.vector(5)
    np.testing.assert_allclose(similarity.dot(vector), expected[5], atol=1e-6)
    assert len(vector) == similarity.dimension == vectors.shape[1] + 1
    assert similarity.multiplications == {"dense": 3, "layer": 3 + 5}[kind]


@pytest.mark.parametrize("kind", ["dense", "layer"])
def test_distances_are_those_of_the_vectors(kind: str) -> None:
    features = features_of(kind)
    vectors = features.dense().astype(np.float64)
    similarity = DistanceSimilarity(features)
    distances = cdist(vectors, vectors)
    assert similarity.bound >= distances.max()
    np.testing.assert_allclose(similarity.rows(EVERY), similarity.bound - distances, atol=1e-3)
    np.testing.assert_allclose(similarity.totals(), similarity.rows(EVERY).sum(axis=1, dtype=np.float64))
    np.testing.assert_allclose(similarity.diagonal(), similarity.bound)


def test_a_zero_vector_has_the_cosine_zero_with_all() -> None:
    vectors = np.array([[1, 0], [0, 0], [-3, 0], [0, 0]], dtype=np.float32)
    similarity = CosineSimilarity(DenseFeatures(vectors))
    expected = [[1, 0.5, 0, 0.5], [0.5, 0.5, 0.5, 0.5], [0, 0.5, 1, 0.5], [0.5, 0.5, 0.5, 0.5]]
    np.testing.assert_allclose(similarity.rows(EVERY), expected, atol=1e-6)
    np.testing.assert_allclose(similarity.diagonal(), np.diagonal(expected))
    np.testing.assert_allclose(similarity.totals(), np.sum(expected, axis=1))


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_the_length_of_vectors_does_not_matter_to_cosines(length: float) -> None:
    vectors = np.array([[3, 4], [4, 3]], dtype=np.float32) * np.float32(length)
    np.testing.assert_allclose(CosineSimilarity(DenseFeatures(vectors)).rows(slice(0, 1)), [[1, 0.98]], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_equal_vectors_are_at_distance_zero(scale: float) -> None:
    one = np.random.default_rng(1).normal(scale=scale, size=(1, 50)).astype(np.float32)
    similarity = DistanceSimilarity(DenseFeatures(np.repeat(one, 30, axis=0)))
    assert np.array_equal(similarity.distances(EVERY, EVERY), np.zeros((30, 30)))


def test_a_held_similarity_is_the_same() -> None:
    similarity = CosineSimilarity(features_of("layer", n=700))
    matrix = held(similarity)
    np.testing.assert_allclose(matrix.rows(EVERY), similarity.rows(EVERY), atol=1e-6)
    np.testing.assert_allclose(matrix.rows(np.array([3, 1])), similarity.rows(np.array([3, 1])), atol=1e-6)
    np.testing.assert_allclose(matrix.totals(), similarity.totals(), rtol=1e-5)
    matrix.rows(slice(0, 1))[:] = 7  # a copy
    assert matrix.rows(slice(0, 1)).max() < 2


@given(n=st.integers(0, 10**6), dimension=st.integers(1, 10**4))
def test_the_form_follows_the_stated_rule(n: int, dimension: int) -> None:
    form = choose_form(n, dimension)
    assert (form is Form.HELD) == (4 * n * n <= 512 * 2**20)
    assert (form is Form.NEIGHBOURS) == (form is not Form.HELD and n * n * dimension > 10**12)


def test_entries_are_read_by_rows_and_columns() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.random((60, 60)).astype(np.float32)
    matrix = np.maximum(matrix, matrix.T)
    floor = rng.random(60).astype(np.float32)
    above = matrix > floor[:, None]
    entries = entries_above(HeldSimilarity(matrix), floor, above.sum())
    assert entries is not None
    assert len(entries) == above.sum()
    rows, values = entries.column(17)
    assert rows.tolist() == np.flatnonzero(above[:, 17]).tolist()
    assert np.array_equal(values, matrix[rows, 17])
    some = np.array([3, 8, 59])
    top = floor[some] + np.float32(0.1)
    expected = np.clip(np.where(above, matrix, 0)[some], floor[some, None], top[:, None]) - floor[some, None]
    np.testing.assert_allclose(entries.gains(some, floor[some], top), expected.sum(axis=0), rtol=1e-5, atol=1e-6)
    assert entries.gains(some[:0], floor[:0], top[:0]).tolist() == [0] * 60
    assert entries_above(HeldSimilarity(matrix), floor, above.sum() - 1) is None


@pytest.mark.parametrize("ties", [False, True])
def test_nearest_neighbours_are_the_largest_entries_and_oneself(ties: bool) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.integers(1, 4, size=(50, 50)) if ties else rng.random((50, 50))
    matrix = np.maximum(drawn, drawn.T).astype(np.float32)
    entries = nearest_neighbours(HeldSimilarity(matrix), 5)
    assert len(entries) == 250
    kept = np.zeros((50, 50))
    for position in range(50):
        rows, values = entries.column(position)
        assert np.array_equal(values, matrix[rows, position])
        kept[rows, position] = 1
    assert (kept.sum(axis=1) == 5).all()
    assert kept.diagonal().all()
    others = matrix - 10 * np.eye(50)
    expected = np.sort(others, axis=1)[:, -4:].sum(axis=1)
    np.testing.assert_allclose(((kept - np.eye(50)) * matrix).sum(axis=1), expected, rtol=1e-6)

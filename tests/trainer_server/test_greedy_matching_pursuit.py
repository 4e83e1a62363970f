"""Matching pursuit against a plain one, and the parts it is made of against slow ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from modyn.trainer_server.greedy.calibration import calibrated
from modyn.trainer_server.greedy.cholesky import GrowingCholesky
from modyn.trainer_server.greedy.features import DenseFeatures, Features, LayerGradients
from modyn.trainer_server.greedy.matching_pursuit import Fit, matching_pursuit

Float64Array = npt.NDArray[np.float64]
SEEDS = st.integers(0, 10**6)


def plain_residual(vectors: Float64Array, size: int) -> float:
    """Of non-negative orthogonal matching pursuit with all weights fitted anew, exactly, for each choice."""
    target = vectors.mean(axis=0)
    chosen: list[int] = []
    residual = target
    while len(chosen) < size:
        along = vectors @ residual
        along[chosen] = -np.inf
        best = int(along.argmax())
        if along[best] <= 1e-9:
            break
        chosen.append(best)
        weights, _ = nnls(vectors[chosen].T, target, maxiter=10_000)
        residual = target - weights @ vectors[chosen]
    return float(np.linalg.norm(residual))


def residual_of(features: Features, fit: Fit) -> float:
    vectors = features.dense().astype(np.float64)
    return float(np.linalg.norm(vectors.mean(axis=0) - fit.weights @ vectors[fit.positions]))


def layer_gradients(samples: int, outputs: int, dimension: int, seed: int) -> LayerGradients:
    """What softmax and cross-entropy give for samples of a Gaussian mixture."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(outputs, dimension))
    classes = random.integers(outputs, size=samples)
    embeddings = centers[classes] + random.normal(size=(samples, dimension))
    powers = np.exp(embeddings @ centers.T / 4)
    residuals = powers / powers.sum(axis=1, keepdims=True) - np.eye(outputs)[classes]
    return LayerGradients(residuals.astype("f4"), embeddings.astype("f4"))


@settings(max_examples=80, deadline=None)
@given(
    seed=SEEDS, samples=st.integers(1, 40), dimension=st.integers(1, 8), size=st.integers(0, 12), shift=st.floats(0, 2)
)
def test_it_fits_at_least_as_well_as_the_plain_one(
    seed: int, samples: int, dimension: int, size: int, shift: float
) -> None:
    vectors = (shift + np.random.default_rng(seed).normal(size=(samples, dimension))).astype("f4")
    features = DenseFeatures(vectors)
    fit = matching_pursuit(features, size)
    length = float(np.linalg.norm(features.mean()))
    assert len(np.unique(fit.positions)) == len(fit.positions) <= size
    assert (fit.weights > 0).all()
    assert fit.residual == pytest.approx(residual_of(features, fit), abs=1e-9)
    assert fit.residual <= plain_residual(vectors.astype(np.float64), size) + 2e-6 * length


def test_it_fits_gradients_as_well_as_the_plain_one() -> None:
    features = layer_gradients(1000, 5, 16, seed=1)
    for size in (5, 20, 60):
        fit = matching_pursuit(features, size)
        assert len(fit.positions) == size
        assert fit.residual <= plain_residual(features.dense().astype(np.float64), size) * (1 + 1e-6)


def test_the_weights_are_those_of_non_negative_least_squares() -> None:
    features = layer_gradients(500, 5, 16, seed=2)
    fit = matching_pursuit(features, 40)
    exact, _ = nnls(features.dense(fit.positions).T.astype(np.float64), features.mean())
    np.testing.assert_allclose(fit.weights, exact, rtol=1e-6, atol=1e-9)


def test_as_many_as_there_are_dimensions_fit_exactly() -> None:
    features = layer_gradients(400, 4, 5, seed=3)
    fit = matching_pursuit(features, 400)
    assert len(fit.positions) <= 3 * 6  # softmax residuals add up to 0
    assert fit.residual <= 1e-6 * np.linalg.norm(features.mean())


def test_scale_changes_only_the_residual() -> None:
    """So it does not matter whether a gradient was divided by the size of a batch."""
    features = layer_gradients(300, 4, 8, seed=4)
    vectors = features.dense()
    for ridge in (0.0, 0.1):
        one = matching_pursuit(DenseFeatures(vectors), 10, ridge)
        small = matching_pursuit(DenseFeatures(vectors / np.float32(1024)), 10, ridge)
        assert small.positions.tolist() == one.positions.tolist()
        np.testing.assert_allclose(small.weights, one.weights, rtol=1e-9)


def test_it_is_more_than_the_vectors_most_along_the_mean() -> None:
    """To which a penalty that dwarfs the gradients reduces it."""
    features = layer_gradients(500, 5, 16, seed=5)
    fit = matching_pursuit(features, 30)
    along = np.argsort(-features.dot(features.mean()))[:30]
    _, best = nnls(features.dense(along).T.astype(np.float64), features.mean())
    assert len(np.intersect1d(fit.positions, along)) < 20
    assert fit.residual < 0.7 * best


def test_a_ridge_makes_weights_smaller() -> None:
    features = layer_gradients(300, 4, 8, seed=6)
    free, bound = matching_pursuit(features, 10), matching_pursuit(features, 10, ridge=0.5)
    assert np.linalg.norm(bound.weights) < np.linalg.norm(free.weights)
    assert bound.residual > free.residual


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((6, 3)), np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.zeros((0, 3)), np.zeros((4, 0))],
)
def test_a_mean_of_zero_needs_nothing(vectors: Float64Array) -> None:
    fit = matching_pursuit(DenseFeatures(vectors.astype("f4")), 3)
    assert (len(fit.positions), len(fit.weights), fit.residual) == (0, 0, 0)


def test_zero_vectors_are_not_taken_and_equal_ones_once() -> None:
    vectors = np.zeros((50, 4), dtype=np.float32)
    vectors[10:20], vectors[30:35] = [1, 2, 0, 0], [0, 0, 3, 1]
    fit = matching_pursuit(DenseFeatures(vectors), 20)
    assert sorted(fit.positions.tolist()) == [10, 30]
    np.testing.assert_allclose(np.sort(fit.weights), [0.1, 0.2], rtol=1e-6)


def test_gradients_of_a_layer_are_as_if_written_out() -> None:
    layer = layer_gradients(30, 3, 4, seed=7)
    dense = DenseFeatures(layer.dense())
    random = np.random.default_rng(0)
    rows, vector = np.array([3, 9, 1]), random.normal(size=layer.dimension)
    np.testing.assert_allclose(layer.dot(vector), dense.dot(vector), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.products(rows, 5), dense.products(rows, 5), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer.products(rows, 5), layer.gram(rows, np.array([5]))[:, 0], rtol=1e-5, atol=1e-5)
    weights = random.normal(size=3)
    np.testing.assert_allclose(layer.combine(rows, weights), dense.combine(rows, weights), rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, moves=st.lists(st.integers(-30, 30), max_size=60))
def test_the_factor_follows_its_vectors(seed: int, moves: list[int]) -> None:
    pool = np.random.default_rng(seed).normal(size=(31, 40))
    cholesky = GrowingCholesky()
    held: list[int] = []
    for move in moves:
        if move < 0 and held:
            index = -move % len(held)
            cholesky.remove(index)
            del held[index]
        elif move >= 0:
            added = cholesky.append(pool[held] @ pool[move], pool[move] @ pool[move])
            assert added == (move not in held)
            held += [move] * added
    gram = pool[held] @ pool[held].T
    assert len(cholesky) == len(held)
    np.testing.assert_allclose(cholesky.factor @ cholesky.factor.T, gram, atol=1e-9)
    np.testing.assert_allclose(gram @ cholesky.solve(np.ones(len(held))), 1, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, samples=st.integers(1, 25), dimension=st.integers(1, 30))
@example(seed=315, samples=22, dimension=16)
def test_calibrated_weights_are_the_most_even_ones(seed: int, samples: int, dimension: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(samples, dimension)).astype("f4").astype(np.float64)
    given_weights = random.exponential(size=samples) * (random.random(samples) < 0.5)
    target = given_weights @ vectors
    found = calibrated(DenseFeatures(vectors.astype("f4")), given_weights)
    assert (found >= 0).all()
    np.testing.assert_allclose(found @ vectors, target, atol=1e-5)
    left, lengths, _ = np.linalg.svd(vectors, full_matrices=False)
    sums = 1e6 * left[:, lengths > 1e-5 * lengths[0]].T  # least squares that all but insist on the weighted sum
    even, _ = nnls(np.vstack((sums, np.eye(samples))), np.append(sums @ given_weights, np.ones(samples)))
    assert np.sum((found - 1) ** 2) <= np.sum((even - 1) ** 2) * (1 + 1e-3) + 1e-3


def test_weights_of_zero_vectors_are_free() -> None:
    assert calibrated(DenseFeatures(np.zeros((3, 2), dtype=np.float32)), np.array([3.0, 0, 0])).tolist() == [1, 1, 1]

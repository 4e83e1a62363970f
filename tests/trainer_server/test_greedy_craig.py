"""CRAIG: medoids of each group, and how many samples each stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from modyn.core.arrow import Int64Array
from modyn.core.plugins.downsampling import Candidates
from modyn.trainer_server.downsampling.gradients import per_class
from modyn.trainer_server.greedy import facility
from modyn.trainer_server.greedy.craig import craig
from modyn.trainer_server.greedy.features import DenseFeatures, Float32Array, LayerGradients
from modyn.trainer_server.greedy.similarity import Form


def naive_medoids(vectors: Float32Array, size: int) -> list[int]:
    """The sum of distances for every candidate at every step, in double precision; the lowest of equal ones."""
    distances = cdist(vectors, vectors)
    nearest = np.full(len(vectors), 2 * distances.max() + 1)
    chosen: list[int] = []
    for _ in range(size):
        sums = np.minimum(distances, nearest[:, None]).sum(axis=0)
        sums[chosen] = np.inf
        chosen.append(int(np.argmin(sums > sums.min() + 1e-6)))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    return chosen


def groups_of(classes: Int64Array, size: int) -> list[tuple[Int64Array, int]]:
    return list(per_class(Candidates(classes), size))


def gradients_of(n: int, dimension: int, seed: int = 0) -> Float32Array:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(8, dimension))[rng.integers(0, 8, n)] + rng.normal(size=(n, dimension))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    share=st.floats(0, 1),
    dimension=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_sizes_add_up_to_n(classes: list[int], share: float, dimension: int, seed: int) -> None:
    labels = np.array(classes)
    size = int(share * len(labels))
    groups = groups_of(labels, size)
    gradients = np.random.default_rng(seed).integers(-2, 3, size=(len(labels), dimension)).astype(np.float32)
    medoids = craig(DenseFeatures(gradients), groups)
    assert len(medoids.positions) == len(medoids.sizes) == size
    assert (np.diff(medoids.positions) > 0).all()
    assert medoids.sizes.sum() == (len(labels) if size else 0)
    assert (medoids.sizes >= 1).all()
    for members, budget in groups:
        assert np.isin(medoids.positions, members).sum() == budget


@pytest.mark.parametrize("form", [Form.HELD, Form.ON_THE_FLY])
@pytest.mark.parametrize("kind", ["dense", "layer"])
def test_as_the_naive_algorithm_per_class(kind: str, form: Form) -> None:
    residuals, embeddings = gradients_of(150, 3), gradients_of(150, 4, seed=1)
    features = DenseFeatures(residuals) if kind == "dense" else LayerGradients(residuals, embeddings)
    vectors = features.dense()
    labels = np.arange(150) % 3
    medoids = craig(features, groups_of(labels, 30), form)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        expected = members[naive_medoids(vectors[members], 10)]
        mine = labels[medoids.positions] == label
        assert medoids.positions[mine].tolist() == sorted(expected.tolist())
        nearest = cdist(vectors[members], vectors[medoids.positions[mine]]).argmin(axis=1)
        assert medoids.sizes[mine].tolist() == np.bincount(nearest, minlength=10).tolist()


def test_the_default_is_far_better_than_random() -> None:
    vectors = gradients_of(600, 6)
    chosen = craig(DenseFeatures(vectors), [(np.arange(600), 30)]).positions
    cost = cdist(vectors, vectors[chosen]).min(axis=1).sum()
    exact = cdist(vectors, vectors[naive_medoids(vectors, 30)]).min(axis=1).sum()
    draws = [np.random.default_rng(i).permutation(600)[:30] for i in range(20)]
    random = np.mean([cdist(vectors, vectors[draw]).min(axis=1).sum() for draw in draws])
    assert (random - cost) / (random - exact) == pytest.approx(1, abs=1e-3)


def test_classes_without_budget_count_for_the_nearest_of_all() -> None:
    gradients = np.array([[0], [0.1], [10], [10.1], [9], [1]], dtype=np.float32)
    groups = [(np.array([0, 1]), 1), (np.array([2, 3]), 1), (np.array([4]), 0), (np.array([5]), 0)]
    medoids = craig(DenseFeatures(gradients), groups)
    assert medoids.positions.tolist() == [0, 2]
    assert medoids.sizes.tolist() == [3, 3]


def test_samples_without_a_chosen_neighbour_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facility, "NEIGHBOURS", 3)
    vectors = gradients_of(80, 2)
    labels = np.repeat([0, 1], 40)
    medoids = craig(DenseFeatures(vectors), groups_of(labels, 6), Form.NEIGHBOURS)
    assert medoids.sizes.sum() == 80
    assert medoids.sizes[labels[medoids.positions] == 0].sum() == 40


def test_duplicates_stand_for_themselves() -> None:
    medoids = craig(DenseFeatures(np.ones((10, 4), dtype=np.float32)), [(np.arange(10), 3)])
    assert medoids.positions.tolist() == [0, 1, 2]
    assert medoids.sizes.tolist() == [8, 1, 1]

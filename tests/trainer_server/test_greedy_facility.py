"""Facility location: equal to the naive algorithm in every form, and defined where nothing distinguishes samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy import facility
from modyn.trainer_server.greedy.facility import facility_location
from modyn.trainer_server.greedy.features import DenseFeatures, Float32Array
from modyn.trainer_server.greedy.similarity import (
    CosineSimilarity,
    DistanceSimilarity,
    Form,
    HeldSimilarity,
    Similarity,
)

EXACT = [Form.HELD, Form.ON_THE_FLY]


def naive(matrix: npt.NDArray[np.float32], size: int) -> list[int]:
    """All gains anew at each step, in double precision; the lowest of equal ones."""
    wide = matrix.astype(np.float64)
    has = np.zeros(len(wide))
    chosen: list[int] = []
    for _ in range(size):
        gains = np.maximum(wide - has[:, None], 0).sum(axis=0)
        gains[chosen] = -1
        pick = int(np.argmax(gains >= gains.max() * (1 - 1e-6)))
        chosen.append(pick)
        has = np.maximum(has, wide[:, pick])
    return chosen


def value(matrix: npt.NDArray[np.float32], chosen: list[int] | Int64Array) -> float:
    return float(matrix[:, chosen].max(axis=1).sum(dtype=np.float64)) if len(chosen) else 0.0


def mixture(n: int, dimension: int, seed: int = 0) -> Float32Array:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(20, dimension))
    return (centers[rng.integers(0, 20, n)] + 0.5 * rng.normal(size=(n, dimension))).astype(np.float32)


def everything(similarity: Similarity) -> npt.NDArray[np.float32]:
    return similarity.rows(slice(None))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 30),
    levels=st.integers(1, 40),
    share=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**32),
)
def test_sequence_of_the_naive_algorithm_with_ties(n: int, levels: int, share: float, seed: int) -> None:
    """Eighths add up without rounding, so that equal gains are equal."""
    drawn = np.random.default_rng(seed).integers(0, levels + 1, size=(n, n)) / 8
    matrix = np.maximum(drawn, drawn.T).astype(np.float32)
    size = int(share * n)
    cover = facility_location(HeldSimilarity(matrix), size)
    expected = naive(matrix, size)
    gained = np.diff([value(matrix, expected[:k]) for k in range(size + 1)])
    useful = int(np.count_nonzero(gained))
    assert cover.positions[:useful].tolist() == expected[:useful]
    rest = [position for position in range(n) if position not in expected[:useful]]
    assert cover.positions[useful:].tolist() == rest[: size - useful]
    assert cover.value == pytest.approx(value(matrix, expected))


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("kind", [CosineSimilarity, DistanceSimilarity])
def test_every_exact_form_chooses_as_the_naive_algorithm(
    kind: type[CosineSimilarity | DistanceSimilarity], form: Form
) -> None:
    similarity = kind(DenseFeatures(mixture(900, 8)))
    matrix = everything(similarity)
    cover = facility_location(similarity, 120, form)
    assert cover.positions.tolist() == naive(matrix, 120)
    assert cover.value == pytest.approx(value(matrix, cover.positions), rel=1e-6)


def test_gathered_entries_give_the_same_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity = CosineSimilarity(DenseFeatures(mixture(700, 16, seed=1)))
    gathered = facility_location(similarity, 200)
    monkeypatch.setattr(facility, "_MOST_ENTRIES", 0)
    rows = facility_location(similarity, 200)
    assert gathered.positions.tolist() == rows.positions.tolist()
    assert gathered.owners.tolist() == rows.owners.tolist()


@pytest.mark.parametrize("form", EXACT)
def test_almost_all_samples(form: Form) -> None:
    """Gains fall by orders of magnitude, and are still those of the naive algorithm."""
    similarity = CosineSimilarity(DenseFeatures(mixture(300, 4, seed=2)))
    matrix = everything(similarity)
    cover = facility_location(similarity, 290, form)
    assert len(set(cover.positions.tolist())) == 290
    for k in (10, 100, 200, 290):
        expected = value(matrix, naive(matrix, k))
        assert value(matrix, cover.positions[:k]) == pytest.approx(expected, rel=1e-6)


def test_neighbours_reach_most_of_the_value() -> None:
    similarity = CosineSimilarity(DenseFeatures(mixture(1500, 16, seed=3)))
    matrix = everything(similarity)
    exact = facility_location(similarity, 150)
    sparse = facility_location(similarity, 150, Form.NEIGHBOURS)
    random = np.mean([value(matrix, np.random.default_rng(i).permutation(1500)[:150]) for i in range(5)])
    reached = (value(matrix, sparse.positions) - random) / (exact.value - random)
    assert 0.8 < reached <= 1.0001
    assert len(set(sparse.positions.tolist())) == 150


def test_with_all_neighbours_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facility, "NEIGHBOURS", 200)
    similarity = DistanceSimilarity(DenseFeatures(mixture(200, 8, seed=4)))
    exact, sparse = facility_location(similarity, 40), facility_location(similarity, 40, Form.NEIGHBOURS)
    assert sparse.positions.tolist() == exact.positions.tolist()
    assert sparse.owners.tolist() == exact.owners.tolist()


def test_the_first_step_looks_at_all_gains() -> None:
    """Not only at those of a first batch: the best sample is the last one here."""
    line = np.concatenate((np.arange(-200, 0), np.arange(1, 201), [0])).astype(np.float32)
    similarity = DistanceSimilarity(DenseFeatures(line[:, None]))
    assert facility_location(similarity, 1).positions.tolist() == [400]


def test_owners_are_the_most_similar_chosen() -> None:
    similarity = DistanceSimilarity(DenseFeatures(mixture(400, 8, seed=5)))
    cover = facility_location(similarity, 30)
    matrix = everything(similarity)
    assert cover.owners.tolist() == cover.positions[matrix[:, cover.positions].argmax(axis=1)].tolist()
    assert cover.owners[cover.positions].tolist() == cover.positions.tolist()


@pytest.mark.parametrize("form", list(Form))
def test_duplicates_come_last_in_order(form: Form) -> None:
    distinct = mixture(30, 4, seed=6)
    vectors = np.repeat(distinct, 4, axis=0)
    for similarity in (CosineSimilarity(DenseFeatures(vectors)), DistanceSimilarity(DenseFeatures(vectors))):
        cover = facility_location(similarity, 40, form)
        assert set((cover.positions[:30] // 4).tolist()) == set(range(30))
        assert (cover.positions[:30] % 4 == 0).all()
        assert cover.positions[30:].tolist() == [4 * (i // 3) + i % 3 + 1 for i in range(10)]


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("vector", [np.zeros(5), np.ones(5)])
def test_equal_samples_are_chosen_in_order(vector: npt.NDArray[np.float64], form: Form) -> None:
    features = DenseFeatures(np.tile(vector, (20, 1)).astype(np.float32))
    for similarity in (CosineSimilarity(features), DistanceSimilarity(features)):
        assert facility_location(similarity, 7, form).positions.tolist() == list(range(7))


def test_zero_vectors_do_not_make_it_arbitrary() -> None:
    vectors = mixture(200, 8, seed=7)
    vectors[50] = 0
    similarity = CosineSimilarity(DenseFeatures(vectors))
    cover = facility_location(similarity, 20)
    assert cover.positions.tolist() == naive(everything(similarity), 20)
    assert cover.positions.tolist() != list(range(20))


@pytest.mark.parametrize("form", list(Form))
def test_none_and_all(form: Form) -> None:
    similarity = CosineSimilarity(DenseFeatures(mixture(12, 3)))
    none = facility_location(similarity, 0, form)
    assert none.positions.tolist() == []
    assert none.owners.tolist() == [-1] * 12
    for size in (12, 13):
        cover = facility_location(similarity, size, form)
        assert cover.positions.tolist() == cover.owners.tolist() == list(range(12))
        assert cover.value == 12
    empty = facility_location(CosineSimilarity(DenseFeatures(np.empty((0, 3), dtype=np.float32))), 0, form)
    assert len(empty.positions) == len(empty.owners) == 0


def test_a_result_does_not_depend_on_those_before() -> None:
    similarity = CosineSimilarity(DenseFeatures(mixture(300, 8)))
    first = facility_location(similarity, 30).positions.tolist()
    facility_location(similarity, 70)
    assert facility_location(similarity, 30).positions.tolist() == first

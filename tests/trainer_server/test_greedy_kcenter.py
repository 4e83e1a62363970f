"""The pooled k-center greedy gives what the plain one gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modyn.trainer_server.greedy import kcenter
from modyn.trainer_server.greedy.kcenter import kcenter_greedy

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


def plain(points: Float32Array, size: int, first: int) -> Int64Array:
    """One point after the other, from differences in double precision."""
    exact = points.astype(np.float64)
    distances = np.full(len(points), np.inf)
    chosen = [first]
    while len(chosen) < size:
        distances = np.minimum(distances, ((exact - exact[chosen[-1]]) ** 2).sum(axis=1))
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return np.array(chosen)[:size]


def blobs(samples: int, dimension: int, clusters: int, spread: float, seed: int = 0) -> Float32Array:
    random = np.random.default_rng(seed)
    centers = spread * random.normal(size=(clusters, dimension))
    return (centers[random.integers(clusters, size=samples)] + random.normal(size=(samples, dimension))).astype("f4")


@pytest.mark.parametrize("clusters", [1, 20, 300])
def test_it_is_the_sequence_of_the_plain_greedy(clusters: int) -> None:
    points = blobs(2000, 16, clusters, spread=3)
    chosen = kcenter_greedy(points, 600, first=17)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == plain(points, 600, first=17).tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), pool=st.integers(1, 50), block=st.integers(1, 200), share=st.floats(0, 1))
def test_neither_pool_nor_block_changes_it(seed: int, pool: int, block: int, share: float) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(int(random.integers(1, 60)), int(random.integers(1, 5)))).astype("f4")
    size, first = round(share * len(points)), int(random.integers(len(points)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kcenter, "POOL", pool)
        patch.setattr(kcenter, "BLOCK", block)
        assert kcenter_greedy(points, size, first).tolist() == plain(points, size, first).tolist()


@settings(max_examples=100, deadline=None)
@given(
    points=arrays("f4", st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(-3, 3)),
    pool=st.integers(1, 8),
)
def test_with_ties_each_one_is_among_the_farthest(points: Float32Array, pool: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kcenter, "POOL", pool)
        chosen = kcenter_greedy(points, len(points), first=0)
    assert sorted(chosen.tolist()) == list(range(len(points)))
    exact = points.astype(np.float64)
    distances = np.full(len(points), np.inf)
    for before, after in pairwise(chosen):
        distances = np.minimum(distances, ((exact - exact[before]) ** 2).sum(axis=1))
        assert distances[after] >= 0.999 * distances.max()


def test_duplicates_come_last_in_order_and_once() -> None:
    points = np.repeat(blobs(40, 8, 1, spread=0), 30, axis=0)
    chosen = kcenter_greedy(points, 700, first=5)
    assert sorted((chosen[:40] // 30).tolist()) == list(range(40))
    assert len(np.unique(chosen)) == 700
    rest = np.setdiff1d(np.arange(1200), chosen[:40])
    assert chosen[40:].tolist() == rest[:660].tolist()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -7e30])
def test_all_equal_points_come_in_order(value: float) -> None:
    points = np.full((700, 3), value, dtype=np.float32)
    assert kcenter_greedy(points, 5, first=3).tolist() == [3, 0, 1, 2, 4]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_scale_and_shift_do_not_matter(scale: float, shift: float) -> None:
    points = blobs(300, 4, 5, spread=4)
    assert kcenter_greedy((scale * (points + shift)).astype("f4"), 30, 1).tolist() == plain(points, 30, 1).tolist()


def test_tight_clusters_far_from_each_other_are_told_apart() -> None:
    random = np.random.default_rng(0)
    sign = np.where(np.arange(1000) % 2, 1, -1)[:, None]
    points = (1000 * sign + random.normal(size=(1000, 8))).astype("f4")
    assert kcenter_greedy(points, 50, 0).tolist() == plain(points, 50, 0).tolist()


def test_sizes_nothing_one_and_all() -> None:
    points = blobs(20, 3, 1, spread=0)
    assert kcenter_greedy(points, 0, first=0).tolist() == []
    assert kcenter_greedy(points[:0], 0, first=0).tolist() == []
    assert kcenter_greedy(points, 1, first=7).tolist() == [7]
    assert sorted(kcenter_greedy(points, 20, first=7).tolist()) == list(range(20))
    assert kcenter_greedy(points[:1], 1, first=0).tolist() == [0]
    assert kcenter_greedy(points[:, :0], 3, first=1).tolist() == [1, 0, 2]


def test_it_leaves_the_points_as_they_are() -> None:
    points = blobs(50, 3, 1, spread=0)
    before = points.copy()
    kcenter_greedy(points, 10, first=0)
    assert (points == before).all()

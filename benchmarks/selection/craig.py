"""CRAIG per class against exact greedy, in CPU seconds on one thread."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from benchmarks.results import Result
from benchmarks.selection.gradmatch import softmax_gradients
from modyn.core.arrow import Int64Array
from modyn.trainer_server.downsampling.gradients import gradient_features, per_class
from modyn.trainer_server.greedy.craig import craig
from modyn.trainer_server.greedy.features import DenseFeatures, Features

RATIO = 10
ROUNDS = 3
WITHIN = 1e-3
"""Most by which the sum of distances may differ from that of exact greedy, relative."""

CPU = "selection.craig_cpu_s"
NAMES = (CPU,)

Float64Array = npt.NDArray[np.float64]


def measure() -> dict[str, Result]:
    """Gradients as a matrix, and as a training job has them; the sum of distances of both against exact greedy."""
    candidates = softmax_gradients()
    groups = list(per_class(candidates, len(candidates) // RATIO))
    structured = gradient_features(candidates, "LastLayerWithEmbedding")
    vectors = structured.dense()
    with threadpool_limits(1):
        seconds, chosen = _timed(DenseFeatures(vectors), groups)
        structured_seconds, _ = _timed(structured, groups)
        ours, exact, random = 0.0, 0.0, 0.0
        start = time.process_time()
        for members, budget in groups:
            distances = cdist(vectors[members], vectors[members])
            exact += _cost(distances, naive_medoids(distances, budget))
            ours += _cost(distances, np.flatnonzero(np.isin(members, chosen)))
            random += _cost(distances, np.random.default_rng(0).permutation(len(members))[:budget])
        exact_seconds = time.process_time() - start
    baseline = (
        f"{len(vectors):,} gradients of {vectors.shape[1]} numbers in {len(groups)} classes, 1 in {RATIO} chosen, "
        f"1 thread, median of {ROUNDS}; from residuals and embeddings {structured_seconds:.3g} s; sum of distances × "
        f"{ours / exact:.6f} of exact greedy in double precision ({exact_seconds:.3g} s), random × {random / exact:.3f}"
    )
    return {CPU: Result(seconds, "CPU s", baseline, 0.8 if abs(ours / exact - 1) <= WITHIN else 0)}


def _timed(features: Features, groups: list[tuple[Int64Array, int]]) -> tuple[float, Int64Array]:
    """CPU seconds, and what was chosen."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        medoids = craig(features, groups)
        seconds.append(time.process_time() - start)
    return median(seconds), medoids.positions


def naive_medoids(distances: Float64Array, size: int) -> Int64Array:
    """Greedy choice by the sum of distances to the nearest chosen one, of every candidate at every step."""
    nearest = np.full(len(distances), 2 * distances.max())
    chosen: list[int] = []
    for _ in range(size):
        sums = np.minimum(distances, nearest[:, None]).sum(axis=0)
        sums[chosen] = np.inf
        chosen.append(int(sums.argmin()))
        nearest = np.minimum(nearest, distances[:, chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def _cost(distances: Float64Array, chosen: Int64Array) -> float:
    return float(distances[:, chosen].min(axis=1).sum())

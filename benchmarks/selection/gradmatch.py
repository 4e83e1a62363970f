"""GradMatch against plain non-negative orthogonal matching pursuit, in CPU seconds on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from benchmarks.results import Result
from modyn.core.plugins.downsampling import Candidates, Choice
from modyn.trainer_server.downsampling.gradients import gradient_features
from modyn.trainer_server.downsampling.gradmatch import GradMatch
from modyn.trainer_server.greedy.features import DenseFeatures, Features
from modyn.trainer_server.greedy.matching_pursuit import matching_pursuit

SAMPLES, CLASSES, DIMENSION, SIZE = 10_000, 10, 64, 200
ROUNDS = 3
CPU = "selection.gradmatch_cpu_s"
NAMES = (CPU,)
WITHIN = 1.01
"""Most that the residual may be, relative to the plain one's."""

Float64Array = npt.NDArray[np.float64]


def measure() -> dict[str, Result]:
    """The strategy as a training job asks it, and how well it fits."""
    candidates = softmax_gradients()
    strategy = GradMatch(ratio=2, sample_then_batch=True, full_grad_approximation="LastLayerWithEmbedding")
    features = gradient_features(candidates, strategy.full_grad_approximation)
    written_out = DenseFeatures(features.dense())
    with threadpool_limits(1):
        seconds = median(_cpu_seconds(lambda: _choice(strategy, candidates)) for _ in range(ROUNDS))
        dense = _cpu_seconds(lambda: matching_pursuit(written_out, SIZE))
        start = time.process_time()
        plain = plain_residual(written_out.dense().astype(np.float64), SIZE)
        plain_seconds = time.process_time() - start
    length = float(np.linalg.norm(features.mean()))
    ours = _residual(features, _choice(strategy, candidates))
    baseline = (
        f"{SAMPLES:,} gradients of {features.dimension} numbers (softmax residual by embedding and 1, mixture of "
        f"{CLASSES} Gaussians), {SIZE} chosen, 1 thread, median of {ROUNDS}; with gradients written out {dense:.3g} s; "
        f"residual {ours / length:.4f} of the mean, × {ours / plain:.3f} of plain non-negative OMP with exact NNLS "
        f"refit ({plain / length:.4f}, {plain_seconds:.3g} s), bound {WITHIN}"
    )
    return {CPU: Result(seconds, "CPU s", baseline, 1.5 if ours <= WITHIN * plain else 0)}  # missed with a worse fit


def softmax_gradients() -> Candidates:
    """Of a linear classifier that knows the centers of a mixture of Gaussians."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLASSES, DIMENSION))
    labels = rng.integers(CLASSES, size=SAMPLES)
    embeddings = centers[labels] + rng.normal(size=(SAMPLES, DIMENSION))
    powers = np.exp(embeddings @ centers.T / np.sqrt(DIMENSION))
    gradients = powers / powers.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
    return Candidates(labels, gradients=gradients.astype(np.float32), embeddings=embeddings.astype(np.float32))


def plain_residual(vectors: Float64Array, size: int) -> float:
    """Norm of what non-negative OMP leaves of the mean when each choice is followed by an exact fit of all weights."""
    target = vectors.mean(axis=0)
    chosen: list[int] = []
    residual = target
    while len(chosen) < size:
        along = vectors @ residual
        along[chosen] = -np.inf
        chosen.append(int(along.argmax()))
        weights, _ = nnls(vectors[chosen].T, target, maxiter=100_000)
        residual = target - weights @ vectors[chosen]
    return float(np.linalg.norm(residual))


def _choice(strategy: GradMatch, candidates: Candidates) -> Choice:
    return strategy.choose(candidates, SIZE, np.random.default_rng(0))


def _residual(features: Features, choice: Choice) -> float:
    """Norm of what the weighted samples leave of the mean; as weights are 1 on average, at the scale that fits best."""
    assert choice.weights is not None
    mean, weighted = features.mean(), features.combine(choice.positions, choice.weights.astype(np.float64))
    return float(np.linalg.norm(mean - weighted * (weighted @ mean) / (weighted @ weighted)))


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start

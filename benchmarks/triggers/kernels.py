"""The MMD permutation test against a plain one in torch, in CPU seconds of the whole process."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from benchmarks.results import Result
from benchmarks.storage.timing import paired
from modyn.core.plugins.drift import TestResult
from modyn.core.plugins.triggers import Features
from modyn.supervisor.drift.metrics import MMD

PERMUTATIONS = 100
ROUNDS = 3


def mmd_1000() -> Result:
    """n = m = 1,000, d = 512: how many times fewer CPU seconds."""
    reference, current = _windows(1000, 512)
    sigma = float(np.sqrt(2 * 512))
    timed = paired(
        lambda: _cpu_seconds(lambda: ours(reference, current, sigma)),
        lambda: _cpu_seconds(lambda: plain_torch(reference, current, sigma)),
        rounds=ROUNDS,
    )
    baseline = (
        "CPU s, n = m = 1,000, d = 512, 100 permutations, against torch that recomputes kernel and statistic per "
        f"permutation; {timed.sentence()}"
    )
    return Result(timed.ratio, "×", baseline, 10, at_most=False)


def mmd_5000_cpu_s() -> Result:
    """n = m = 5,000, d = 64: CPU seconds of the whole test with defaults, as a drift trigger makes it."""
    reference, current = _windows(5000, 64)
    metric = _metric(None, standardize=True)
    seconds = [_cpu_seconds(lambda: _test(metric, reference, current, None)) for _ in range(ROUNDS + 1)][1:]
    tracemalloc.start()
    _test(metric, reference, current, None)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    baseline = f"n = m = 5,000, d = 64, 100 permutations; peak memory {peak:.0f} MiB, the kernel matrix would have 381"
    return Result(median(seconds), "CPU s", baseline, 2.5)


def ours(reference: Features, current: Features, sigma: float) -> TestResult:
    """The test that the drift trigger makes, blocks of one sample, on features as they are."""
    return _test(_metric(sigma, standardize=False), reference, current, 1)


def _metric(sigma: float | None, *, standardize: bool) -> MMD:
    criterion = {"id": "HypothesisTestCriterion"}
    keys = {"decision_criterion": criterion, "sigma": sigma, "standardize": standardize}
    return MMD.model_validate(keys)


def _test(metric: MMD, reference: Features, current: Features, block_length: int | None) -> TestResult:
    rng = np.random.default_rng(0)
    return metric.test(reference, current, alpha=0.05, permutations=PERMUTATIONS, block_length=block_length, rng=rng)


@torch.no_grad()
def plain_torch(reference: Features, current: Features, sigma: float) -> tuple[float, float]:
    """Distance and p-value by the textbook: each permutation shuffles the samples and computes the statistic anew."""
    pooled = torch.from_numpy(np.concatenate((reference, current)))
    generator = torch.Generator().manual_seed(0)
    n = len(reference)
    observed = _unbiased(pooled[:n], pooled[n:], sigma)
    reached = 0
    for _ in range(PERMUTATIONS):
        shuffled = pooled[torch.randperm(len(pooled), generator=generator)]
        reached += int(_unbiased(shuffled[:n], shuffled[n:], sigma) >= observed)
    return observed, (1 + reached) / (1 + PERMUTATIONS)


def _unbiased(x: torch.Tensor, y: torch.Tensor, sigma: float) -> float:
    n, m = len(x), len(y)
    k_xx, k_yy, k_xy = (torch.exp(torch.cdist(a, b).square_() / (-2 * sigma**2)) for a, b in ((x, x), (y, y), (x, y)))
    within = (k_xx.sum() - k_xx.trace()) / (n * (n - 1)) + (k_yy.sum() - k_yy.trace()) / (m * (m - 1))
    return float(within - 2 * k_xy.mean())


def _windows(samples: int, features: int) -> tuple[Features, Features]:
    rng = np.random.default_rng(0)
    reference, current = rng.normal(size=(2, samples, features)).astype(np.float32)
    return reference, current


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start

"""Facility location: CPU seconds on one thread at 10 k samples, and the memory that 50 k take."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.results import Result
from modyn.trainer_server.greedy.facility import Cover, facility_location
from modyn.trainer_server.greedy.features import DenseFeatures
from modyn.trainer_server.greedy.similarity import CosineSimilarity, Form, HeldSimilarity, choose_form, held, row_blocks

DIMENSION = 64
CLUSTERS = 100
SMALL, LARGE = 10_000, 50_000
ROUNDS = 3
NAIVE_PICKS = 20
CHECKED_PICKS = (100, 300, 999)
WITHIN = 1e-3
"""Most by which the gain of a pick may be below the largest one; bounds the loss of value."""

CPU, MEMORY = "selection.facility_cpu_s", "selection.facility_50k_gib"
NAMES = (CPU, MEMORY)
DATA = f"d = {DIMENSION}, 10 % of a mixture of {CLUSTERS} Gaussians, cosine similarity, 1 thread"


def measure() -> dict[str, Result]:
    """Both sizes; the smaller one against the naive greedy."""
    return {CPU: _small(), MEMORY: _large()}


def _small() -> Result:
    similarity = CosineSimilarity(gaussians(SMALL))
    size = SMALL // 10
    with threadpool_limits(1):
        timed = [_timed(similarity, size) for _ in range(ROUNDS)]
        on_the_fly = _timed(similarity, size, Form.ON_THE_FLY)[0]
        cover = timed[0][1]
        naive, short = _against_naive(held(similarity), cover)
    baseline = (
        f"n = {SMALL:,}, {DATA}, whole matrix held ({SMALL**2 * 4 / 2**20:.0f} MiB), median of {ROUNDS}; on the fly "
        f"{on_the_fly:.3g} s; naive greedy {naive * size / NAIVE_PICKS:.3g} s (its first {NAIVE_PICKS} picks take "
        f"{naive:.3g} s, scaled); at each of these and picks {', '.join(map(str, CHECKED_PICKS))} the gain is the "
        f"largest one to {short:.1g}"
    )
    seconds = median(seconds for seconds, _ in timed)
    return Result(seconds, "CPU s", baseline, 4 if short <= WITHIN else 0)  # missed if it is not greedy


def _timed(similarity: CosineSimilarity, size: int, form: Form | None = None) -> tuple[float, Cover]:
    start = time.process_time()
    cover = facility_location(similarity, size, form)
    return time.process_time() - start, cover


def _against_naive(matrix: HeldSimilarity, cover: Cover) -> tuple[float, float]:
    """CPU seconds of the first picks of the naive greedy, and how far below the largest gain ours are at most."""
    has = np.zeros(len(matrix), dtype=np.float32)
    short, seconds = 0.0, 0.0
    for step, pick in enumerate(cover.positions):
        if step < NAIVE_PICKS or step in CHECKED_PICKS:
            start = time.process_time()
            gains = naive_gains(matrix, has)
            seconds += time.process_time() - start if step < NAIVE_PICKS else 0
            short = max(short, 1 - float(gains[pick] / gains.max()))
        has = np.maximum(has, matrix.rows(np.array([pick]))[0])
    return seconds, short


def naive_gains(matrix: HeldSimilarity, has: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What each sample would add, summed up over all samples, as at each step of the naive greedy."""
    n = len(has)
    gains = np.zeros(n)
    for rows in row_blocks(np.arange(n), n):
        block = matrix.rows(rows)
        block -= has[rows, None]
        gains += np.maximum(block, 0, out=block).sum(axis=0)
    return gains


def _large() -> Result:
    command = [sys.executable, "-m", "benchmarks.selection.facility"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    large = json.loads(run.stdout)
    form = choose_form(LARGE, DIMENSION)
    baseline = (
        f"n = {LARGE:,}, {DATA}, peak of a fresh process with its {LARGE * DIMENSION * 4 / 2**20:.0f} MiB of data; "
        f"{form.value}; {large['seconds']:.3g} CPU s; exact, mean similarity to the nearest {large['mean']:.4f}"
    )
    return Result(large["gib"], "GiB", baseline, 1)


def gaussians(samples: int) -> DenseFeatures:
    """Embeddings: centers, and noise of half their spread."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLUSTERS, DIMENSION))
    points = centers[rng.integers(CLUSTERS, size=samples)] + 0.5 * rng.normal(size=(samples, DIMENSION))
    return DenseFeatures(points.astype(np.float32))


def main() -> None:
    """The child process of the larger size: one line of JSON."""
    with threadpool_limits(1):
        seconds, cover = _timed(CosineSimilarity(gaussians(LARGE)), LARGE // 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gib": peak, "mean": cover.value / LARGE}))


if __name__ == "__main__":
    main()

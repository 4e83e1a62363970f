"""K-center greedy, in CPU seconds on one thread; each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.results import Result
from modyn.trainer_server.greedy.kcenter import kcenter_greedy

DIMENSION = 512
CLUSTERS = 10
ROUNDS = 5
SMALL, LARGE = 10_000, 50_000
CPU, CPU_50K = "selection.kcenter_cpu_s", "selection.kcenter_50k_cpu_s"
NAMES = (CPU, CPU_50K)

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


def measure() -> dict[str, Result]:
    """A tenth of a Gaussian mixture, for two sizes; the smaller one against the plain greedy."""
    small, large = _child(SMALL), _child(LARGE)
    data = f"d = {DIMENSION}, 10 % of a mixture of {CLUSTERS} Gaussians, 1 thread"
    slower = "not slower" if small["seconds"] <= small["plain"] else "SLOWER"
    return {
        CPU: Result(
            value=small["seconds"],
            unit="CPU s",
            baseline=f"n = {SMALL:,}, {data}; {slower} than plain vectorised NumPy greedy ({small['plain']:.3g} s), "
            f"{small['same']:.1%} of the sequence equal; median of {ROUNDS}",
            target=0.25,
        ),
        CPU_50K: Result(
            value=large["seconds"],
            unit="CPU s",
            baseline=f"n = {LARGE:,}, {data}; peak memory of the process {large['peak']:.0f} MB, of it "
            f"{LARGE * DIMENSION * 4 / 1e6:.0f} MB of data, bound 500 MB",
            target=8 if large["peak"] < 500 else 0,  # missed, too, with more memory
        ),
    }


def gaussians(samples: int) -> Float32Array:
    """Embeddings, float32 [samples, DIMENSION]: centers and noise of the same variance."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
    points = rng.standard_normal((samples, DIMENSION), dtype=np.float32)
    for label, part in enumerate(np.array_split(np.arange(samples), CLUSTERS)):
        points[part[0] : part[-1] + 1] += centers[label]
    return points


def plain(points: Float32Array, size: int) -> Int64Array:
    """One point after the other, each with one pass over all points."""
    centered = points - points.mean(axis=0)
    norms = np.einsum("nd,nd->n", centered, centered)
    distances = np.full(len(points), np.inf, dtype=np.float32)
    chosen = np.zeros(size, dtype=np.int64)
    for step in range(1, size):
        last = chosen[step - 1]
        np.minimum(distances, norms + (norms[last] - 2 * (centered @ centered[last])), out=distances)
        distances[last] = -1
        chosen[step] = distances.argmax()
    return chosen


def _child(samples: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.selection.kcenter", str(samples)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers: dict[str, float] = json.loads(output)
    return numbers


def _measured(samples: int) -> dict[str, float]:
    points, size = gaussians(samples), samples // 10
    with threadpool_limits(1):
        kcenter_greedy(points, 100, first=0)  # pages and caches
        if samples > SMALL:
            return {"seconds": _cpu_seconds(lambda: kcenter_greedy(points, size, first=0)), "peak": _peak_mb()}
        seconds = median(_cpu_seconds(lambda: kcenter_greedy(points, size, first=0)) for _ in range(ROUNDS))
        chosen, expected = kcenter_greedy(points, size, first=0), plain(points, size)
        baseline = _cpu_seconds(lambda: plain(points, size))
    return {"seconds": seconds, "plain": baseline, "same": float(np.mean(chosen == expected))}


def _peak_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    print(json.dumps(_measured(int(sys.argv[1]))))

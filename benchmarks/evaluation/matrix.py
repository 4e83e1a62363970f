"""Many models on many windows in one request, beside a request for each pair of them."""

from __future__ import annotations

import gc
import itertools
import random
from statistics import median

from benchmarks.evaluation.digits import SAMPLES, Asker, Windows, digits
from benchmarks.results import Result
from benchmarks.storage.timing import say

NAMES = ("evaluation.matrix", "evaluation.sliding")

MODELS = 20
WINDOWS = 50
OVERLAP = 10
ROUNDS = 3
SAMPLED_PAIRS = 60
"""Pairs asked for in all rounds together; all thousand would take minutes and are as slow as these."""


def measure() -> dict[str, Result]:
    """How many times longer all pairs take one by one than in one request; the same services, nothing reused."""
    step = SAMPLES // WINDOWS
    slicing = [(start, start + step) for start in range(0, SAMPLES, step)]
    stride = SAMPLES // (WINDOWS + OVERLAP - 1)
    sliding = [(start, start + OVERLAP * stride) for start in range(0, WINDOWS * stride, stride)]
    with digits() as server:
        models = [server.store(seed) for seed in range(MODELS)]
        return {
            NAMES[0]: _compare(server, models, slicing, "windows one after the other", 8),
            NAMES[1]: _compare(server, models, sliding, f"windows that overlap {OVERLAP}-fold", 30),
        }


def _compare(server: Asker, models: list[str], windows: Windows, which: str, target: float) -> Result:
    pairs = list(itertools.product(models, windows))
    sampled = random.Random(1).sample(pairs, SAMPLED_PAIRS)
    server.ask(models, windows)  # so that everything has been done once
    server.ask(models[:1], windows[:1])
    together: list[float] = []
    alone: list[float] = []
    ratios: list[float] = []
    for number in range(ROUNDS):
        gc.collect()
        together.append(server.ask(models, windows)[0])
        some = [server.ask([model], [window])[0] for model, window in sampled[number::ROUNDS]]
        alone += some
        ratios.append(sum(some) / len(some) * len(pairs) / together[-1])
        say(f"{which}: {together[-1]:.2f} s, a pair {sum(some) / len(some) * 1e3:.1f} ms, × {ratios[-1]:.1f}")
    baseline = (
        f"{len(models)} models × {len(windows)} {which}, {SAMPLES:,} samples of 784 B: one request "
        f"{median(together):.3g} s; a request for each pair {median(alone) * 1e3:.3g} ms, × {len(pairs)} (measured: "
        f"{len(alone)} random ones); same services, intervals and confusion matrices, no baselines, nothing reused; "
        f"median of {ROUNDS} rounds"
    )
    return Result(median(ratios), "×", baseline, target, at_most=False)

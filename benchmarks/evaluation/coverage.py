"""How often confidence intervals of 95 % hold the truth.

    python -m benchmarks.evaluation.coverage

writes the section of ``benchmarks/RESULTS.md`` (some minutes); ``measure`` is the part on AR(1) streams.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.evaluation.score_streams import STREAMS, Streams, autoregressive, samples_right, score_streams
from benchmarks.results import Result, save_section
from modyn.core.plugins.evaluation import Float64Array
from modyn.evaluator.long_run import DRAWS, block_length
from modyn.evaluator.uncertainty import block_edges, mean_interval, statistic_intervals

LEVEL = 0.95
LENGTHS = (30, 50, 100, 200, 500, 1000)
COEFFICIENTS = (-0.3, 0.0, 0.3, 0.6, 0.8)

SHORT = (12, 20)
HARD = 0.9
"""Told in the section, but no part of the target: series too short, or dependence too strong, for any method."""

PLAIN = 300
"""Streams of a cell that the usual bootstrap is tried on."""

OTHER_LENGTHS = (30, 100, 300)
WINDOW_SIZES = (50, 100, 200, 500, 2000)
ACCURACIES, CORRELATIONS = (0.5, 0.8, 0.9, 0.95, 0.99), (0.0, 0.3, 0.6)

LOW, HIGH = "evaluation.coverage_low", "evaluation.coverage_high"
NAMES = (LOW, HIGH)


@dataclass(frozen=True)
class Cell:
    """Intervals of one kind of stream.

    Attributes:
        runs: streams.
        covered: share of intervals that hold the truth.
        plain: the same of quantiles of block means, on some of the runs; NaN where it was not asked for.
        width: median width over that of an interval by somebody who knows the error of the mean.
    """

    runs: int
    covered: float
    plain: float
    width: float


def measure() -> dict[str, Result]:
    """The smallest and the largest coverage over the grid."""
    grid = [(phi, n) for n in LENGTHS for phi in COEFFICIENTS]
    cells = dict(zip(grid, _all(partial(_autoregressive, plain=0), grid), strict=True))
    lowest, highest = (choose(cells, key=lambda key: cells[key].covered) for choose in (min, max))
    told = (
        "coverage of 95 % intervals of the mean of AR(1) streams, {}: φ = {}, n = {}, {:,} runs (binomial error {:.4f})"
    )
    results = {}
    for name, what, key, target, at_most in (
        (LOW, "smallest", lowest, 0.93, False),
        (HIGH, "largest", highest, 0.97, True),
    ):
        runs = cells[key].runs
        text = told.format(f"{what} of {len(grid)} cells", *key, runs, math.sqrt(LEVEL * (1 - LEVEL) / runs))
        results[name] = Result(cells[key].covered, "of intervals", text, target, at_most)
    return results


def section() -> str:
    """The whole study as Markdown."""
    every = [(phi, n) for phi in (*COEFFICIENTS, HARD) for n in (*SHORT, *LENGTHS)]
    known = dict(zip(every, _all(partial(_autoregressive, plain=PLAIN), every), strict=True))
    others = [(name, n) for name in STREAMS for n in OTHER_LENGTHS]
    strange = dict(zip(others, _all(_other, others), strict=True))
    windows = [((accuracy, rho), n) for accuracy in ACCURACIES for rho in CORRELATIONS for n in WINDOW_SIZES]
    inside = dict(zip(windows, _all(_window, windows), strict=True))
    return "".join(
        (
            _TEXT,
            _table("φ", known, lambda cell: f"{cell.covered:.3f} ({cell.width:.1f} ×)"),
            f"\nThe usual block bootstrap (quantiles of the means of drawn blocks), on {PLAIN} streams a cell:\n\n",
            _table("φ", known, lambda cell: f"{cell.plain:.2f}"),
            _OTHERS,
            _table("stream", strange, lambda cell: f"{cell.covered:.3f} ({cell.width:.1f} ×)"),
            _WINDOWS,
            _table("accuracy, correlation", inside, lambda cell: f"{cell.covered:.3f} ({cell.width:.1f} ×)"),
        )
    )


def _table(corner: str, cells: Mapping[tuple[Any, int], Cell], tell: Callable[[Cell], str]) -> str:
    rows, lengths = dict.fromkeys(row for row, _ in cells), dict.fromkeys(n for _, n in cells)
    lines = [[corner, *(f"n = {n:,}" for n in lengths)], ["---", *["---:"] * len(lengths)]]
    for row in rows:
        name = row if isinstance(row, str) else ", ".join(f"{number:g}" for number in np.atleast_1d(row))
        lines.append([name, *(tell(cells[row, n]) for n in lengths)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _all(task: Callable[..., Cell], keys: Sequence[tuple[Any, int]]) -> list[Cell]:
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), threadpool_limits, (1,)) as pool:
        return list(pool.map(task, *zip(*keys, strict=True)))


def _random(*key: object) -> np.random.Generator:
    return np.random.default_rng(list(repr(key).encode()))


def _autoregressive(phi: float, n: int, *, plain: int) -> Cell:
    streams = autoregressive(2000 if n <= 200 else 1000, n, phi, _random(phi, n)), 0.0
    return _covered(streams, plain)


def _other(name: str, n: int) -> Cell:
    return _covered(score_streams(name, 1000, n, _random(name, n)), 0)


def _covered(streams: Streams, plain: int) -> Cell:
    values, truth = streams
    hits, widths = 0, []
    for run, stream in enumerate(values):
        interval = mean_interval(stream, level=LEVEL, seed=run)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
    ideal = 2 * 1.96 * float(values.mean(axis=1).std())
    usual = (
        np.mean([_plain_holds(stream, truth, run) for run, stream in enumerate(values[:plain])]) if plain else np.nan
    )
    runs = len(values)
    return Cell(runs, hits / runs, float(usual), float(np.median(widths)) / ideal)


def _plain_holds(stream: Float64Array, truth: float, seed: int) -> bool:
    n = len(stream)
    length = block_length(stream - stream.mean())
    starts = np.random.default_rng(seed).integers(0, n, size=(DRAWS, -(-n // length)))
    places = (starts[:, :, np.newaxis] + np.arange(length)).reshape(DRAWS, -1)[:, :n] % n
    low, high = np.quantile(stream[places].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return bool(low <= truth <= high)


def _window(kind: tuple[float, float], n: int) -> Cell:
    accuracy, repeating = kind
    right = samples_right(4000, n, accuracy, repeating, _random(accuracy, repeating, n))
    edges = block_edges(n)
    sizes = np.broadcast_to(np.diff(edges).astype(np.float64), (len(right), len(edges) - 1))
    blocks = np.stack([np.add.reduceat(right, edges[:-1], axis=1), sizes], axis=-1)
    low, high = statistic_intervals(blocks, _share, level=LEVEL, samples=np.full(len(right), n))
    held = float(np.mean((low <= accuracy) & (accuracy <= high)))
    ideal = 2 * 1.96 * float(right.mean(axis=1).std())
    return Cell(len(right), held, math.nan, float(np.median(high - low)) / ideal)


def _share(statistics: Float64Array) -> Float64Array:
    share: Float64Array = statistics[..., 0] / statistics[..., 1]
    return share


_TEXT = """## Coverage of confidence intervals

How often intervals of 95 % hold the truth; in brackets the median width over that of an interval by somebody who knows
how far the mean is off. 2,000 runs a cell up to n = 200 and 1,000 beyond (binomial error .005 and .007). Written by
`python -m benchmarks.evaluation.coverage`.

Means of AR(1) streams of n scores. From n = 30 on and up to φ = .8, coverage is meant to be between .93 and .97; the
rest is told. As a measure of how little there is to go by: n scores say as much of the mean as n (1 - φ) / (1 + φ)
independent ones, which are 3 for n = 30 and φ = .8.

"""

_OTHERS = """
Means of other streams, 1,000 runs a cell. A slow change under noise of the same size is the hard case: on short
streams it cannot be seen, and the intervals are too narrow. A shift of the level counts as a slow change, and the
intervals are too long.

"""

_WINDOWS = """
Accuracy of one window of n samples, 4,000 runs a cell: whether a sample is right correlates with whether the last one
was. Where hardly a sample is wrong, no interval holds the truth in 95 of 100 cases: the few counts there are allow for
more or for less. Short windows hide strong dependence.

"""


if __name__ == "__main__":
    save_section("uncertainty-coverage", section())
    missed = [f"{name} = {result.value:.4f}" for name, result in measure().items() if not result.holds]
    sys.exit(", ".join(missed) or None)

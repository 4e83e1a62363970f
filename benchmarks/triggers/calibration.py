"""How often drift tests fire: without drift on streams of all kinds, and with drift that is known.

A study takes long, so it is made in parts that are kept in a folder; what is there is not made again. See
``benchmarks.triggers.studies``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.drift import DRIFT_METRICS, DriftMetric
from modyn.core.plugins.triggers import Features
from tests.helpers.autocorrelated import autoregressive, seasonal

METRICS = (
    "MMD",
    "CrossMMD",
    "KolmogorovSmirnov",
    "CramerVonMises",
    "Hellinger",
    "MeanDistance",
    "ClassifierTwoSample",
    "ComponentRatio",
)
ALPHAS = (0.05, 0.01)
PERMUTATIONS = 100
PART = 100  # runs that are kept together
UNBLOCKED_SHARE = 5  # one run of so many is made without blocks too: they flag so much that few suffice

STREAMS: dict[str, tuple[float, bool]] = {
    "i.i.d.": (0.0, False),
    "AR(1) .5": (0.5, False),
    "AR(1) .9": (0.9, False),
    "AR(1) .5 + season": (0.5, True),
    "AR(1) .9 + season": (0.9, True),
}
"""phi, and whether there is a season of 48 samples whose variance is that of the rest."""

Draw = Callable[[int], tuple[Features, Features]]


@dataclass(frozen=True)
class Case:
    """Two windows without drift.

    Attributes:
        stream: see :data:`STREAMS`.
        samples: in each window.
        features: numbers per sample.
        runs: how often it is drawn.
    """

    stream: str
    samples: int
    features: int
    runs: int

    def draw(self, run: int) -> tuple[Features, Features]:
        """The windows of a run, always the same."""
        phi, has_season = STREAMS[self.stream]
        seed = (17, run, self.samples, self.features)
        stream = autoregressive(2 * self.samples, self.features, phi, seed)
        if has_season:
            stream = seasonal(stream, start=run)
        return stream[: self.samples], stream[self.samples :]

    @property
    def name(self) -> str:
        return f"{self.stream}, n = {self.samples:,}, d = {self.features}"


CASES = tuple(
    Case(stream, samples, features, runs)
    for samples, features, runs in ((100, 1, 2000), (100, 8, 2000), (1000, 1, 2000), (1000, 8, 2000), (5000, 8, 500))
    for stream in STREAMS
)


@dataclass(frozen=True)
class Row:
    """Of a metric's test in one case.

    Attributes:
        metric, case, alpha: what was tested.
        runs: how often.
        flagged: share of the runs in which it fired.
        too_short: share in which it said that the windows are too short.
        unblocked: share in which it fires with blocks of one sample; NaN if that was not measured.
    """

    metric: str
    case: str
    alpha: float
    runs: int
    flagged: float
    too_short: float
    unblocked: float


def metric(name: str) -> DriftMetric:
    """A drift metric with defaults."""
    return DRIFT_METRICS.parse({"id": name, "decision_criterion": {"id": "HypothesisTestCriterion"}})


def p_values(
    draw: Draw, runs: Iterable[int], metrics: Sequence[str] = METRICS, block_length: int | None = None
) -> npt.NDArray[np.float64]:
    """p-values of tests, NaN where the windows are too short, float64 [runs, metrics, alphas]."""
    made = [metric(name) for name in metrics]
    rows = []
    for run in runs:
        reference, current = draw(run)
        rows.append([_of_both_rates(one, reference, current, block_length, run) for one in made])
    return np.array(rows, dtype=np.float64)


def _of_both_rates(
    metric: DriftMetric, reference: Features, current: Features, block_length: int | None, run: int
) -> list[float]:
    """For each rate, the strictest last: the same p-value, unless the windows are too short for the stricter one."""
    found: list[float] = []
    for alpha in sorted(ALPHAS):
        result = metric.test(
            reference,
            current,
            alpha=alpha,
            permutations=PERMUTATIONS,
            block_length=block_length,
            rng=np.random.default_rng((23, run)),
        )
        found.append(np.nan if result.p_value is None else result.p_value)
        if result.p_value is not None:
            break
    found += [found[-1]] * (len(ALPHAS) - len(found))
    return found[::-1]


def rows(
    case: str, blocked: npt.NDArray[np.float64], unblocked: npt.NDArray[np.float64], metrics: Sequence[str] = METRICS
) -> Iterator[Row]:
    """What p-values [runs, metrics, alphas] say."""
    for number, name in enumerate(metrics):
        for column, alpha in enumerate(ALPHAS):
            mine, other = blocked[:, number, column], unblocked[:, number, column]
            flagged, too_short = float(np.mean(mine <= alpha)), float(np.mean(np.isnan(mine)))
            without = float(np.mean(other <= alpha)) if len(other) else float("nan")
            yield Row(name, case, alpha, len(mine), flagged, too_short, without)


def study(folder: Path, cases: Sequence[Case] = CASES, processes: int = 2) -> list[Row]:
    """False alarms of all metrics; makes what is not in the folder yet, over so many processes."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(folder, case, start) for case in cases for start in range(0, case.runs, PART)]
    missing = [part for part in wanted if not _file(*part).exists()]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for number, _ in enumerate(pool.map(_make, missing)):
            print(f"{number + 1} of {len(missing)} parts", flush=True)
    blocked, unblocked = defaultdict(list), defaultdict(list)
    for part in wanted:
        with np.load(_file(*part)) as saved:
            blocked[part[1]].append(saved["blocked"])
            unblocked[part[1]].append(saved["unblocked"])
    return [
        row for case in cases for row in rows(case.name, np.concatenate(blocked[case]), np.concatenate(unblocked[case]))
    ]


def _file(folder: Path, case: Case, start: int) -> Path:
    stream = "".join(letter if letter.isalnum() else "_" for letter in case.stream)
    return folder / f"{stream}-{case.samples}-{case.features}-{start}.npz"


def _make(part: tuple[Path, Case, int]) -> None:
    folder, case, start = part
    runs = range(start, min(start + PART, case.runs))
    blocked = p_values(case.draw, runs)
    unblocked = p_values(case.draw, runs[: max(1, len(runs) // UNBLOCKED_SHARE)], block_length=1)
    partial = _file(folder, case, start).with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, blocked=blocked, unblocked=unblocked)
    partial.rename(_file(folder, case, start))


def holds(row: Row) -> bool:
    """Whether false alarms are as many as they should be: on i.i.d. data within 1.5 points of 5 % and .7 of 1 %, on
    others at most 2 and 1 points more. Three standard errors of the runs are allowed on top where they are few."""
    slack = {0.05: (0.015, 0.02), 0.01: (0.007, 0.01)}[row.alpha]
    noise = 0.0 if row.runs >= 2000 else 3 * float(np.sqrt(row.alpha * (1 - row.alpha) / row.runs))
    if row.case.startswith("i.i.d."):
        # windows that are too short are so by chance, whatever the p-value would have been
        return abs(row.flagged - row.alpha) <= slack[0] + noise + row.alpha * row.too_short
    return row.flagged <= row.alpha + slack[1] + noise


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    lines = [
        "| case | metric | α | runs | flagged | without blocks | too short | holds |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        without = "–" if np.isnan(row.unblocked) else f"{row.unblocked:.3f}"
        lines.append(
            f"| {row.case} | {row.metric} | {row.alpha:g} | {row.runs:,} | {row.flagged:.4f} | {without} "
            f"| {row.too_short:.3f} | {'yes' if holds(row) else '**no**'} |"
        )
    return "\n".join(lines) + "\n"


SAMPLES, FEATURES, FACTORS = 200, 64, 16
SHARED = 0.75  # of a feature's variance, that it shares with others


def _drifting(kind: str) -> Draw:
    """Windows of normal features that share factors, whose newer one drifts in some way."""

    def draw(run: int) -> tuple[Features, Features]:
        rng = np.random.default_rng((29, run))
        loadings = np.random.default_rng(31).normal(size=(FACTORS, FEATURES))
        pooled = _correlated(rng, 2 * SAMPLES, loadings)
        reference, current = pooled[:SAMPLES], pooled[SAMPLES:]
        if kind == "mean of one feature + .5":
            current[:, 0] += 0.5
        elif kind == "mean of all + .15":
            current += 0.15
        elif kind == "scale × 1.15":
            current *= 1.15
        elif kind == "correlation only":
            current = _correlated(rng, SAMPLES, np.random.default_rng(37).normal(size=(FACTORS, FEATURES)))
        elif kind == "15 % mixture":
            current[rng.uniform(size=SAMPLES) < 0.15] += 1
        return reference, current

    return draw


def _correlated(rng: np.random.Generator, samples: int, loadings: npt.NDArray[np.float64]) -> Features:
    """Features of variance 1 with :data:`SHARED` of it in common factors."""
    shared = rng.normal(size=(samples, FACTORS)) @ (loadings / np.linalg.norm(loadings, axis=0))
    own = rng.normal(size=(samples, FEATURES))
    return np.asarray(np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own, dtype=np.float32)


DRIFTS = (
    "no drift",
    "mean of one feature + .5",
    "mean of all + .15",
    "scale × 1.15",
    "correlation only",
    "15 % mixture",
)


def power(runs: int = 200, metrics: Sequence[str] = METRICS, drifts: Sequence[str] = DRIFTS) -> list[Row]:
    """How often known drift is found, in windows of 200 samples of 64 correlated features."""
    none = np.zeros((0, len(metrics), len(ALPHAS)))
    return [
        row for kind in drifts for row in rows(kind, p_values(_drifting(kind), range(runs), metrics), none, metrics)
    ]


def power_table(rows: Sequence[Row], alpha: float = ALPHAS[0]) -> str:
    """Markdown: share of runs in which drift was found."""
    kinds = list(dict.fromkeys(row.case for row in rows))
    lines = ["| metric | " + " | ".join(kinds) + " |", "|---|" + "---:|" * len(kinds)]
    for name in dict.fromkeys(row.metric for row in rows):
        shares = {row.case: row.flagged for row in rows if row.metric == name and row.alpha == alpha}
        lines.append(f"| {name} | " + " | ".join(f"{shares[kind]:.2f}" for kind in kinds) + " |")
    return "\n".join(lines) + "\n"

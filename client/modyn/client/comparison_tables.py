"""A comparison as Arrow tables with fixed schemas."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from modyn.client.columns import ResultTable, column, fields, interval_columns, score_name_columns
from modyn.client.compared_scores import COSTS, ComparedScore, GroupScore, ParetoPoint, total_seconds
from modyn.client.comparison import Comparison
from modyn.core.report import CostPart, DifferencePart, PipelinePart, Report, RunPart


class _Run(NamedTuple):
    position: int
    report: Report
    group: int | None


class _Score(NamedTuple):
    """A run's part of a compared score."""

    comparison: Comparison
    score: ComparedScore
    run: int

    @property
    def id(self) -> str:
        return self.comparison.runs[self.run].report.pipeline.id

    @property
    def to_best(self) -> DifferencePart | None:
        return self.score.to_best[self.run]

    @property
    def to_reference(self) -> DifferencePart | None:
        reference = self.comparison.reference
        return None if reference is None else self.score.differences(reference)[self.run]


def comparison_tables(comparison: Comparison) -> dict[str, pa.Table]:
    """All of :data:`TABLES` by name."""
    return {name: table.of(comparison) for name, table in TABLES.items()}


def _runs(comparison: Comparison) -> Iterator[_Run]:
    groups = {run: number for number, group in enumerate(comparison.groups) for run in group.runs}
    return (_Run(position, report, groups.get(position)) for position, report in enumerate(comparison.reports))


def _scores(comparison: Comparison) -> Iterator[_Score]:
    return (_Score(comparison, score, run) for score in comparison.scores for run in range(len(comparison.runs)))


def _windows(comparison: Comparison) -> Iterator[tuple[_Score, int, int, float]]:
    for row in _scores(comparison):
        values = row.score.values[row.run].tolist()
        for (start, end), value in zip(row.score.windows.tolist(), values, strict=True):
            yield row, start, end, value


def _points(comparison: Comparison) -> Iterator[tuple[_Score, str, ParetoPoint]]:
    for score in comparison.whole_scores:
        for cost in COSTS:
            for point in comparison.points(score.where, cost):
                yield _Score(comparison, score, point.run), cost, point


def _groups(comparison: Comparison) -> Iterator[tuple[ComparedScore, int, GroupScore]]:
    for score in comparison.scores:
        for found in score.over_seeds:
            yield score, comparison.groups.index(found.group), found


def _score_keys(score: Any) -> list[Any]:
    return [
        column("handler", str, "Name of the evaluation handler.", lambda row: score(row).where[0]),
        column("dataset", str, "Evaluation dataset.", lambda row: score(row).where[1]),
        *score_name_columns(lambda row: score(row).where[2]),
    ]


def _mean(difference: DifferencePart | None) -> float | None:
    return None if difference is None else difference.mean


def _interval(difference: DifferencePart | None) -> Any:
    return None if difference is None else difference.interval


_PIPELINE_ID = "Id of the run's pipeline."

TABLES: dict[str, ResultTable] = {
    "runs": ResultTable(
        "A row per run: what it is and what it cost. Reused results count with their original cost.",
        [
            *fields(PipelinePart, "id", "name", "status", "dataset", of=lambda row: row.report.pipeline),
            *fields(RunPart, "mode", "order", "seed", of=lambda row: row.report.run),
            column("seed_group", int, "Runs with the same number equal each other but for the seed.", itemgetter(2)),
            *fields(CostPart, of=lambda row: row.report.cost),
            column(
                "total_seconds",
                float,
                COSTS["total_seconds"][0].capitalize() + ".",
                lambda row: total_seconds(row.report.cost),
            ),
        ],
        _runs,
    ),
    "scores": ResultTable(
        "A row per score and run.",
        [
            column("run", str, _PIPELINE_ID, lambda row: row.id),
            *_score_keys(lambda row: row.score),
            column("greater_is_better", bool, "False for losses and errors.", lambda row: row.score.greater_is_better),
            column(
                "composite",
                float,
                "Currently active score over the run's own windows.",
                lambda row: row.score.composite[row.run],
            ),
            column("windows", int, "Windows in which every run has an active model.", lambda row: row.score.num_common),
            column("common", float, "Plain mean over these windows.", lambda row: row.score.common[row.run]),
            *interval_columns(lambda row: row.score.intervals[row.run], what="`common`"),
            column(
                "common_time_weighted",
                float,
                "The same mean weighted by the length of the windows.",
                lambda row: row.score.common_time_weighted[row.run],
            ),
            column("best", bool, "Whether it has the best mean.", lambda row: row.score.best == row.run),
            column(
                "to_best",
                float,
                "Mean, window by window, of its score less that of the best run; null for that run itself.",
                lambda row: _mean(row.to_best),
            ),
            *interval_columns(lambda row: _interval(row.to_best), prefix="to_best_", what="`to_best`"),
            column(
                "to_reference",
                float,
                "The same less the score of the chosen reference; null without one.",
                lambda row: _mean(row.to_reference),
            ),
            *interval_columns(lambda row: _interval(row.to_reference), prefix="to_reference_", what="`to_reference`"),
        ],
        _scores,
    ),
    "windows": ResultTable(
        "A row per score, run and window in which every run has an active model.",
        [
            column("run", str, _PIPELINE_ID, lambda row: row[0].id),
            *_score_keys(lambda row: row[0].score),
            column("start", int, "Of the window, Unix seconds, inclusive.", itemgetter(1)),
            column("end", int, "Of the window, Unix seconds, exclusive.", itemgetter(2)),
            column("currently_active", float, "Score of the run's active model.", itemgetter(3)),
        ],
        _windows,
    ),
    "pareto": ResultTable(
        "A row per score of all samples and classes, cost and run: the points of accuracy against cost.",
        [
            column("run", str, _PIPELINE_ID, lambda row: row[0].id),
            *_score_keys(lambda row: row[0].score),
            column("cost", str, f"What it is weighed against: {', '.join(COSTS)}.", itemgetter(1)),
            column("cost_value", float, "How much of it the run took.", lambda row: row[2].cost),
            column("common", float, "Mean over the common windows.", lambda row: row[2].score),
            column(
                "optimal",
                bool,
                "No other run is at least as cheap and at least as good, and better in one of both.",
                lambda row: row[2].optimal,
            ),
        ],
        _points,
    ),
    "seeds": ResultTable(
        "A row per score and group of runs that equal each other but for their seed.",
        [
            column("seed_group", int, "As in `runs`.", itemgetter(1)),
            *_score_keys(itemgetter(0)),
            column("seeds", int, "How many.", lambda row: len(row[2].values)),
            column("mean", float, "Over the seeds, of the mean over the common windows.", lambda row: row[2].mean),
            *interval_columns(lambda row: row[2].interval, what="`mean` over seeds"),
        ],
        _groups,
    ),
}
"""All tables by name."""

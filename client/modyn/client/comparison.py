"""Several reports side by side, compared only where all of them can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from modyn.client.markdown import number
from modyn.client.tables import composite_scores, console
from modyn.core.report import Report


@dataclass(frozen=True)
class ComparedScore:
    """One metric over all reports.

    Attributes:
        where: handler, dataset, metric.
        composite: the currently active score of each report over its own windows.
        common: means over the windows in which every report has an active model; None if there are none.
        num_common: how many those are.
    """

    where: tuple[str, str, str]
    composite: list[float | None]
    common: list[float | None]
    num_common: int


def compare(reports: Sequence[Report]) -> list[ComparedScore]:
    """All metrics that every report has."""
    tables = [{(h, d, m): score for h, d, m, score in composite_scores(report)} for report in reports]
    shared = [where for where in tables[0] if all(where in table for table in tables)]
    return [_compare(where, reports, [table[where].currently_active for table in tables]) for where in shared]


def _compare(where: tuple[str, str, str], reports: Sequence[Report], composite: list[float | None]) -> ComparedScore:
    scores = [_window_scores(report, *where) for report in reports]
    windows = sorted(set.intersection(*(set(table) for table in scores)))
    means = [sum(table[window] for window in windows) / len(windows) if windows else None for table in scores]
    return ComparedScore(where, composite, means, len(windows))


def _window_scores(report: Report, handler: str, dataset: str, metric: str) -> dict[tuple[int, int], float]:
    found = {
        (w.start, w.end): w.scores[metric].currently_active
        for w in report.windows
        if (w.handler, w.dataset) == (handler, dataset) and metric in w.scores
    }
    return {window: value for window, value in found.items() if value is not None}


def print_comparison(reports: Sequence[Report]) -> None:
    """A column per report."""
    table = Table(title="comparison", title_justify="left")
    table.add_column("")
    for report in reports:
        table.add_column(f"{report.pipeline.id} {report.pipeline.name}", overflow="fold", justify="right")
    table.add_row("status", *(r.pipeline.status for r in reports))
    table.add_row("dataset", *(r.pipeline.dataset for r in reports))
    table.add_row("triggers", *(f"{len(r.triggers):,}" for r in reports))
    table.add_row("samples trained", *(f"{r.cost.samples_trained:,}" for r in reports))
    table.add_row("train seconds", *(f"{r.cost.train_seconds:.2f}" for r in reports))
    table.add_row("evaluate seconds", *(f"{r.cost.evaluate_seconds:.2f}" for r in reports))
    table.add_row("wall seconds", *(f"{r.cost.wall_seconds:.2f}" for r in reports))
    compared = compare(reports)
    for score in compared:
        name = "/".join(score.where)
        table.add_section()
        table.add_row(f"{name} currently active", *(number(value) for value in score.composite))
        table.add_row(f"  on {score.num_common} common windows", *(number(value) for value in score.common))
    out = console()
    out.print(table)
    if not compared:
        out.print("The runs share no handler, dataset and metric, so their scores cannot be compared.")

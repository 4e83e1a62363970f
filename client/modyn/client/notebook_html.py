"""What a notebook shows of a result: a small table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from modyn.client.compared_scores import total_seconds
from modyn.client.composites import whole_scores
from modyn.client.options import amount
from modyn.client.wording import interpretation, interval, number, signed, with_interval
from modyn.core.report import Report

if TYPE_CHECKING:
    from modyn.client.comparison import Comparison


def result_summary(report: Report) -> str:
    """Status, composite scores and what they cost, as HTML."""
    pipeline, cost = report.pipeline, report.cost
    said = f"{pipeline.name} (pipeline {pipeline.id}): {pipeline.status}"
    counted = (
        f"{amount(len(report.triggers), 'trigger')}, {amount(cost.trainings, 'training')}, "
        f"{amount(cost.samples_trained, 'sample pass')}".replace("passs", "passes")
        + f", {cost.train_seconds:.1f} s trained, {cost.wall_seconds:.1f} s in all"
    )
    lines = [f"<p><strong>{escape(said)}</strong><br>{escape(counted)}</p>"]
    if pipeline.error is not None:
        lines.append(f"<p>{escape(pipeline.error)}</p>")
    rows = [
        (
            *(f"{handler}/{dataset}", metric, with_interval(score.currently_active, score.interval)),
            *(with_interval(score.currently_trained, score.trained_interval), interpretation(score)),
        )
        for handler, dataset, metric, score in whole_scores(report)
    ]
    if rows:
        lines.append(_table(("handler", "metric", "currently active", "currently trained", "what it says"), rows))
    return "\n".join(lines)


def comparison_summary(comparison: Comparison) -> str:
    """A row per run and score of all samples and classes, as HTML."""
    header = ("metric", "run", "trainings", "train s", "total s", "common windows", "mean", "less the best")
    rows = []
    for score in comparison.whole_scores:
        for index, run in enumerate(comparison.runs):
            cost, difference = run.report.cost, score.to_best[index]
            less = "" if difference is None else f"{signed(difference.mean)} {interval(difference.interval)}".rstrip()
            rows.append(
                (
                    *(score.name, run.name, f"{cost.trainings:,}", f"{cost.train_seconds:.1f}"),
                    *(f"{total_seconds(cost):.1f}", f"{score.num_common:,}"),
                    f"{number(score.common[index])} {interval(score.intervals[index])}".rstrip(),
                    "best" if index == score.best else less,
                )
            )
    notices = "".join(f"<p>{escape(notice)}</p>" for notice in comparison.notices)
    return _table(header, rows) + notices


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

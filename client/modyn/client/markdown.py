"""``report.md``: the report for people."""

from __future__ import annotations

from modyn.client.costs import cost_rows, failed_at_once
from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.explanations import count, shown_table, worth_showing
from modyn.client.markdown_scores import score_sections
from modyn.client.options import format_time
from modyn.client.settings import evaluation_settings
from modyn.client.text_tables import markdown_table
from modyn.client.wording import number
from modyn.core.report import Report

TRIGGER_PLOT_FILE = "triggers.svg"
"""Beside ``report.md``, where there is anything to draw."""

EVALUATIONS_SHOWN = 10
"""How many of the trigger's evaluations stand in the report; ``triggers`` shows all."""


def report_markdown(report: Report, *, has_plot: bool = False) -> str:
    """Summary, composite scores beside the no-model baselines, triggers and why they fired, whether downsampling
    paid, cost.

    Args:
        report: of the run.
        has_plot: :data:`TRIGGER_PLOT_FILE` stands beside the text.
    """
    parts = [f"# {report.pipeline.name}", *_summary(report), *score_sections(report), *_triggers(report)]
    parts += [*_why(report, has_plot=has_plot), *_downsampling(report), *_cost(report)]
    return "\n".join(parts) + "\n"


def _summary(report: Report) -> list[str]:
    pipeline, run, cost = report.pipeline, report.run, report.cost
    status = pipeline.status if pipeline.error is None else f"{pipeline.status}: {pipeline.error.splitlines()[0]}"
    mode = f"{run.mode} of the trigger alone (simulated, nothing was trained)" if run.simulated else run.mode
    lines = ["", *([pipeline.description, ""] if pipeline.description else [])]
    rows = [
        ("pipeline", f"`{pipeline.name}`" + (f", version {pipeline.version}" if pipeline.version else "")),
        ("id", pipeline.id),
        ("status", status),
        ("dataset", f"`{pipeline.dataset}`"),
        ("run", f"{mode}, in order of {'event time' if run.order == 'event' else 'arrival'}, seed {run.seed}"),
        (
            "data",
            f"{run.samples_seen:,} samples, {format_time(run.first_timestamp)} to {format_time(run.last_timestamp)}",
        ),
        ("triggers", f"{len(report.triggers):,}"),
        ("trainings", f"{cost.trainings:,} ({cost.trainings_reused:,} reused from earlier runs)"),
        *evaluation_settings(report),
        ("wall time", f"{cost.wall_seconds:.1f} s"),
        ("modyn", report.modyn_version),
    ]
    lines += markdown_table(("", ""), rows)
    for title, items in (("Notices", pipeline.notices), ("Failed evaluations", report.failures)):
        if items:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in items)]
    return lines


def _triggers(report: Report) -> list[str]:
    lines = ["", "## Triggers", ""]
    if not report.triggers:
        return [*lines, "No trigger fired."]
    header = (
        "#",
        "data clock",
        "reason",
        "new",
        "trained on",
        "loss",
        "select s",
        "train s",
        "evaluate s",
        "first batch ms",
    )
    rows = [
        (
            str(t.index),
            format_time(t.timestamp),
            t.reason,
            f"{t.new_samples:,}",
            f"{t.samples:,}" + (" (reused)" if t.reused else " (failed)" if t.error is not None else ""),
            number(t.final_loss),
            number(t.seconds.select, 3),
            number(t.seconds.train, 2),
            number(t.seconds.evaluate, 2),
            number(t.first_batch_ms, 0),
        )
        for t in report.triggers
    ]
    return [*lines, *markdown_table(header, rows)]


def _why(report: Report, *, has_plot: bool) -> list[str]:
    evaluations = report.trigger_evaluations
    if not worth_showing(evaluations):
        return []
    lines = ["", "### Why it fired, or did not", "", f"{count(evaluations)}.", ""]
    if has_plot:
        lines += [f"![Statistics and thresholds over data time]({TRIGGER_PLOT_FILE})", ""]
    if len(evaluations) > EVALUATIONS_SHOWN:
        lines += [f"The last {EVALUATIONS_SHOWN}; `modyn-client triggers {report.pipeline.id}` shows all:", ""]
    return [*lines, *markdown_table(*shown_table(evaluations[-EVALUATIONS_SHOWN:]))]


def _downsampling(report: Report) -> list[str]:
    part = report.downsampling
    if part is None:
        return []
    lines = ["", f"## {TITLE}", "", part.verdict, "", *markdown_table(("", ""), facts(part))]
    header, rows = comparison(report)
    if rows:
        lines += ["", "With as many passes, the currently active scores:", "", *markdown_table(header, rows)]
    return lines


def _cost(report: Report) -> list[str]:
    if failed_at_once(report):
        return []
    lines = ["", "## Cost", "", "Reused results count with their original cost.", ""]
    return [*lines, *markdown_table(("what", "cost"), cost_rows(report))]

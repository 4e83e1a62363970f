"""``report.md``: the report for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.explanations import count, shown_table, worth_showing
from modyn.client.options import format_time
from modyn.core.report import CompositeScore, Report

TRIGGER_PLOT_FILE = "triggers.svg"
"""Beside ``report.md``, where there is anything to draw."""

EVALUATIONS_SHOWN = 10
"""How many of the trigger's evaluations stand in the report; ``triggers`` shows all."""

INSIGNIFICANT = 0.005
"""Differences of means below this are called no difference."""


def report_markdown(report: Report, *, has_plot: bool = False) -> str:
    """Summary, composite scores beside the no-model baselines, triggers and why they fired, whether downsampling
    paid, cost.

    Args:
        report: of the run.
        has_plot: :data:`TRIGGER_PLOT_FILE` stands beside the text.
    """
    parts = [f"# {report.pipeline.name}", *_summary(report), *_composite(report), *_triggers(report)]
    parts += [*_why(report, has_plot=has_plot), *_downsampling(report), *_cost(report)]
    return "\n".join(parts) + "\n"


def interpretation(score: CompositeScore) -> str:
    """One honest sentence or two on a composite score."""
    active = score.currently_active
    if active is None and score.currently_trained is not None:
        return "Only the currently trained models were scored."
    if active is None:
        return (
            f"No window could be scored: {score.windows_without_model} had no trained model yet, "
            f"{score.windows_empty} had no labelled samples, and on {score.windows_undefined} the metric has no value."
        )
    known = {name: value for name, value in score.baselines.items() if value is not None}
    counted = f"Mean over {_count(score.windows_scored, 'window')} in which a model was active."
    if not known:
        return counted
    best = max(known, key=lambda name: known[name])
    gain = active - known[best]
    what = f"the best baseline without any model ({readable(best)}, {known[best]:.4f})"
    if gain > INSIGNIFICANT:
        return f"{counted} The pipeline beats {what} by {gain:.4f}."
    if gain >= -INSIGNIFICANT:
        return f"{counted} That is no better than {what}: the figure shows no skill of the models."
    return (
        f"{counted} It stays {-gain:.4f} below {what}: on this stream the figure must not be mistaken for skill, "
        "a rule without a model does better."
    )


def readable(name: str) -> str:
    """A baseline's name in words."""
    return name.replace("_", " ")


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


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
        ("wall time", f"{cost.wall_seconds:.1f} s"),
        ("modyn", report.modyn_version),
    ]
    lines += _table(("", ""), rows)
    for title, items in (("Notices", pipeline.notices), ("Failed evaluations", report.failures)):
        if items:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in items)]
    return lines


def _composite(report: Report) -> list[str]:
    lines = ["", "## Composite scores", ""]
    if not report.composite:
        advice = (
            "; an `evaluation` section would say what the models are worth" if report.pipeline.error is None else ""
        )
        return [*lines, f"Nothing was evaluated{advice}."]
    lines.append(
        "*Currently active*: every window is scored with the model that was live when it began: the last one trained "
        "only on data from before. *Currently trained*: with the next model, whose training data may reach into the "
        "window, so it is optimistic, and on all windows with a score, also the first ones without an active model; "
        "– if the handler does not score these models. Baselines use no model and are scored on the same windows as "
        "currently active."
    )
    for handler, datasets in report.composite.items():
        for dataset, metrics in datasets.items():
            names = sorted({name for score in metrics.values() for name in score.baselines})
            header = ("metric", "currently active", "currently trained", *(readable(name) for name in names))
            header += ("windows scored", "empty", "without model", "undefined")
            rows = [
                (
                    metric,
                    f"**{number(score.currently_active)}**",
                    number(score.currently_trained),
                    *(number(score.baselines.get(name)) for name in names),
                    str(score.windows_scored),
                    str(score.windows_empty),
                    str(score.windows_without_model),
                    str(score.windows_undefined),
                )
                for metric, score in metrics.items()
            ]
            lines += ["", f"### {handler} on {dataset}", "", *_table(header, rows), ""]
            lines += [f"- {metric}: {interpretation(score)}" for metric, score in metrics.items()]
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
            f"{t.samples:,}" + (" (reused)" if t.reused else ""),
            number(t.final_loss),
            number(t.seconds.select, 3),
            number(t.seconds.train, 2),
            number(t.seconds.evaluate, 2),
            number(t.first_batch_ms, 0),
        )
        for t in report.triggers
    ]
    return [*lines, *_table(header, rows)]


def _why(report: Report, *, has_plot: bool) -> list[str]:
    evaluations = report.trigger_evaluations
    if not worth_showing(evaluations):
        return []
    lines = ["", "### Why it fired, or did not", "", f"{count(evaluations)}.", ""]
    if has_plot:
        lines += [f"![Statistics and thresholds over data time]({TRIGGER_PLOT_FILE})", ""]
    if len(evaluations) > EVALUATIONS_SHOWN:
        lines += [f"The last {EVALUATIONS_SHOWN}; `modyn-client triggers {report.pipeline.id}` shows all:", ""]
    return [*lines, *_table(*shown_table(evaluations[-EVALUATIONS_SHOWN:]))]


def _downsampling(report: Report) -> list[str]:
    part = report.downsampling
    if part is None:
        return []
    lines = ["", f"## {TITLE}", "", part.verdict, "", *_table(("", ""), facts(part))]
    header, rows = comparison(report)
    if rows:
        lines += ["", "With as many passes, the currently active scores:", "", *_table(header, rows)]
    return lines


def _cost(report: Report) -> list[str]:
    cost, fixed = report.cost, report.fixed_cost
    rows = [
        ("trainings", f"{cost.trainings:,}"),
        ("samples trained (passes)", f"{cost.samples_trained:,}"),
        ("training", f"{cost.train_seconds:.2f} s"),
        ("evaluation", f"{cost.evaluate_seconds:.2f} s"),
        ("selection", f"{cost.select_seconds:.2f} s"),
        ("triggering policy", f"{cost.trigger_seconds:.2f} s"),
        (
            "samples shown to models for it",
            f"{cost.trigger_samples_embedded:,} embedded, {cost.trigger_samples_predicted:,} predicted",
        ),
        ("ingest", f"{cost.ingest_seconds:.2f} s"),
        ("everything else", f"{fixed.overhead_seconds:.2f} s beyond training and evaluation"),
        ("firing to first batch, median", f"{number(fixed.first_batch_ms_median, 0)} ms"),
    ]
    return ["", "## Cost", "", "Reused results count with their original cost.", "", *_table(("what", "cost"), rows)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(header), line(["---"] * len(header)), *(line(row) for row in rows)]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")

"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modyn.client.composites import detailed_scores, is_certified, whole_scores
from modyn.client.costs import cost_rows, failed_at_once
from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.explanations import Evaluations, count, shown_table, worth_showing
from modyn.client.options import amount, format_time
from modyn.client.settings import evaluation_settings
from modyn.client.wording import MISSING, best_baseline, interpretation, number, readable, signed, with_interval
from modyn.core.report import Report
from modyn.core.scores import ScoreName
from modyn.proto.supervisor_pb2 import Pipeline

WIDTH_WITHOUT_TERMINAL = 160
"""Columns; a file or a pipe has no width of its own and must not lose text."""


EVALUATIONS_IN_REPORT = 5
"""How many of the trigger's evaluations a report on the terminal shows."""


WIDTH_OF_EVALUATIONS = 120
"""Columns that a table of evaluations needs; narrower terminals get less of it."""

WIDTH_OF_A_TABLE = 80
"""Columns; a table of evaluations has to leave out what matters in fewer."""

WIDTH_OF_A_MOMENT = 16

DETAILS_IN_REPORT = 12
"""How many scores of slices and classes a report on the terminal shows."""


def console() -> Console:
    """Standard output, as wide as it is."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False)


def print_report(report: Report) -> None:
    """The final table of a run."""
    out = console()
    _print_facts(out, report)
    if worth_showing(report.trigger_evaluations):
        newest = report.trigger_evaluations[-EVALUATIONS_IN_REPORT:]
        print_evaluations(out, "the trigger's last evaluations", newest)
        looked = count(report.trigger_evaluations)
        out.print(f"{looked}; `modyn-client triggers {report.pipeline.id}` shows all of them", soft_wrap=True)
    print_scores(out, report)
    _print_downsampling(out, report)
    for failure in report.failures:
        out.print(f"failed: {failure}", soft_wrap=True, markup=False)


def _print_facts(out: Console, report: Report) -> None:
    pipeline = report.pipeline
    if failed_at_once(report):
        when = "in its first training" if report.triggers else "before the first trigger fired"
        seen = amount(report.run.samples_seen, "sample")
        line = f"{pipeline.name}: {pipeline.status} {when}, after {seen}"
        out.print(escape(line), soft_wrap=True)
        return
    simulated = " (simulated: nothing was trained)" if report.run.simulated else ""
    table = new_table(f"{escape(pipeline.name)}: {pipeline.status}{simulated}", "", "")
    looked = count(report.trigger_evaluations)
    deciding = f"{report.cost.trigger_seconds:.2f} s deciding"
    table.add_row(
        "triggers", f"{len(report.triggers):,} fired in {amount(looked.evaluations, 'evaluation')}, {deciding}"
    )
    table.add_row("samples seen", f"{report.run.samples_seen:,}")
    for row in (*evaluation_settings(report), *cost_rows(report)):
        table.add_row(*map(escape, row))
    out.print(table)


def _print_downsampling(out: Console, report: Report) -> None:
    part = report.downsampling
    if part is None:
        return
    table = new_table(TITLE, "", "")
    for row in facts(part):
        table.add_row(*map(escape, row))
    out.print(table)
    header, rows = comparison(report)
    if rows:
        beside = new_table("with as many passes (currently active scores)", *header)
        for cells in rows:
            beside.add_row(*map(escape, cells))
        out.print(beside)
    out.print(escape(part.verdict), soft_wrap=True)


def print_evaluations(out: Console, title: str, evaluations: Evaluations) -> None:
    """Why a trigger fired or did not: a row per evaluation, a line in it per finding; without room for a table, a line
    per finding that names what it shows."""
    if out.width < WIDTH_OF_A_TABLE:
        header, rows = shown_table(evaluations)
        out.print(title)
        for row in rows:
            said = (f"{name} {cell}" for name, cell in zip(header, row, strict=True) if cell)
            out.print(escape("; ".join(said)), soft_wrap=True)
        return
    narrow = out.width < WIDTH_OF_EVALUATIONS
    header, rows = shown_table(evaluations, without=("samples", "p", "vote") if narrow else ())
    table = new_table(title, *header)
    for column in table.columns:
        # What gives way if there is little room; lines of the others belong together.
        wraps = column.header in ("data time", "why")
        column.no_wrap, column.min_width = not wraps, WIDTH_OF_A_MOMENT if wraps else None
    if narrow:
        table.box, table.padding, table.pad_edge = None, (0, 2, 0, 0), False
    grouped: list[list[tuple[str, ...]]] = []
    for row in rows:
        if row[0]:  # the first of an evaluation
            grouped.append([])
        grouped[-1].append(row)
    for lines in grouped:
        *cells, why = zip(*lines, strict=True)
        table.add_row(*(escape("\n".join(cell)) for cell in cells), escape("\n".join(filter(None, why))))
    out.print(table)


def print_scores(out: Console, report: Report) -> None:
    """What the models are worth: composite scores beside the baselines, slices and classes, transfer, offsets."""
    if report.composite:
        out.print(_composite_table(report))
    for handler, dataset, metric, score in whole_scores(report):
        out.print(escape(f"{handler}/{dataset}/{metric}: {interpretation(score)}"), soft_wrap=True)
    for handler, datasets in report.composite.items():
        for dataset in datasets:
            if is_certified(report, handler, dataset):
                out.print(escape(f"{handler}/{dataset}: certified, scored on test samples alone"), soft_wrap=True)
    _print_details(out, report)
    for part in report.transfer:
        if ScoreName.parse(part.metric).is_whole:
            line = (
                f"{part.handler}/{part.dataset}/{part.metric}: forgetting {signed(part.forgetting)}, backward transfer "
                f"{signed(part.backward_transfer)}, forward transfer {signed(part.forward_transfer)}"
            )
            out.print(escape(line), soft_wrap=True)
    _print_offsets(out, report)


def _composite_table(report: Report) -> Table:
    table = new_table(
        "composite scores",
        *("handler", "dataset", "metric", "currently active", "currently trained", "best without a model", "windows"),
    )
    for handler, dataset, metric, score in whole_scores(report):
        left_out = score.windows_empty + score.windows_without_model + score.windows_undefined
        best = best_baseline(score)
        cells = (
            *(handler, dataset, metric),
            with_interval(score.currently_active, score.interval),
            with_interval(score.currently_trained, score.trained_interval),
            MISSING if best is None else f"{number(best[1])} ({readable(best[0])})",
            f"{score.windows_scored} of {score.windows_scored + left_out}",
        )
        table.add_row(*map(escape, cells))
    return table


def _print_details(out: Console, report: Report) -> None:
    """Slices and classes, as many as leave the report readable."""
    found = [
        (f"{handler}/{dataset}", *item)
        for handler, datasets in report.composite.items()
        for dataset, metrics in datasets.items()
        for item in detailed_scores(metrics)
    ]
    if not found:
        return
    table = new_table("by slice and class", "handler", "metric", "slice", "class", "currently active", "windows")
    for where, name, score in found[:DETAILS_IN_REPORT]:
        cells = (where, name.metric, name.slice or "all", "all" if name.label is None else str(name.label))
        value = with_interval(score.currently_active, score.interval)
        table.add_row(*map(escape, cells), escape(value), str(score.windows_scored))
    out.print(table)
    if len(found) > DETAILS_IN_REPORT:
        more = amount(len(found) - DETAILS_IN_REPORT, "more score")
        out.print(f"{more} of slices and classes: `modyn-client report {report.pipeline.id} --data DIR` has them")


def _print_offsets(out: Console, report: Report) -> None:
    parts = [part for part in report.offsets if ScoreName.parse(part.metric).is_whole]
    if not parts:
        return
    table = new_table("means over models by distance from their data", "handler", "metric", "offset", "mean", "models")
    for part in parts:
        value = with_interval(part.mean, part.interval)
        cells = (f"{part.handler}/{part.dataset}", part.metric, part.offset, value, f"{part.models:,}")
        table.add_row(*map(escape, cells))
    out.print(table)


def print_pipelines(pipelines: Sequence[Pipeline]) -> None:
    table = new_table(None, "id", "name", "status", "dataset", "mode", "triggers", "samples", "started")
    for p in pipelines:
        table.add_row(
            p.id,
            escape(p.name),
            status_name(p),
            escape(p.dataset),
            mode_name(p),
            f"{p.num_triggers:,}",
            f"{p.samples_seen:,}",
            format_time(p.created_at),
        )
    console().print(table)


def print_pipeline(p: Pipeline) -> None:
    table = new_table(None, "", "")
    rows = [
        ("id", p.id),
        ("name", p.name),
        ("status", status_name(p)),
        ("dataset", p.dataset),
        ("mode", mode_name(p)),
        ("triggers", f"{p.num_triggers:,}"),
        ("samples seen", f"{p.samples_seen:,}"),
        ("started", format_time(p.created_at)),
    ]
    if p.HasField("baseline_of"):
        rows.append(("baseline", f"{p.baseline.replace('_', ' ')}, of pipeline {p.baseline_of}"))
    if p.HasField("ended_at"):
        rows.append(("ended", format_time(p.ended_at)))
    if p.HasField("error"):
        rows.append(("error", p.error.message))
    rows += [("notice", notice) for notice in p.notices]
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def mode_name(pipeline: Pipeline) -> str:
    if pipeline.simulated:
        return "simulated"
    if pipeline.HasField("baseline_of"):
        return f"baseline of {pipeline.baseline_of}"
    return "live" if pipeline.live else "replay"


def status_name(pipeline: Pipeline) -> str:
    return Pipeline.Status.Name(pipeline.status).lower()


def new_table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.explanations import Evaluations, count, shown_table, worth_showing
from modyn.client.markdown import interpretation, number, readable
from modyn.client.options import amount, format_time
from modyn.core.report import CompositeScore, Report, TriggerSeconds
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


def console() -> Console:
    """Standard output, as wide as it is."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False)


def print_report(report: Report) -> None:
    """The final table of a run."""
    out = console()
    pipeline, cost = report.pipeline, report.cost
    seconds = {name: sum(getattr(t.seconds, name) for t in report.triggers) for name in TriggerSeconds.model_fields}
    simulated = " (simulated: nothing was trained)" if report.run.simulated else ""
    facts = new_table(f"{pipeline.name}: {pipeline.status}{simulated}", "", "")
    looked = count(report.trigger_evaluations)
    deciding = f"{cost.trigger_seconds:.2f} s deciding"
    facts.add_row(
        "triggers", f"{len(report.triggers):,} fired in {amount(looked.evaluations, 'evaluation')}, {deciding}"
    )
    facts.add_row("samples seen", f"{report.run.samples_seen:,}")
    facts.add_row(
        "samples trained",
        f"{cost.samples_trained:,} in {cost.trainings:,} trainings"
        + (f" ({cost.trainings_reused:,} reused)" if cost.trainings_reused else ""),
    )
    facts.add_row("select", f"{cost.select_seconds:.2f} s")
    facts.add_row("start of jobs", f"{seconds['start']:.2f} s")
    facts.add_row("train", f"{cost.train_seconds:.2f} s")
    facts.add_row("store", f"{seconds['store']:.2f} s")
    facts.add_row("evaluate", f"{cost.evaluate_seconds:.2f} s")
    facts.add_row("ingest", f"{cost.ingest_seconds:.2f} s")
    facts.add_row("firing to first batch", f"{number(report.fixed_cost.first_batch_ms_median, 0)} ms (median)")
    facts.add_row("wall", f"{cost.wall_seconds:.2f} s")
    out.print(facts)
    if worth_showing(report.trigger_evaluations):
        newest = report.trigger_evaluations[-EVALUATIONS_IN_REPORT:]
        print_evaluations(out, "the trigger's last evaluations", newest)
        out.print(f"{looked}; `modyn-client triggers {pipeline.id}` shows all of them", soft_wrap=True)
    if report.composite:
        out.print(_composite_table(report))
        for handler, dataset, metric, score in composite_scores(report):
            out.print(f"{handler}/{dataset}/{metric}: {interpretation(score)}", soft_wrap=True)
    _print_downsampling(out, report)
    for failure in report.failures:
        out.print(f"failed: {failure}", soft_wrap=True)


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


def composite_scores(report: Report) -> Iterable[tuple[str, str, str, CompositeScore]]:
    """All composite scores with handler, dataset and metric."""
    for handler, datasets in report.composite.items():
        for dataset, metrics in datasets.items():
            for metric, score in metrics.items():
                yield handler, dataset, metric, score


def _composite_table(report: Report) -> Table:
    names = sorted({name for *_, score in composite_scores(report) for name in score.baselines})
    table = new_table(
        "composite scores",
        "handler",
        "dataset",
        "metric",
        "currently active",
        "currently trained",
        *(f"{readable(name)} (no model)" for name in names),
        "windows",
    )
    for handler, dataset, metric, score in composite_scores(report):
        left_out = score.windows_empty + score.windows_without_model + score.windows_undefined
        table.add_row(
            handler,
            dataset,
            metric,
            number(score.currently_active),
            number(score.currently_trained),
            *(number(score.baselines.get(name)) for name in names),
            f"{score.windows_scored} of {score.windows_scored + left_out}",
        )
    return table


def print_pipelines(pipelines: Sequence[Pipeline]) -> None:
    table = new_table(None, "id", "name", "status", "dataset", "mode", "triggers", "samples", "started")
    for p in pipelines:
        table.add_row(
            p.id,
            p.name,
            status_name(p),
            p.dataset,
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
        table.add_row(*row)
    console().print(table)


def mode_name(pipeline: Pipeline) -> str:
    if pipeline.simulated:
        return "simulated"
    if pipeline.HasField("baseline_of"):
        return f"baseline of {pipeline.baseline_of}"
    return "live" if pipeline.live else "replay"


def status_name(pipeline: Pipeline) -> str:
    return Pipeline.Status.Name(pipeline.status).lower()


def readable_bytes(n: int) -> str:
    """
    >>> readable_bytes(512), readable_bytes(3 << 20)
    ('512 B', '3.0 MiB')
    """
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{n} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def new_table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

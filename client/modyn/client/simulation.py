"""``modyn-client simulate``: when a trigger would have fired, without any training."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import typer
from rich.markup import escape

from modyn.client.api import ReplayOptions, raise_for_status
from modyn.client.connection import Target
from modyn.client.display import display_for
from modyn.client.explanations import count
from modyn.client.options import amount, format_time
from modyn.client.runfolder import RunFolder
from modyn.client.running import follow, serving, shown_path
from modyn.client.server import READING_SERVICES
from modyn.client.tables import console, new_table
from modyn.core.report import Report
from modyn.proto.supervisor_pb2 import Pipeline


def simulate_pipeline(
    path: Path,
    name: str,
    mode: ReplayOptions,
    *,
    target: Target,
    output: Path | None,
    maximum_triggers: int | None,
    limit: int,
) -> None:
    """Runs a pipeline's trigger over history and shows when it would have fired.

    Args:
        path: of the pipeline.
        name: of the pipeline.
        mode: what is replayed.
        target: where.
        output: folder for the report, or None.
        maximum_triggers: stop after these.
        limit: firings shown.

    Raises:
        InvalidInputError: the user's input is at fault.
        ModynError: it failed.
        typer.Exit: it was stopped by a signal.
    """
    folder = None if output is None else RunFolder(output)
    if folder is not None:
        folder.check()
    display = display_for(sys.stderr, triggers=False)
    # Nothing is trained, so nothing heavy is started.
    with serving(target, f"simulate {name}", services=READING_SERVICES) as client:
        pipeline_id = client.submit(path, mode, maximum_triggers=maximum_triggers, simulate=True)
        ended, stopper = follow(client, pipeline_id, display, stops=True)
        report, resolved_yaml = client.report_and_yaml(pipeline_id)
    raise_for_status(ended)
    print_simulation(report, limit)
    if folder is not None:
        folder.write_report(report, resolved_yaml)
        typer.echo(f"results: {shown_path(folder.path)}")
    if stopper.received is not None and ended.status != Pipeline.COMPLETED:
        raise typer.Exit(stopper.received.exit_status)


def print_simulation(report: Report, limit: int) -> None:
    """When it would have fired, and how that sums up."""
    out = console()
    triggers = report.triggers
    table = new_table(f"{report.pipeline.name}: when it would have fired", "#", "data time", "new samples", "reason")
    for t in triggers[-limit:]:
        table.add_row(str(t.index), format_time(t.timestamp), f"{t.new_samples:,}", escape(t.reason))
    if triggers:
        out.print(table)
    if len(triggers) > limit:
        earlier = amount(len(triggers) - limit, "earlier trigger")
        out.print(f"{earlier} left out; --limit {len(triggers)} shows all of them")
    for line in summary(report):
        out.print(line, soft_wrap=True)


def summary(report: Report) -> list[str]:
    """How often it would have fired, with how much data, and what it took to decide."""
    samples = [t.new_samples for t in report.triggers]
    seen = amount(report.run.samples_seen, "sample")
    if not samples:
        lines = [f"It would never have fired on {seen}."]
    else:
        spread = f"min {min(samples):,}, median {median(samples):,.0f}, max {max(samples):,}"
        lines = [f"{amount(len(samples), 'trigger')} on {seen}; new samples per trigger: {spread}"]
        if rest := report.run.samples_seen - sum(samples):
            lines.append(f"{amount(rest, 'sample')} came after the last one")
    seconds = f"{report.cost.trigger_seconds:.2f} s deciding"
    lines.append(f"{count(report.trigger_evaluations)}; {seconds}")
    return [*lines, f"why: modyn-client triggers {report.pipeline.id}"]

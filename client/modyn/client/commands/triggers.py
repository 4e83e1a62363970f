"""Commands about triggers: fire one, see why they fired, try them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt
from modyn.client.commands.run import Order, ReplayOrder, load_runnable, replay_options

if TYPE_CHECKING:
    from modyn.core.report import Report

DEFAULT_LIMIT = 20

Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show only the newest N.")]


def trigger(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    debug: opt.Debug = False,
) -> None:
    """Fire a running pipeline's trigger now and print its index.

    It trains on what came since the last trigger, whatever its policy says, once a training that is under way is done.
    """
    from modyn.client.connection import Target, running_server

    with running_server(Target(server, state, None)) as client:
        typer.echo(client.trigger(pipeline_id))


def explain(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    fired: Annotated[bool, typer.Option("--fired", help="Only evaluations that fired.")] = False,
    limit: Limit = DEFAULT_LIMIT,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw all statistics and thresholds over data time: .svg or .png."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all evaluations (or those that fired) as JSON.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="The same as CSV, a row per evaluation and finding.")
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Show why a pipeline's trigger fired or did not: what it measured, and what it compared that with.

    One row for each finding of an evaluation, the newest last; while the pipeline runs, too. Triggers that look only at
    time or amount evaluate when they fire; others at the end of each of their intervals.
    """
    from modyn.client.connection import Target, connected
    from modyn.client.explanations import evaluations_csv, evaluations_json
    from modyn.client.trigger_plot import check_suffix, save_plot

    if plot is not None:
        check_suffix(plot)
    with connected(Target(server, state, catalog), what="triggers") as client:
        report = client.report(pipeline_id)
    chosen = [e for e in report.trigger_evaluations if e.decision or not fired]
    for path, text in ((json, evaluations_json), (csv, evaluations_csv)):
        if path is not None:
            path.write_text(text(chosen), encoding="utf-8")
    if plot is not None:
        save_plot(report.trigger_evaluations, plot, title=f"{report.pipeline.name}: its trigger")
    _show(report, fired=fired, limit=limit)


def _show(report: Report, *, fired: bool, limit: int) -> None:
    from modyn.client.explanations import count
    from modyn.client.tables import console, print_evaluations

    out = console()
    chosen = [e for e in report.trigger_evaluations if e.decision or not fired]
    if chosen:
        print_evaluations(out, f"{report.pipeline.name}: why its trigger fired or did not", chosen[-limit:])
    if len(chosen) > limit:
        earlier = opt.amount(len(chosen) - limit, "earlier evaluation")
        out.print(f"{earlier} left out; --limit {len(chosen)} shows all of them")
    counts = count(report.trigger_evaluations)
    out.print(f"{counts}; {report.cost.trigger_seconds:.2f} s deciding", soft_wrap=True)


def simulate(
    pipeline: opt.PipelineFile,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Also write a run folder with the report there.")
    ] = None,
    start_replay_at: opt.StartReplay = None,
    stop_replay_at: opt.StopReplay = None,
    maximum_triggers: opt.MaximumTriggers = None,
    order: ReplayOrder = Order.EVENT,
    start_key: opt.StartKey = None,
    end_key: opt.EndKey = None,
    limit: Limit = DEFAULT_LIMIT,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show when a pipeline's trigger would have fired on the data there are; nothing is trained.

    Triggers that ask the trained models, or how long trainings take, cannot be simulated and say so. `triggers` and
    `report` work on a simulation as on any run.
    """
    replay = replay_options(
        start=start_replay_at, stop=stop_replay_at, order=order, start_key=start_key, end_key=end_key
    )
    config = load_runnable(pipeline)
    from modyn.client.connection import Target
    from modyn.client.simulation import simulate_pipeline

    simulate_pipeline(
        pipeline,
        config.pipeline.name,
        replay,
        target=Target(server, state, catalog),
        output=output,
        maximum_triggers=maximum_triggers,
        limit=limit,
    )

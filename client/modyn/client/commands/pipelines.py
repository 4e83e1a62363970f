"""Commands about pipelines that were started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.api import Client
    from modyn.core.report import Report


def watch(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show what a pipeline does until it has ended; Ctrl-C ends the watching, not the pipeline."""
    import sys

    from modyn.client.api import raise_for_status
    from modyn.client.connection import Target, connected
    from modyn.client.display import display_for
    from modyn.client.running import follow
    from modyn.client.tables import print_pipeline

    with connected(Target(server, state, catalog), what="watch") as client:
        ended, _ = follow(client, pipeline_id, display_for(sys.stderr), stops=False)
    raise_for_status(ended)
    print_pipeline(ended)


def status(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show where a pipeline stands."""
    from modyn.client.connection import Target, connected
    from modyn.client.tables import print_pipeline

    with connected(Target(server, state, catalog), what="status") as client:
        print_pipeline(client.status(pipeline_id))


def list_pipelines(
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """List all pipelines of a server or a state directory."""
    from modyn.client.connection import Target, connected
    from modyn.client.tables import print_pipelines

    with connected(Target(server, state, catalog), what="list") as client:
        print_pipelines(client.pipelines())


def stop(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it has ended.")] = False,
    debug: opt.Debug = False,
) -> None:
    """Stop a pipeline; it still evaluates what it trained, and its report is complete up to then."""
    from modyn.client.connection import Target, running_server
    from modyn.client.tables import print_pipeline

    with running_server(Target(server, state, None)) as client:
        print_pipeline(client.stop(pipeline_id, wait=not no_wait))


def report(
    pipeline_id: opt.PipelineId,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Also write the run folder there.")
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Show a pipeline's report, and write its run folder on request."""
    from modyn.client.connection import Target, connected
    from modyn.client.runfolder import RunFolder
    from modyn.client.tables import print_report

    folder = None if output is None else RunFolder(output)
    if folder is not None:
        folder.check()
    with connected(Target(server, state, catalog), what="report") as client:
        document, resolved_yaml = client.report_and_yaml(pipeline_id)
    if folder is not None:
        folder.write(document, resolved_yaml)
    print_report(document)


def compare(
    pipeline_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Two or more ids, or folders of runs.", show_default=False)
    ],
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Compare pipelines side by side: cost, and scores on the windows that all of them can be scored on."""
    if len(pipeline_ids) < 2:
        raise typer.BadParameter("expected at least two ids or run folders")
    from modyn.client.comparison import print_comparison
    from modyn.client.connection import Target, connected
    from modyn.client.runfolder import read_report
    from modyn.core.errors import InvalidInputError

    reports: dict[str, Report] = {ref: read_report(Path(ref)) for ref in pipeline_ids if _is_run_folder(ref)}
    for ref in pipeline_ids:
        if ref not in reports and not ref.isdigit():
            raise InvalidInputError(f"compare {ref!r}: expected the id of a pipeline, or a folder with a report.json")
    if len(reports) < len(set(pipeline_ids)):
        with connected(Target(server, state, catalog), what="compare") as client:
            reports |= _reports(client, [ref for ref in pipeline_ids if ref not in reports])
    print_comparison([reports[ref] for ref in pipeline_ids])


def _is_run_folder(reference: str) -> bool:
    return (Path(reference) / "report.json").is_file()


def _reports(client: Client, pipeline_ids: list[str]) -> dict[str, Report]:
    return {pipeline_id: client.report(pipeline_id) for pipeline_id in pipeline_ids}

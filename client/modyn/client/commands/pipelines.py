"""Commands about pipelines that were started."""

from __future__ import annotations

from typing import Annotated

import typer

from modyn.client import options as opt


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

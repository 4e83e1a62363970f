"""``gc``: remove what nothing needs any more."""

from __future__ import annotations

from typing import Annotated

import typer

from modyn.client import options as opt


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="Only what was not used for so long, such as 12h, 7d or 4w."),
    ] = "7d",
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KIND",
            help="models, training-sets, outcomes or checkpoints; can be given several times. Default: all of them.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Remove models, training sets, predictions and checkpoints that nothing needs any more.

    What a pipeline's report or the lineage of a model names stays, unless the pipeline's `model_storage.retention` lets
    it go. So does what came or was used since the oldest running pipeline began.
    """
    import json

    from modyn.client.connection import Target, connected
    from modyn.client.garbage import garbage_json
    from modyn.client.model_tables import print_garbage
    from modyn.core.durations import parse_duration
    from modyn.core.state import SERVICES

    try:
        seconds = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(f"--older-than {older_than}: {error}") from None
    with connected(Target(server, state, catalog), what="gc", services=SERVICES) as client:
        garbage = list(client.collect_garbage(dry_run=dry_run, older_than_seconds=seconds, only=only or ()))
    if as_json:
        typer.echo(json.dumps(garbage_json(garbage, dry_run=dry_run), indent=2))
    else:
        print_garbage(garbage, dry_run=dry_run)

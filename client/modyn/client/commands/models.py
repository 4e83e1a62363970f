"""``models …``: look at models and at what they were trained on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.api import Client

app = typer.Typer(no_args_is_help=True, help="Look at trained models, and at the samples that they were trained on.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(
    *,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="ID", help="Only models that this pipeline has.")
    ] = None,
    as_json: AsJson = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """List trained models, oldest first."""
    import json

    from modyn.client.model_tables import print_models
    from modyn.client.models import model_json

    with _client(server, state, catalog, what="models list") as client:
        models = client.models(pipeline)
    if as_json:
        typer.echo(json.dumps([model_json(model) for model in models], indent=2))
    else:
        print_models(models)


@app.command()
def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Its digest or how that begins, or a pipeline's id and a trigger, such as 3:0.",
            show_default=False,
        ),
    ],
    *,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="Write the keys and weights really trained: columns epoch, key, weight; .parquet or .csv.",
        ),
    ] = None,
    as_json: AsJson = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show where a model came from, what its training took, and on which samples it was really trained.

    With downsampling, what was trained is shown for each epoch in which it differs from the epoch before.
    """
    import json

    from modyn.client.model_tables import print_model
    from modyn.client.models import check_key_file, model_json, summarise, write_keys

    if keys is not None:
        check_key_file(keys)
    with _client(server, state, catalog, what="models show") as client:
        found = client.model(model)
        samples = client.trained_samples(found.model)
    if keys is not None:
        write_keys(keys, samples)
    epochs = summarise(samples)
    if as_json:
        typer.echo(json.dumps(model_json(found, epochs), indent=2))
    else:
        print_model(found, epochs)


def _client(server: str | None, state: Path, catalog: str | None, *, what: str) -> AbstractContextManager[Client]:
    from modyn.client.connection import Target, connected
    from modyn.client.server import LINEAGE_SERVICES

    return connected(Target(server, state, catalog), what=what, services=LINEAGE_SERVICES, joins="trainer_server")

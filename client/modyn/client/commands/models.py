"""``models …``: look at models and at what they were trained on, and remove them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.api import Client
    from modyn.proto.storage_pb2 import StoredModel

app = typer.Typer(no_args_is_help=True, help="Look at trained models and at what they were trained on; remove them.")

REFERENCE_HELP = "Its digest or how that begins, or a pipeline's id and a trigger, such as 3:0, or 3@latest."

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
        stored = _stored_models(client)
    if as_json:
        typer.echo(json.dumps([model_json(m, stored=(stored or {}).get(m.model)) for m in models], indent=2))
    else:
        print_models(models, stored)


@app.command()
def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=REFERENCE_HELP,
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
        stored = _stored_models(client)
    if keys is not None:
        write_keys(keys, samples)
    epochs = summarise(samples)
    if as_json:
        typer.echo(json.dumps(model_json(found, epochs, (stored or {}).get(found.model)), indent=2))
    else:
        print_model(found, epochs, stored)


@app.command()
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=REFERENCE_HELP, show_default=False)],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder to write.", show_default="model-DIGEST"),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx, if the model allows.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model that was downloaded to the folder before.")
    ] = False,
    code: Annotated[
        Path | None,
        typer.Option("--code", metavar="DIR", help="Folder of the user's own code, if it is not where it was."),
    ] = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Write a model as a folder that stands on its own: weights, code, parser, signature, an example with its answer.

    `modyn.models.exported.load(DIR)` makes a torch module of it, without any server.
    """
    from modyn.client.costs import readable_bytes
    from modyn.client.dataset_tables import DIGEST_CHARS
    from modyn.client.export import check_target
    from modyn.client.server import LINEAGE_SERVICES

    if output is not None:
        check_target(output, force=force)
    services = (*LINEAGE_SERVICES, "supervisor")
    with _client(server, state, catalog, what="models download", services=services, runs_jobs=True) as client:
        digest = client.model(model).model
        folder = output if output is not None else Path(f"model-{digest[:DIGEST_CHARS]}")
        done = client.download_model(digest, folder, onnx=onnx, force=force, code=code)
    for notice in done.notices:
        typer.echo(f"notice: {notice}")
    size = readable_bytes(sum(done.files.values()))
    typer.echo(f"{folder}: {opt.amount(len(done.files), 'file')}, {size}; README.md there says how to load it")


@app.command()
def delete(
    references: Annotated[list[str], typer.Argument(metavar="MODEL...", help=REFERENCE_HELP, show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Store models whole that are stored as differences from these.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if a running pipeline may need them.")] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Remove the weights of models for ever. Reports and what is known of the models stay."""
    from modyn.client.costs import readable_bytes
    from modyn.client.server import LINEAGE_SERVICES

    services = (*LINEAGE_SERVICES, "supervisor")
    with _client(server, state, catalog, what="models delete", services=services) as client:
        if not yes:
            named = ", ".join(references)
            typer.confirm(
                f"Remove the weights of {opt.amount(len(references), 'model')} ({named}) for ever?",
                abort=True,
                err=True,
            )
        for done in client.delete_models(references, rewrite_dependents=rewrite, force=force):
            size = readable_bytes(abs(done.freed_bytes))
            typer.echo(f"{done.digest}: {size} {'freed' if done.freed_bytes >= 0 else 'more than before'}")
            for digest in done.rewritten:
                typer.echo(f"  {digest} is stored whole now")


def _stored_models(client: Client) -> dict[str, StoredModel] | None:
    """None: the server serves no storage."""
    from modyn.core.errors import NotAvailableError

    try:
        return client.stored_models()
    except NotAvailableError:
        return None


def _client(
    server: str | None,
    state: Path,
    catalog: str | None,
    *,
    what: str,
    services: Sequence[str] = (),
    runs_jobs: bool = False,
) -> AbstractContextManager[Client]:
    from modyn.client.connection import Target, connected
    from modyn.client.server import LINEAGE_SERVICES

    target = Target(server, state, catalog)
    services = services or LINEAGE_SERVICES
    return connected(target, what=what, services=services, joins="trainer_server", runs_jobs=runs_jobs)

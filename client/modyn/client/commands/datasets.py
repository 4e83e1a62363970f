"""``datasets …``: look at datasets, register them, append to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modyn.client import options as opt

app = typer.Typer(no_args_is_help=True, help="List, describe, register and append to datasets.")

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the dataset.", show_default=False)]


@app.command("list")
def list_datasets(
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """List all datasets."""
    from modyn.client.connection import Target, connected
    from modyn.client.tables import print_datasets

    target = Target(server, state, catalog)
    with connected(target, what="datasets list", services=("storage",), joins="storage") as client:
        print_datasets(client.datasets())


@app.command()
def describe(
    name: DatasetName,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show a dataset: counts, time span, columns, and files that could not be read with the reason."""
    from modyn.client.connection import Target, connected
    from modyn.client.tables import print_dataset

    target = Target(server, state, catalog)
    with connected(target, what="datasets describe", services=("storage",), joins="storage") as client:
        print_dataset(client.dataset(name))


@app.command()
def register(
    name: DatasetName,
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="YAML",
            help="The `data.source` section, as text such as '{format: parquet, path: data}' or as a YAML file. "
            "Without it the dataset only receives appends.",
        ),
    ] = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Make a dataset known to storage."""
    section = None if source is None else _read_source(source, resolve=server is None)
    from modyn.client.connection import Target, connected

    target = Target(server, state, catalog)
    with connected(
        target, what="datasets register", services=("storage",), joins="storage", creates_state=True
    ) as client:
        dataset = client.register_dataset(name, section)
    typer.echo(f"{dataset.name}: registered, next key {dataset.end_key}")


@app.command()
def append(
    name: DatasetName,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Parquet, Arrow IPC or CSV files.", show_default=False)
    ],
    *,
    batch_id: Annotated[
        str | None,
        typer.Option("--batch-id", help="Names the batch (one file only); by default the digest of the file."),
    ] = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Append files to a dataset, each exactly once: repeating the command writes nothing twice.

    Needs the columns `timestamp` (Unix seconds) and `label`; all others are payload.
    """
    if batch_id is not None and len(files) > 1:
        raise typer.BadParameter("--batch-id goes with one file; several would be the same batch")
    from modyn.client.connection import Target, connected
    from modyn.client.tabular import file_digest, read_table

    target = Target(server, state, catalog)
    with connected(
        target, what="datasets append", services=("storage",), joins="storage", creates_state=True
    ) as client:
        for file in files:
            answer = client.append(name, batch_id or file_digest(file), read_table(file))
            how = "was appended before" if answer.repeated_batch else "appended"
            typer.echo(f"{file}: {how}, keys {answer.keys.start} to {answer.keys.end - 1}")


def _read_source(source: str, *, resolve: bool) -> dict[str, Any]:
    """The section; relative paths refer to the file's folder, or to the current one."""
    import yaml

    from modyn.core.errors import InvalidInputError

    path = Path(source)
    is_file = "\n" not in source and path.suffix in (".yaml", ".yml")
    try:
        section = yaml.safe_load(path.read_text(encoding="utf-8") if is_file else source)
    except OSError as error:
        raise InvalidInputError(f"--source {source}: cannot read the file: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidInputError(f"--source: no YAML: {error}") from error
    if not isinstance(section, dict):
        raise InvalidInputError(f"--source {source}: expected a mapping such as '{{format: parquet, path: data}}'")
    if resolve and isinstance(section.get("path"), str):
        base = path.absolute().parent if is_file else Path.cwd()
        section["path"] = str(base / section["path"])
    return section

"""``datasets …``: look at datasets, register them, bring samples in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from modyn.client import options as opt
from modyn.client.commands import dataset_changes, dataset_upkeep

app = typer.Typer(no_args_is_help=True, help="Look at datasets, bring samples and labels in, delete, verify, compact.")


class SampleRole(StrEnum):
    """What samples may be used for."""

    ANY = "any"
    TRAIN = "train"
    TEST = "test"


@app.command("list")
def list_datasets(
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """List all datasets."""
    from modyn.client.connection import Target, storage_client
    from modyn.client.dataset_tables import print_datasets

    with storage_client(Target(server, state, catalog), what="datasets list") as client:
        print_datasets(client.datasets())


@app.command()
def describe(
    name: opt.DatasetName,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show a dataset: counts, times, columns, labels, deletions, and files that could not be read with the reason."""
    from modyn.client.connection import Target, storage_client
    from modyn.client.dataset_tables import print_dataset

    with storage_client(Target(server, state, catalog), what="datasets describe") as client:
        print_dataset(client.dataset(name))


@app.command()
def register(
    name: opt.DatasetName,
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="YAML",
            help="The `data.source` section, as text such as '{format: parquet, path: data}' or as a YAML file; `path` "
            "is a folder or a URI such as s3://bucket/folder. Without it the dataset only receives appends.",
        ),
    ] = None,
    role: Annotated[
        SampleRole | None,
        typer.Option(
            "--role",
            metavar="any|train|test",
            help="What its samples may be used for, if the source says nothing else; no training gets `test` samples.",
            show_default="any",
        ),
    ] = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Make a dataset known to storage."""
    section = None if source is None else _read_source(source, resolve=server is None)
    from modyn.client.connection import Target, storage_client

    with storage_client(Target(server, state, catalog), what="datasets register", creates_state=True) as client:
        dataset = client.register_dataset(name, section, role=None if role is None else role.value)
    typer.echo(f"{dataset.name}: registered, next key {dataset.end_key}")


@app.command()
def append(
    name: opt.DatasetName,
    files: opt.TableFiles,
    *,
    batch_id: opt.BatchId = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Append files to a dataset, each exactly once: repeating the command writes nothing twice.

    Needs the columns `timestamp` (Unix seconds) and `label`; all others are payload.
    """
    opt.check_batch_id(batch_id, files)
    from modyn.client.connection import Target, storage_client
    from modyn.client.progress import counted, progress_bar
    from modyn.client.tabular import file_digest, open_table

    with storage_client(Target(server, state, catalog), what="datasets append", creates_state=True) as client:
        for file in files:
            with progress_bar(file.name) as show, open_table(file) as table:
                batches = counted(table.batches, table.num_rows, show)
                answer = client.append(name, batch_id or file_digest(file), batches)
            how = "was appended before" if answer.repeated_batch else "appended"
            keys = f"keys {answer.keys.start} to {answer.keys.end - 1}" if len(answer.keys) else "no samples"
            typer.echo(f"{file}: {how}, {keys}")


@app.command()
def ingest(
    name: opt.DatasetName,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Look at a dataset's source now, and take in every new or changed file that is complete."""
    from modyn.client.connection import Target, storage_client
    from modyn.client.progress import progress_bar
    from modyn.core.errors import InvalidInputError

    with storage_client(Target(server, state, catalog), what="datasets ingest") as client:
        if not client.dataset(name).HasField("source"):
            raise InvalidInputError(
                f"dataset {name!r} has no source; give it samples with `modyn-client datasets append`, "
                "or register it under another name with --source"
            )
        with progress_bar("ingest") as show:
            found = client.ingest(name, lambda p: show(p.files_done, p.files_total, f"{p.samples:,} samples"))
    files, samples = opt.amount(found.files, "file"), opt.amount(found.samples, "sample")
    typer.echo(f"{name}: {files} read, {samples}, next key {found.end_key}")
    if found.quarantined:
        files = opt.amount(found.quarantined, "file")
        typer.echo(f"{files} cannot be read; `modyn-client datasets describe {name}` says why")


@app.command()
def watch(
    name: opt.DatasetName,
    *,
    start: Annotated[
        int | None,
        typer.Option(
            "--from", metavar="KEY", min=0, help="First key to show.", show_default="what arrives from now on"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON objects: start, end (exclusive), arrival.")
    ] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Show samples as they arrive, a line for each range of keys, until Ctrl-C; the source is looked at meanwhile."""
    import json

    from modyn.client.connection import Target, storage_client
    from modyn.client.signals import StopOnSignal
    from modyn.core.errors import ModynError

    with (
        storage_client(Target(server, state, catalog), what=f"datasets watch {name}", announce=True) as client,
        # An exception out of a signal handler may be lost in a callback of the gRPC library.
        StopOnSignal(client.interrupt) as signals,
    ):
        try:
            for keys, arrival in client.watch_dataset(name, start):
                if as_json:
                    typer.echo(json.dumps({"start": keys.start, "end": keys.end, "arrival": arrival}))
                else:
                    when = opt.format_time(arrival)
                    typer.echo(f"{when}  keys {keys.start} to {keys.end - 1} ({opt.amount(len(keys), 'sample')})")
        except ModynError:
            if signals.received is None:
                raise
        if signals.received is not None:
            raise signals.received


app.command("set-labels")(dataset_changes.set_labels)
app.command("delete-samples")(dataset_changes.delete_samples)
app.command("verify")(dataset_upkeep.verify)
app.command("compact")(dataset_upkeep.compact)


def _read_source(source: str, *, resolve: bool) -> dict[str, Any]:
    """The section; relative paths refer to the file's folder, or to the current one."""
    import yaml

    from modyn.core.errors import InvalidInputError
    from modyn.core.locations import absolute_location

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
        section["path"] = absolute_location(section["path"], base)
    return section

"""``datasets set-labels`` and ``datasets delete-samples``, and the models that they concern."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt
from modyn.client.commands.dataset_upkeep import compact_now

if TYPE_CHECKING:
    import pyarrow as pa

    from modyn.client.lineage import TrainedModel
    from modyn.core.keysets import KeySet


def set_labels(
    name: opt.DatasetName,
    files: opt.TableFiles,
    *,
    batch_id: opt.BatchId = None,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Set or correct labels of samples, each file exactly once: repeating the command writes nothing twice.

    Needs the columns `key` and `label` (empty: the label is withdrawn), and perhaps `label_time` (when the label became
    known; Unix seconds, by default now). Says which models were trained on labels that were corrected.
    """
    opt.check_batch_id(batch_id, files)
    from modyn.client.connection import Target, storage_client
    from modyn.client.tabular import file_digest

    with storage_client(Target(server, state, catalog), what="datasets set-labels", lineage=True) as client:
        for file in files:
            columns = _label_columns(file)
            answer = client.set_labels(name, batch_id or file_digest(file), **columns)
            how = "was set before" if answer.repeated_batch else "set"
            counts = f"{opt.amount(answer.num_labels, 'label')}, {answer.num_corrected:,} corrected"
            typer.echo(f"{file}: {how}, version {answer.version}, {counts}")
            if answer.num_corrected:
                find = partial(client.models_trained_on_old_labels, name, columns["keys"])
                _show_models("models trained on the old labels", find)


def delete_samples(
    name: opt.DatasetName,
    *,
    keys: Annotated[
        str | None, typer.Option("--keys", metavar="KEYS", help="Keys and ranges, such as 1,2,5-9 (with both ends).")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="A text file with keys and ranges, or a table with the column `key`."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Remove the bytes at once, not when a server next does it.")
    ] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Delete samples for ever: no later read or selection sees them.

    Says which of the source's own files still hold them, and which models were trained on them.
    """
    chosen = _keys(keys, file)
    from modyn.client.connection import Target, storage_client

    with storage_client(Target(server, state, catalog), what="datasets delete-samples", lineage=True) as client:
        client.dataset(name)  # or there is no such dataset, and nothing to ask
        if not yes:
            typer.confirm(f"Delete {opt.amount(len(chosen), 'sample')} of {name!r} for ever?", abort=True, err=True)
        done = client.delete_samples(name, chosen)
        before = f"; {done.num_deleted_before:,} had been deleted before" if done.num_deleted_before else ""
        typer.echo(f"{name}: {opt.amount(done.num_deleted, 'sample')} deleted{before}")
        if compact:
            compact_now(client, name)
        elif done.num_deleted:
            typer.echo(
                f"their bytes are removed by `modyn-client datasets compact {name}`, or by the server in a while"
            )
        _show_files(done.source_files, done.num_source_files)
        _show_models("models trained on them", partial(client.models_trained_on, name, chosen))


def _label_columns(file: Path) -> dict[str, pa.ChunkedArray]:
    """Columns of a file by the arguments of ``Client.set_labels``."""
    from modyn.client.tabular import read_table
    from modyn.core.errors import InvalidInputError

    arguments = {"key": "keys", "label": "labels", "label_time": "label_times"}
    table = read_table(file)
    if not {"key", "label"} <= set(table.column_names) <= set(arguments):
        raise InvalidInputError(
            f"{file}: the columns are {', '.join(table.column_names)}; expected key, label and perhaps label_time"
        )
    return {arguments[name]: table[name] for name in table.column_names}


def _keys(text: str | None, file: Path | None) -> KeySet:
    if (text is None) == (file is None):
        raise typer.BadParameter("say which samples, either with --keys or with --file")
    from modyn.client.key_lists import parse_keys, read_keys
    from modyn.core.errors import InvalidInputError

    found = parse_keys(text, "--keys") if text is not None else read_keys(file or Path())
    if len(found) == 0:
        raise InvalidInputError(f"{'--keys' if text is not None else file}: there is no key in it")
    return found


def _show_files(files: list[str], count: int) -> None:
    if not files:
        return
    typer.echo(f"files of the source that they came from, and that may still hold them ({count:,}):")
    for file in files:
        typer.echo(f"  {file}")
    if count > len(files):
        typer.echo(f"  … and at least {count - len(files):,} more")


def _show_models(title: str, find: Callable[[], list[TrainedModel]]) -> None:
    from modyn.client.dataset_tables import print_models
    from modyn.core.errors import NotAvailableError

    try:
        models = find()
    except NotAvailableError:
        typer.echo(f"{title}: not known here, for the server has no trainer_server; run this again on one that has")
        return
    if models:
        print_models(title, models)
    else:
        typer.echo(f"{title}: none")

"""``datasets verify`` and ``datasets compact``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.api import Client


def verify(
    name: opt.DatasetName,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Compare every byte of a dataset with its checksum; names each damaged file, and exits with 1 if there is one."""
    from modyn.client.connection import Target, storage_client
    from modyn.client.costs import readable_bytes
    from modyn.client.progress import progress_bar
    from modyn.core.errors import CorruptDataError
    from modyn.proto.storage_pb2 import VerifyProgress

    with (
        storage_client(Target(server, state, catalog), what="datasets verify") as client,
        progress_bar("verify") as show,
    ):

        def progress(p: VerifyProgress) -> None:
            sizes = f"{readable_bytes(p.bytes_done)}/{readable_bytes(p.bytes_total)}"
            show(p.bytes_done, p.bytes_total, f"{sizes}, {p.files_done:,} files")

        found = client.verify(name, progress)
    for reason in found.damaged:  # all of them, however many
        typer.echo(f"damaged: {reason}")
    if found.damaged:
        raise CorruptDataError(
            f"dataset {name!r}: {opt.amount(len(found.damaged), 'file')} damaged, {found.files:,} as written"
        )
    typer.echo(f"{name}: {opt.amount(found.files, 'file')}, {readable_bytes(found.num_bytes)}: all as written")


def compact(
    name: opt.DatasetName,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Join small segments and remove the bytes of deleted samples now; a server does both in the background."""
    from modyn.client.connection import Target, storage_client

    with storage_client(Target(server, state, catalog), what="datasets compact") as client:
        compact_now(client, name)


def compact_now(client: Client, name: str) -> None:
    """Compacts with a bar, and says what it did."""
    from modyn.client.costs import readable_bytes
    from modyn.client.progress import progress_bar

    with progress_bar("compact") as show:
        done = client.compact(
            name, lambda p: show(p.samples_done, p.samples_total, f"{p.samples_done:,}/{p.samples_total:,} samples")
        )
    size = readable_bytes(abs(done.bytes_removed))
    won = f"{size} {'won' if done.bytes_removed >= 0 else 'more'}"
    typer.echo(f"{name}: {opt.amount(done.segments_before, 'segment')} became {done.segments_after:,}, {won}")

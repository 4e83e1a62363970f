"""Options that several commands share."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

_DEBUG_VARIABLE = "MODYN_DEBUG"


def debugging() -> bool:
    """Whether errors come with a traceback."""
    return os.environ.get(_DEBUG_VARIABLE, "") not in ("", "0")


def _set_debug(value: bool) -> bool:
    if value:
        os.environ[_DEBUG_VARIABLE] = "1"
    return value


def parse_time(text: str) -> int:
    """Unix seconds from a number of seconds or an ISO date; without a zone it is UTC.

    >>> parse_time("86400"), parse_time("1970-01-02"), parse_time("1970-01-02T01:00:00+01:00")
    (86400, 86400, 86400)
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; expected Unix seconds such as 831945600 or an ISO date such as 1996-05-13T12:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def format_time(seconds: int | float | None) -> str:
    """An ISO-like UTC time for people.

    >>> format_time(86400)
    '1970-01-02 00:00:00'
    """
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # outside the years that calendars know
        return str(seconds)


def amount(number: int, what: str) -> str:
    """A number of things.

    >>> amount(1, "sample"), amount(1200, "sample")
    ('1 sample', '1,200 samples')
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file.", show_default=False)]
PipelineId = Annotated[str, typer.Argument(metavar="ID", help="As shown by `list`.", show_default=False)]

ServerAddress = Annotated[
    str | None,
    typer.Option("--server", metavar="ADDR", envvar="MODYN_SERVER", help="Use the server at host:port or unix:path."),
]
State = Annotated[
    Path,
    typer.Option("--state", metavar="DIR", envvar="MODYN_STATE", help="State directory of the private server."),
]
CatalogUrl = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="URL",
        envvar="MODYN_CATALOG",
        help="Catalog of the private server: sqlite:///PATH or postgresql://…; by default in the state directory.",
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show where an error comes from.")
]
MaximumTriggers = Annotated[
    int | None, typer.Option("--maximum-triggers", metavar="N", min=1, help="No trigger after the N-th.")
]
StartReplay = Annotated[
    int | None,
    typer.Option(
        "--start-replay-at",
        metavar="T",
        parser=parse_time,
        help="Replay samples from here on: Unix seconds or an ISO date (UTC). Default: all data.",
    ),
]
StopReplay = Annotated[
    int | None,
    typer.Option("--stop-replay-at", metavar="T", parser=parse_time, help="Replay samples before this moment only."),
]
StartKey = Annotated[
    int | None, typer.Option("--start-key", metavar="KEY", min=0, help="Only samples from this key on.")
]
EndKey = Annotated[int | None, typer.Option("--end-key", metavar="KEY", min=1, help="Only samples before this key.")]
Live = Annotated[bool, typer.Option("--live", help="Follow the dataset as it grows, until stopped.")]
NoReuse = Annotated[
    bool, typer.Option("--no-reuse", help="Train and evaluate again even where the same was done before.")
]

DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the dataset.", show_default=False)]
TableFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Parquet, Arrow IPC (Feather), CSV or JSON Lines files.", show_default=False
    ),
]
BatchId = Annotated[
    str | None,
    typer.Option(
        "--batch-id", metavar="ID", help="Names the batch (one file only); by default the digest of the file."
    ),
]


def check_batch_id(batch_id: str | None, files: list[Path]) -> None:
    """
    Raises:
        typer.BadParameter: several files would be the same batch.
    """
    if batch_id is not None and len(files) > 1:
        raise typer.BadParameter("--batch-id goes with one file; several would be the same batch")


DEFAULT_STATE = Path(".modyn")

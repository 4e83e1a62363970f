"""A bar on the terminal while something long is done; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Show = Callable[[int, int, str], None]
"""Shows what is done, out of how much (0: not known yet), and a text."""


@contextmanager
def progress_bar(what: str) -> Iterator[Show]:
    """A bar on standard error that disappears at the end.

    Args:
        what: a word, such as ``verify``.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda done, total, text: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, text="")

        def show(done: int, total: int, text: str) -> None:
            progress.update(task, completed=done, total=total or None, text=text)

        yield show


def counted(batches: Iterable[pa.RecordBatch], num_rows: int, show: Show) -> Iterator[pa.RecordBatch]:
    """Batches, shown as they are taken."""
    done = 0
    for batch in batches:
        yield batch
        done += batch.num_rows
        show(done, num_rows, f"{done:,}/{num_rows:,} rows")

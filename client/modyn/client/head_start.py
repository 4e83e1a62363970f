"""A head start for what takes longest when a private server starts: importing what jobs need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modyn.core.jobs import ForkServerLauncher

FIRST = ("modyn.models.preload",)
"""What jobs of all services need: torch, most of all."""


@contextmanager
def jobs_begun(*, wanted: bool) -> Iterator[ForkServerLauncher | None]:
    """A launcher of jobs for :class:`modyn.client.server.Server`, which imports in a process of its own meanwhile.

    It is closed at the end, whether or not a server took it.

    Args:
        wanted: False: there is none, because no private server will start.
    """
    if not wanted:
        yield None
        return
    from modyn.core.jobs import ForkServerLauncher

    launcher = ForkServerLauncher(FIRST, complete=False)
    try:
        yield launcher
    finally:
        launcher.close()

"""Writing leases: one process at a time writes to a dataset.

A lease is a row in the catalog that its holder renews. Every change checks in its own transaction that it is still
the holder's, so a process that was paused for too long cannot write behind the back of the one that took over. The
lease of a process on this machine that is known to be dead is taken at once; otherwise it has to run out.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from pathlib import Path

from modyn.core.errors import ConflictError, ModynError
from modyn.storage.catalog import StorageCatalog

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""How long a lease lasts after it was renewed. Other machines wait as long when a writer dies."""

RENEWALS = 3
"""How often it is renewed in this time."""

_living: set[str] = set()
"""Holders in this process."""


class Leases:
    """The leases of one storage service.

    Args:
        read_only: hold none, so that every write is refused.
    """

    def __init__(self, catalog: StorageCatalog, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.holder = f"{_machine()}/{os.getpid()}/{_start_time(os.getpid())}/{uuid.uuid4().hex}"
        self._who = f"process {os.getpid()} on {os.uname().nodename}"
        self._catalog = catalog
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        _living.add(self.holder)

    def hold(self, dataset_id: int, name: str) -> bool:
        """Makes sure that this service may write to a dataset.

        Returns:
            Whether the lease is new.

        Raises:
            ConflictError: another process writes to it, or this one only reads.
        """
        if dataset_id in self._held:
            return False
        with self._lock:
            if dataset_id in self._held:
                return False
            if self.read_only:
                raise ConflictError(
                    f"this storage service only serves reads (--replica), so nothing is written to dataset {name!r}; "
                    "send writes to the service that writes"
                    + (f" ({holder})" if (holder := self._catalog.lease_holder(dataset_id)) else "")
                )
            other = self._catalog.take_lease(dataset_id, self.holder, self._who, LEASE_SECONDS, _is_gone)
            if other is not None:
                raise ConflictError(
                    f"dataset {name!r} is being written by {other}; a dataset has one writer. Send writes there, or "
                    f"stop it and try again (a lost writer's lease runs out after {LEASE_SECONDS:.0f} s)"
                )
            self._held.add(dataset_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()
            return True

    def holds(self, dataset_id: int) -> bool:
        """Whether it was this service's when it was last heard of."""
        return dataset_id in self._held

    def lost(self, dataset_id: int) -> None:
        """Another process has taken over."""
        with self._lock:
            self._held.discard(dataset_id)

    def close(self) -> None:
        """Gives all leases back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        _living.discard(self.holder)
        if self._held:
            try:
                self._catalog.drop_leases(self.holder)
            except ModynError as error:
                logger.warning("writing leases run out by themselves: %s", error.message)

    def _renew(self) -> None:
        complained = False
        while not self._stop.wait(LEASE_SECONDS / RENEWALS):
            with self._lock:
                held = sorted(self._held)
            try:
                renewed = self._catalog.renew_leases(held, self.holder, LEASE_SECONDS)
                for dataset_id in set(held) - renewed:
                    logger.warning("another process has taken over writing to a dataset; this one serves its reads")
                    self.lost(dataset_id)
                complained = False
            except ModynError as error:  # the next change finds out whether somebody has taken over
                if not complained:
                    logger.warning("writing leases cannot be renewed: %s", error.message)
                complained = True


def _is_gone(holder: str) -> bool:
    """Whether a holder is known to be dead; False where it cannot be known."""
    try:
        machine, pid, start_time, _ = holder.split("/")
    except ValueError:
        return False
    if machine != _machine():
        return False
    if int(pid) == os.getpid() and start_time == _start_time(os.getpid()):
        return holder not in _living
    return _start_time(int(pid)) != start_time


def _machine() -> str:
    """Names this boot of this machine and the process numbers in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"unknown:{uuid.getnode()}"


def _start_time(pid: int) -> str:
    """When a process started, in ticks; empty if it has ended. A number may be used again by another process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # dead, but nobody has asked for its exit status yet
    except (OSError, IndexError):
        return ""

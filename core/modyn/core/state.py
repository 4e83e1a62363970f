"""The state directory: everything that outlives a process, and who is using it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modyn.core.errors import ConflictError, InvalidInputError
from modyn.core.files import fsync_directory

SERVICES = ("storage", "selector", "trainer_server", "evaluator", "supervisor")


@dataclass(frozen=True)
class Holder:
    """The process that uses a service's part of a state directory."""

    pid: int
    what: str
    """For messages, such as ``run digits``."""
    address: str | None = None
    """Where it listens, once it does."""


class StateDirectory:
    """Paths inside a state directory and the locks on it.

    Layout: ``catalog.db``, ``datasets/``, ``models/``, ``training_sets/``, ``outcomes/``, ``jobs/``, ``locks/``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()

    def create(self) -> StateDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "locks").mkdir(exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"--state {self.path}: cannot create the directory: {error.strerror}; choose one you may write to"
            ) from error
        return self

    @property
    def default_catalog_url(self) -> str:
        return f"sqlite:///{self.path / 'catalog.db'}"

    def folder(self, name: str) -> Path:
        """A sub-folder, created on first use."""
        path = self.path / name
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            fsync_directory(self.path)
        return path

    def holder(self, service: str = "supervisor") -> Holder | None:
        """Who holds a service's lock now, or None."""
        path = self.path / "locks" / service
        try:
            with path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _read_holder(path)
                return None
        except FileNotFoundError:
            return None

    def claim(self, services: Sequence[str], what: str) -> Claim:
        """Takes the locks of services, all or none.

        Raises:
            ConflictError: another process holds one; the message names it.
        """
        self.create()
        files: list[int] = []
        for service in services:
            path = self.path / "locks" / service
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            files.append(fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                for taken in files:
                    os.close(taken)
                holder = _read_holder(path)
                who = f"{holder.what!r} (process {holder.pid})" if holder else "another process"
                raise ConflictError(
                    f"the state directory {self.path} is in use by {who}; wait for it, stop it, "
                    "or use another one with --state DIR"
                ) from None
        claim = Claim(files, what, self._announced(services))
        claim.announce(None)
        return claim

    def _announced(self, services: Sequence[str]) -> frozenset[str]:
        holders = [_read_holder(self.path / "locks" / service) for service in services]
        return frozenset(holder.address for holder in holders if holder is not None and holder.address is not None)


class Claim:
    """Locks held on a state directory until closed (or until the process dies)."""

    def __init__(self, files: list[int], what: str, former_addresses: frozenset[str]) -> None:
        self._files = files
        self._what = what
        self.former_addresses = former_addresses
        """Where earlier holders listened; all of them are gone, killed ones without tidying up."""

    def announce(self, address: str | None) -> None:
        """Writes who holds the locks and where it listens."""
        text = json.dumps(asdict(Holder(os.getpid(), self._what, address))).encode()
        for fd in self._files:
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)

    def close(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files = []


def _read_holder(path: Path) -> Holder | None:
    try:
        fields = json.loads(path.read_text())
        return Holder(int(fields["pid"]), str(fields["what"]), fields.get("address"))
    except (OSError, ValueError, KeyError):
        return None

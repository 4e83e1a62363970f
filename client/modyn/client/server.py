"""The composition root: which services a process serves, and everything they need.

The only place that knows how each service is constructed. A service's module is imported when it is asked for, so a
process that serves storage alone loads nothing of training.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

import grpc

from modyn.client.head_start import FIRST
from modyn.core.catalog import Catalog
from modyn.core.devices import Devices
from modyn.core.errors import InvalidInputError, NotAvailableError, NotFoundError
from modyn.core.jobs import ForkServerLauncher, JobDescription, JobLauncher
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import RpcServer
from modyn.core.state import SERVICES, Claim, StateDirectory

JOB_SERVICES = ("trainer_server", "evaluator")
"""Services that run jobs in child processes."""

WARM_UP = "modyn.models.warm_up:warm_up"
"""How their jobs begin; its argument is what jobs connect to."""

READING_SERVICES = ("storage", "supervisor")
"""What reports, listings and statuses need: no jobs, so nothing heavy is loaded."""

LINEAGE_SERVICES = ("storage", "selector", "trainer_server")
"""What knows which models were trained on some samples."""

SOCKET_NAME = "modyn.sock"
SOCKET_FOLDER_PREFIX = "modyn-"

UNIX_PATH_LIMIT = 100
"""Longest path of a Unix socket in bytes (107 on Linux, 103 on macOS)."""


class Service(Protocol):
    """What every service class offers."""

    def add_to(self, server: grpc.Server) -> None: ...

    def close(self) -> None: ...


class Server:
    """Serves any set of services from one process on one port.

    Use it as a context manager, or call :meth:`start` and :meth:`close`. Whatever happens in between, after
    :meth:`close` no child process is left and the locks on the state directory are free.

    Args:
        state: directory that outlives the process; the served services' locks on it are taken.
        services: names out of :data:`~modyn.core.state.SERVICES`.
        address: ``host:port`` (port 0 picks a free one) or ``unix:path``.
        catalog_url: ``sqlite:///…`` or ``postgresql://…``; by default SQLite inside the state directory.
        peers: where the services listen that this process does not serve; an empty string means here.
        allow_user_code: accept inline Python and code folders in pipelines.
        insecure: allow an address that other machines can reach, without encryption.
        what: how this process calls itself to others that want the state directory, such as ``run digits``.
        announce: tell others the address, so that they can join instead of being refused.
        runs_jobs: without, services that start jobs only answer questions, and start much faster.
        replica: serve reads of storage beside the process that writes; no lock is taken.
        job_memory_bytes: what each job may allocate at most.
        launcher: of jobs, begun ahead and not complete; it ends with the server. Starting does not wait for it,
            the first job does. By default one is started.
    """

    def __init__(
        self,
        state: StateDirectory,
        *,
        services: Sequence[str] = SERVICES,
        address: str,
        catalog_url: str | None = None,
        peers: Addresses | None = None,
        allow_user_code: bool,
        insecure: bool = False,
        what: str,
        announce: bool = True,
        runs_jobs: bool = True,
        replica: bool = False,
        job_memory_bytes: int | None = None,
        launcher: ForkServerLauncher | None = None,
    ) -> None:
        self.state = state
        self.services = _checked(services)
        if replica and self.services != ("storage",):
            raise InvalidInputError(
                f"a replica serves storage alone, not {', '.join(self.services)}; "
                "serve the others in processes of their own"
            )
        self.address = address
        self._catalog_url = catalog_url
        self._addresses = peers or Addresses.all_at("")
        self._allow_user_code = allow_user_code
        self._insecure = insecure
        self._what = what
        self._announce = announce
        self._runs_jobs = runs_jobs
        self._replica = replica
        self._job_memory_bytes = job_memory_bytes
        self._launcher = launcher
        self._running = ExitStack()
        self._rpc: RpcServer | None = None

    def start(self) -> None:
        """Serves; returns once calls are answered and, unless their launcher was begun ahead, jobs start fast.

        Raises:
            ConflictError: another process uses the state directory, or the address.
            UnavailableError: the catalog cannot be reached.
        """
        with ExitStack() as starting:  # undone if anything below fails
            claim = self._claim(starting)
            launcher = self._start_launcher(starting)  # first: it imports while the rest starts
            catalog = Catalog(self._catalog_url or self.state.default_catalog_url)
            starting.callback(catalog.close)
            devices = Devices()  # of this machine, for the jobs of all services
            peers = Peers(self._addresses)
            starting.callback(peers.close)
            build = partial(
                self._build, catalog=catalog, peers=peers, launcher=launcher, devices=devices, starting=starting
            )
            built = [build(name) for name in self.services if name != "supervisor"]
            starting.callback(self._stop_rpc)
            if "supervisor" in self.services:  # last, so closed first: before anything its pipelines call
                built.append(build("supervisor"))
            self._rpc = RpcServer(self.address, [service.add_to for service in built], insecure=self._insecure)
            self.address = self._rpc.address
            peers.addresses = self._resolved_addresses()
            self._rpc.start()
            if isinstance(launcher, ForkServerLauncher):
                asked = dict.fromkeys((peers.addresses.storage, peers.addresses.selector))
                launcher.warm_up(WARM_UP, json.dumps(list(asked)))
                if self._launcher is None:
                    launcher.wait_ready()
            if self._announce and claim is not None:
                claim.announce(self.address)
            self._running = starting.pop_all()

    def wait(self) -> None:
        """Blocks until the server is stopped."""
        if self._rpc is not None:
            self._rpc.wait()

    def close(self) -> None:
        """Stops pipelines, calls and jobs, in this order; safe to call twice."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _claim(self, starting: ExitStack) -> Claim | None:
        if self._replica:
            if not self.state.path.is_dir():
                raise NotFoundError(
                    f"--state {self.state.path}: there is no such state directory; a replica needs that of the service "
                    "that writes, start it first with `modyn serve storage --state DIR`"
                )
            return None
        claim = self.state.claim(self.services, self._what)
        starting.callback(claim.close)
        _remove_left_sockets(claim.former_addresses)
        return claim

    def _start_launcher(self, starting: ExitStack) -> JobLauncher | None:
        serving = [name for name in JOB_SERVICES if name in self.services]
        if not serving:
            return None
        if not self._runs_jobs:
            return _NoJobs()
        launcher = self._launcher or ForkServerLauncher(FIRST, complete=False)  # while the services are imported here
        starting.callback(launcher.close)
        if self._job_memory_bytes is not None:
            launcher.limit_memory(self._job_memory_bytes)
        modules = [module for name in serving for module in _module(name).PRELOAD]
        launcher.complete(list(dict.fromkeys(modules)))
        return launcher

    def _build(
        self,
        name: str,
        *,
        catalog: Catalog,
        peers: Peers,
        launcher: JobLauncher | None,
        devices: Devices,
        starting: ExitStack,
    ) -> Service:
        module = _module(name)
        service: Service
        match name:
            case "storage":
                service = module.StorageService(self.state, catalog, read_only=self._replica)
            case "selector":
                service = module.SelectorService(self.state, catalog, peers)
            case "supervisor":
                service = module.SupervisorService(
                    catalog, peers, allow_user_code=self._allow_user_code, services=self.services
                )
            case _:
                cls = module.TrainerService if name == "trainer_server" else module.EvaluatorService
                service = cls(
                    self.state,
                    catalog,
                    peers,
                    launcher=launcher,
                    allow_user_code=self._allow_user_code,
                    devices=devices,
                )
        starting.callback(service.close)
        return service

    def _stop_rpc(self) -> None:
        if self._rpc is not None:
            self._rpc.stop()

    def _resolved_addresses(self) -> Addresses:
        """Served services are here; so are those nobody said anything about."""
        here = {
            field.name: self.address
            for field in fields(Addresses)
            if field.name in self.services or not getattr(self._addresses, field.name)
        }
        if "trainer_server" in self.services and self._addresses.trainer_server:  # others beside the one here
            here["trainer_server"] = f"{self.address},{self._addresses.trainer_server}"
        return replace(self._addresses, **here)


class _NoJobs(JobLauncher):
    """Of a server that only answers questions."""

    def launch(self, description: JobDescription) -> NoReturn:
        raise NotAvailableError("this server only answers questions and runs no jobs; use `modyn serve` for pipelines")

    def close(self) -> None:
        """Nothing to release."""


class EmbeddedServer(Server):
    """A server private to this process and its user: a Unix socket in a directory only the user can enter.

    It lends its processes, not its state: what happened stays in the state directory.

    Args:
        state: the state directory.
        what: how this process calls itself to others.
        services: what to serve.
        catalog_url: as in :class:`Server`.
        announce, runs_jobs, launcher: as in :class:`Server`.
    """

    def __init__(
        self,
        state: StateDirectory,
        what: str,
        *,
        services: Sequence[str] = SERVICES,
        catalog_url: str | None = None,
        announce: bool = True,
        runs_jobs: bool = True,
        launcher: ForkServerLauncher | None = None,
    ) -> None:
        super().__init__(
            state,
            services=services,
            address="",
            catalog_url=catalog_url,
            allow_user_code=True,
            what=what,
            announce=announce,
            runs_jobs=runs_jobs,
            launcher=launcher,
        )

    def start(self) -> None:
        folder = private_folder()
        self.address = f"unix:{folder / SOCKET_NAME}"
        try:
            super().start()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        stop, self._running = self._running, ExitStack()
        self._running.callback(shutil.rmtree, folder, ignore_errors=True)
        self._running.push(stop)


def embedded(state: StateDirectory, what: str, **options: Any) -> EmbeddedServer:
    """A private server with everything; start it, or use it as a context manager."""
    return EmbeddedServer(state, what, **options)


def private_folder() -> Path:
    """A new directory (mode 0700) whose path is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX))
    if len(bytes(folder)) + len(f"/{SOCKET_NAME}") <= UNIX_PATH_LIMIT:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir="/tmp"))  # mkdtemp makes it private


def _remove_left_sockets(addresses: Iterable[str]) -> None:
    """Removes the socket folders of private servers that were killed; they are gone, for their locks are free."""
    for address in addresses:
        socket = Path(address.removeprefix("unix:"))
        if socket.name == SOCKET_NAME and socket.parent.name.startswith(SOCKET_FOLDER_PREFIX) and socket.is_socket():
            with suppress(OSError):  # not worth a failure
                socket.unlink()
                socket.parent.rmdir()


def _checked(services: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in services if name not in SERVICES]
    if unknown or not services:
        raise InvalidInputError(
            f"service {', '.join(unknown) or '(none)'} is not known; expected some of {', '.join(SERVICES)}"
        )
    return tuple(name for name in SERVICES if name in services)


def _module(service: str) -> Any:
    return importlib.import_module(f"modyn.{service}.service")

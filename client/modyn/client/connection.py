"""Which server a command talks to: one that runs, or a private one for the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from modyn.client.api import Client
from modyn.client.server import LINEAGE_SERVICES, READING_SERVICES, EmbeddedServer
from modyn.core.errors import ConflictError, NotFoundError
from modyn.core.peers import Addresses
from modyn.core.state import SERVICES, StateDirectory

PATIENCE_SECONDS = 5.0
"""How long to wait for a short command that holds the state directory."""

RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class Target:
    """What the options say about where to connect."""

    server: str | None
    state: Path
    catalog: str | None


@contextmanager
def connected(
    target: Target,
    *,
    what: str,
    services: Sequence[str] = READING_SERVICES,
    joins: str = "supervisor",
    creates_state: bool = False,
    announce: bool = False,
    runs_jobs: bool = False,
) -> Iterator[Client]:
    """A client for a command that works beside a running pipeline.

    With ``--server`` it talks to that server; else to whoever holds the state directory; else to a private server
    that only lives as long as the command.

    Args:
        target: the options.
        what: how the private server calls itself.
        services: what the private server serves.
        joins: the service that the command needs from a server that runs.
        creates_state: the command may be the first one on the state directory.
        announce: others may join the private server, for the command stays.
        runs_jobs: the command needs jobs, so the private server takes a few seconds to start.

    Raises:
        NotFoundError: there is no state directory.
        ConflictError: something that cannot be joined holds it.
    """
    if target.server is not None:
        with Client(target.server) as client:
            yield client
        return
    state = StateDirectory(target.state)
    if not creates_state and not state.path.is_dir():
        raise NotFoundError(
            f"--state {target.state}: there is no such state directory; `modyn-client run PIPELINE` creates one, "
            "or name another with --state DIR or a server with --server ADDR"
        )
    with _join_or_serve(
        state, target, what=what, services=services, joins=joins, announce=announce, runs_jobs=runs_jobs
    ) as client:
        yield client


def storage_client(
    target: Target, *, what: str, creates_state: bool = False, announce: bool = False, lineage: bool = False
) -> AbstractContextManager[Client]:
    """A client for a command about datasets; the arguments are those of :func:`connected`.

    Args:
        lineage: the command asks for models too, if the server knows them.
    """
    services = LINEAGE_SERVICES if lineage else ("storage",)
    return connected(
        target, what=what, services=services, joins="storage", creates_state=creates_state, announce=announce
    )


@contextmanager
def running_server(target: Target) -> Iterator[Client]:
    """A client of a server that outlives the command: the one given, or the holder of the state directory.

    Raises:
        NotFoundError: none runs there.
    """
    address = target.server
    if address is None:
        holder = StateDirectory(target.state).holder()
        if holder is None or holder.address is None:
            raise NotFoundError(
                f"no server uses the state directory {target.state}; name one with --server ADDR or --state DIR, "
                "or start one with `modyn serve`"
            )
        address = holder.address
    with Client(address) as client:
        yield client


def _join_or_serve(
    state: StateDirectory,
    target: Target,
    *,
    what: str,
    services: Sequence[str],
    joins: str,
    announce: bool,
    runs_jobs: bool,
) -> Client:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        holder = state.holder(joins)
        if holder is not None and holder.address is not None:
            return Client(_addresses(state, holder.address))
        # By default it does not announce itself, for it is gone in a moment.
        server = EmbeddedServer(
            state, what, services=services, catalog_url=target.catalog, announce=announce, runs_jobs=runs_jobs
        )
        try:
            server.start()
        except ConflictError:  # another short command, or one that starts and can be joined then
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return Client.of_server(server, owned=True)


def _addresses(state: StateDirectory, joined: str) -> Addresses:
    """Where the services of a state directory listen; those that nobody serves: where the others are."""
    holders = {service: state.holder(service) for service in SERVICES}
    found = {service: holder.address for service, holder in holders.items() if holder is not None and holder.address}
    return Addresses(**{service: found.get(service, joined) for service in SERVICES})


def start_patiently(server: EmbeddedServer) -> None:
    """Starts a server; waits for short commands, which hold the state directory without announcing an address.

    Raises:
        ConflictError: the state directory is in use; the message names by whom.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return server.start()
        except ConflictError:
            holders = [server.state.holder(service) for service in server.services]
            announced = any(holder is not None and holder.address is not None for holder in holders)
            if announced or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)

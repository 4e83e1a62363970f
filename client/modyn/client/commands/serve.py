"""``serve``: a server that runs until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from modyn.client import options as opt
from modyn.client.signals import Interrupted

DEFAULT_ADDRESS = "127.0.0.1:50051"

GIB = 1 << 30

NEEDS = {
    "storage": (),
    "selector": ("storage",),
    "trainer_server": ("storage", "selector"),
    "evaluator": ("storage",),
    "supervisor": ("storage", "selector", "trainer_server", "evaluator"),
}
"""Which other services each service calls."""


def _peer(service: str) -> typer.models.OptionInfo:
    flag = "--" + service.replace("_", "-")
    info = typer.Option(flag, metavar="ADDR", help=f"Where {service} listens, if not here.", show_default=False)
    assert isinstance(info, typer.models.OptionInfo)  # declared as Any
    return info


def serve(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...",
            help="storage, selector, trainer_server, evaluator, supervisor; all by default.",
            show_default=False,
        ),
    ] = None,
    *,
    address: Annotated[
        str, typer.Option("--address", metavar="ADDR", help="host:port (port 0: a free one) or unix:path.")
    ] = DEFAULT_ADDRESS,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    storage: Annotated[str | None, _peer("storage")] = None,
    selector: Annotated[str | None, _peer("selector")] = None,
    trainer_server: Annotated[
        list[str] | None,
        typer.Option(
            "--trainer-server",
            metavar="ADDR",
            help="Where trainer_server listens, if not here; repeated: trainings are spread over all of them.",
            show_default=False,
        ),
    ] = None,
    evaluator: Annotated[str | None, _peer("evaluator")] = None,
    allow_user_code: Annotated[
        bool, typer.Option("--allow-user-code", help="Accept inline Python and code folders: clients can run anything.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen where other machines can connect, without encryption.")
    ] = False,
    replica: Annotated[
        bool,
        typer.Option(
            "--replica",
            help="Serve reads of storage beside the process that writes to the same state directory.",
        ),
    ] = False,
    job_memory: Annotated[
        float | None,
        typer.Option(
            "--job-memory",
            metavar="GIB",
            min=0.1,
            help="Memory that each training or evaluation job may allocate; one that wants more fails.",
            show_default=False,
        ),
    ] = None,
    debug: opt.Debug = False,
) -> None:
    """Serve all services, or some of them, until SIGTERM or Ctrl-C.

    Services of one deployment share a state directory and a catalog.
    """
    from modyn.core.state import SERVICES, StateDirectory

    chosen = tuple(name.replace("-", "_") for name in services or (("storage",) if replica else SERVICES))
    if replica and chosen != ("storage",):
        raise typer.BadParameter(
            f"--replica is for storage alone, not for {', '.join(chosen)}; serve the others in processes of their own"
        )
    trainers = ",".join(trainer_server or ()) or None
    given = {"storage": storage, "selector": selector, "trainer_server": trainers, "evaluator": evaluator}
    check_peers(chosen, given)
    from modyn.client.server import Server
    from modyn.core.peers import Addresses

    server = Server(
        StateDirectory(state),
        services=chosen,
        address=address,
        catalog_url=catalog,
        peers=Addresses(**{name: address or "" for name, address in given.items()}, supervisor=""),
        allow_user_code=allow_user_code,
        insecure=insecure,
        what="serve" if set(chosen) == set(SERVICES) else f"serve {' '.join(chosen)}",
        replica=replica,
        job_memory_bytes=None if job_memory is None else int(job_memory * GIB),
    )
    with server:
        try:  # whoever has read the line may stop the server at once
            typer.echo(f"serving {', '.join(server.services)}{' for reading' if replica else ''} at {server.address}")
            server.wait()
        except (Interrupted, KeyboardInterrupt):  # the way to end a server; not a failure
            typer.echo("stopping")


def check_peers(chosen: tuple[str, ...], given: dict[str, str | None]) -> None:
    """Every service that a chosen one calls is served too, or its address is given.

    Raises:
        typer.BadParameter: one is missing, or is no service.
    """
    unknown = [name for name in chosen if name not in NEEDS]
    if unknown:
        raise typer.BadParameter(f"service {', '.join(unknown)} is not known; expected some of {', '.join(NEEDS)}")
    for name in chosen:
        missing = [peer for peer in NEEDS[name] if peer not in chosen and not given[peer]]
        if missing:
            flags = " and ".join(f"--{peer.replace('_', '-')} ADDR" for peer in missing)
            raise typer.BadParameter(f"{name} calls {', '.join(missing)}; say where with {flags}")

from __future__ import annotations

import contextlib
import socket
import stat
from pathlib import Path

import pytest

from modyn.client.api import Client
from modyn.client.connection import Target, connected, start_patiently
from modyn.client.server import READING_SERVICES, EmbeddedServer, Server, private_folder
from modyn.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from modyn.core.peers import Addresses
from modyn.core.state import StateDirectory


def loopback(state: StateDirectory, **options: object) -> Server:
    settings = {
        "services": ("storage",),
        "address": "127.0.0.1:0",
        "allow_user_code": False,
        "what": "a test",
        **options,
    }
    return Server(state, **settings)  # type: ignore[arg-type]


def test_serves_announces_and_frees(state: StateDirectory) -> None:
    with loopback(state, services=READING_SERVICES) as server:
        assert not server.address.endswith(":0")
        holder = state.holder("supervisor")
        assert holder is not None
        assert (holder.what, holder.address) == ("a test", server.address)
        with Client(server.address) as client:
            assert (client.pipelines(), client.datasets()) == ([], [])
            assert not client.server_info().allows_user_code
            assert tuple(client.server_info().services) == READING_SERVICES
    assert state.holder("supervisor") is None
    server.close()  # again is harmless


def test_second_server_is_refused_by_name(state: StateDirectory) -> None:
    with loopback(state), pytest.raises(ConflictError, match=r"in use by 'a test' \(process \d+\)"):
        loopback(state).start()
    loopback(state).start()


def test_services_of_one_state_can_be_split(state: StateDirectory) -> None:
    with loopback(state) as storage:
        peers = Addresses(storage.address, "", "", "", "")
        with loopback(state, services=("supervisor",), peers=peers) as supervisor, Client(supervisor.address) as client:
            assert client.server_info().services == ["supervisor"]


def test_port_in_use_undoes_the_start(state: StateDirectory) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConflictError, match="the port is in use"):
            loopback(state, address=address).start()
    assert state.holder("storage") is None
    with loopback(state, address=address):
        pass


def test_unreachable_catalog_undoes_the_start(state: StateDirectory) -> None:
    server = loopback(state, catalog_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(UnavailableError, match="catalog at postgresql"):
        server.start()
    assert state.holder("storage") is None


@pytest.mark.parametrize("services", [("storag",), ()])
def test_unknown_services_are_refused(state: StateDirectory, services: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="expected some of storage, selector"):
        loopback(state, services=services)


def test_embedded_server_is_private_and_leaves_nothing(state: StateDirectory) -> None:
    with EmbeddedServer(state, "a test", services=READING_SERVICES) as server:
        path = Path(server.address.removeprefix("unix:"))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with Client.of_server(server) as client:
            assert client.server_info().allows_user_code
    assert not path.parent.exists()


def test_the_socket_of_a_killed_server_is_removed_by_the_next(state: StateDirectory) -> None:
    folder = private_folder()
    left = folder / "modyn.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left))
    claim = state.claim(["storage"], "run killed")
    claim.announce(f"unix:{left}")
    claim.close()  # as the system does it for a killed process: what it announced stays
    with EmbeddedServer(state, "the next", services=["storage"]):
        assert not folder.exists()


def test_failed_start_leaves_no_folder(state: StateDirectory) -> None:
    with EmbeddedServer(state, "a test", services=("storage",)):
        refused = EmbeddedServer(state, "another", services=("storage",))
        with pytest.raises(ConflictError):
            refused.start()
        assert not Path(refused.address.removeprefix("unix:")).parent.exists()


def test_long_temporary_directory_still_gives_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = private_folder()
    try:
        assert len(str(folder / "modyn.sock")) <= 100
        assert list(deep.iterdir()) == []
    finally:
        folder.rmdir()


def test_short_commands_wait_for_each_other(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modyn.client.connection.PATIENCE_SECONDS", 0.2)
    target = Target(None, state.path, None)
    with connected(target, what="list"):
        assert state.holder() is not None
        with pytest.raises(ConflictError, match="in use by 'list'"):
            start_patiently(EmbeddedServer(state, "run x", services=READING_SERVICES))
    server = EmbeddedServer(state, "run x", services=READING_SERVICES)
    start_patiently(server)
    with contextlib.closing(server), pytest.raises(ConflictError, match="in use by 'run x'"):
        start_patiently(EmbeddedServer(state, "run y", services=READING_SERVICES))


def test_commands_join_the_server_that_runs(state: StateDirectory) -> None:
    target = Target(None, state.path, None)
    with EmbeddedServer(state, "run x", services=READING_SERVICES), connected(target, what="list") as client:
        client.register_dataset("d")
        with connected(target, what="datasets list", joins="storage") as other:
            assert [dataset.name for dataset in other.datasets()] == ["d"]


def test_no_state_directory_is_created_by_looking(tmp_path: Path) -> None:
    with (
        pytest.raises(NotFoundError, match="no such state directory"),
        connected(Target(None, tmp_path / "none", None), what="list"),
    ):
        pass
    assert not (tmp_path / "none").exists()

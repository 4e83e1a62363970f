"""Fixtures that start real parts: databases, state directories, servers."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.core.catalog import Catalog
from modyn.core.state import StateDirectory

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
UNPRIVILEGED_USER = "nobody"


def postgres_binary(name: str) -> str | None:
    """Path of a PostgreSQL server binary; Debian keeps them off the PATH."""
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else shutil.which(name)


def _wrapper(folder: Path, binary: str) -> str:
    """A script that runs a PostgreSQL binary as an unprivileged user, because it refuses to run as root."""
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    script = folder / f"as_user_{Path(binary).name}"
    script.write_text(
        "#!/bin/sh\n"
        f"chown -R {user.pw_uid}:{user.pw_gid} {folder}/base\n"
        f'exec setpriv --reuid={user.pw_uid} --regid={user.pw_gid} --clear-groups "{binary}" "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return str(script)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL server's database ``test``; skipped where PostgreSQL is not installed."""
    import testing.postgresql

    initdb, postgres = postgres_binary("initdb"), postgres_binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL server binaries (initdb, postgres) are not installed")
    # Not in pytest's own folder, which is closed to the unprivileged user.
    folder = Path(tempfile.mkdtemp(prefix="modyn-postgres-"))
    folder.chmod(0o755)
    base = folder / "base"
    base.mkdir()
    if os.geteuid() == 0:
        initdb, postgres = _wrapper(folder, initdb), _wrapper(folder, postgres)
    server = testing.postgresql.Postgresql(initdb=initdb, postgres=postgres, base_dir=str(base))
    try:
        yield server.url()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty PostgreSQL database of this test's own."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type, unused-ignore]
    yield postgres_server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type, unused-ignore]


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state").create()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog on SQLite and on PostgreSQL: tests with it run twice."""
    url = (
        f"sqlite:///{tmp_path / 'catalog.db'}"
        if request.param == "sqlite"
        else str(request.getfixturevalue("postgres_url"))
    )
    catalog = Catalog(url)
    yield catalog
    catalog.close()


@pytest.fixture
def catalog(state: StateDirectory) -> Iterator[Catalog]:
    """The default catalog of the ``state`` fixture."""
    catalog = Catalog(state.default_catalog_url)
    yield catalog
    catalog.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data streams; skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the data streams at {SHARED_DATA} are not present")
    return SHARED_DATA


def processes_of_session(session: int) -> list[int]:
    """Ids of all live processes in a session, to check that nothing is left behind."""
    listing = subprocess.run(["ps", "-eo", "pid=,sid="], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in listing.splitlines())
    return [int(pid) for pid, sid in rows if int(sid) == session]

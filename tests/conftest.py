"""Fixtures that start real parts: databases, state directories, servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from modyn.core.catalog import Catalog
from modyn.core.state import StateDirectory
from tests.postgres import running_postgres

settings.register_profile("modyn", deadline=None)  # a busy machine is not a failure
settings.load_profile("modyn")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL server's database ``test``; skipped where PostgreSQL is not installed."""
    with running_postgres() as url:
        if url is None:
            pytest.skip("PostgreSQL server binaries (initdb, postgres) are not installed")
        yield url


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

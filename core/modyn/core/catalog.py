"""The catalog: small facts in a relational database (SQLite by default, PostgreSQL by URL).

Every service keeps its own tables and its own migration history in the one database; no service reads
another's tables. Whatever has one entry per sample is not here but in columns on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeoutError,
)

from modyn.core.errors import InvalidInputError, UnavailableError

BUSY_TIMEOUT_MS = 30_000
"""How long a SQLite writer waits for another one."""

CONNECT_SECONDS = 10
"""How long a PostgreSQL server may take to answer, unless the URL says another ``connect_timeout``."""


class Catalog:
    """A connection pool with explicit read and write transactions.

    Args:
        url: ``sqlite:///path/to/catalog.db`` or ``postgresql://user:password@host/database``.
    """

    def __init__(self, url: str) -> None:
        self.url = _normalised(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        try:
            patience = (
                {} if self.is_sqlite or "connect_timeout" in self.url.query else {"connect_timeout": CONNECT_SECONDS}
            )
            self._engine = sa.create_engine(self.url, pool_pre_ping=not self.is_sqlite, connect_args=patience)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InvalidInputError(
                f"catalog url {self.url}: no driver for it is installed ({error}); "
                "for PostgreSQL: pip install 'modyn[postgresql]'"
            ) from error
        if self.is_sqlite:
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._migrate_lock = threading.Lock()

    @property
    def _remedy(self) -> str:
        if self.is_sqlite:
            return (
                "check that the file can be written, the disk is not full, and the file is whole; "
                "if it is damaged, restore it or use another state directory"
            )
        return "check that the database runs and the URL, user and free disk space are right"

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only transaction: one consistent view."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A writing transaction: commits at the end of the block, rolls back on any error.

        On SQLite it takes the write lock at its start, so it never fails half-way with "database is locked".
        """
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as raw:
                connection = raw.execution_options(modyn_write=write)
                if not write and not self.is_sqlite:  # by default every statement sees the newest data
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    yield connection
        except (IntegrityError, ProgrammingError, DataError):
            raise  # defects of a query, not of the database
        except (DatabaseError, InterfaceError, PoolTimeoutError) as error:
            reason = str(getattr(error, "orig", error)).strip().splitlines()
            raise UnavailableError(
                f"the catalog at {self} cannot be used: {reason[0] if reason else error}; {self._remedy}"
            ) from error

    def migrate(self, service: str, versions: Path) -> None:
        """Brings one service's tables to the newest version in its folder of Alembic scripts.

        Scripts are named ``0001_what.py``, ``0002_…``; their revision id is the number.
        """
        head = max(path.name.split("_")[0] for path in versions.glob("[0-9]*_*.py"))
        table = f"alembic_version_{service}"
        with self._migrate_lock:
            with self.read() as connection:
                if sa.inspect(connection).has_table(table):
                    current = connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar()  # noqa: S608
                    if current == head:
                        return
            self._run_migrations(table, versions)

    def _run_migrations(self, table: str, versions: Path) -> None:
        # Alembic takes 0.2 s to import, so only when there is something to migrate.
        from alembic.config import Config
        from alembic.runtime.environment import EnvironmentContext
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(versions.parent))
        config.set_main_option("version_locations", str(versions))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)

        def upgrade(revision: object, context: MigrationContext) -> object:
            return script._upgrade_revs("head", revision)  # type: ignore[arg-type]

        with (
            self.write() as connection,
            EnvironmentContext(config, script, fn=upgrade, destination_rev="head") as environment,
        ):
            if not self.is_sqlite:  # services of one deployment may start at the same moment
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(727361)"))
            environment.configure(connection=connection, version_table=table, transactional_ddl=False)
            environment.run_migrations()

    def close(self) -> None:
        self._engine.dispose()


def replace_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows; those with a known primary key take the place of the old ones, also if two transactions do it at
    once."""
    if not rows:
        return
    insert = _insert_into(connection, table)
    keys = [column.name for column in table.primary_key]
    changes = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes), rows)


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows but for those whose primary key is known, also if two transactions do it at once."""
    if rows:
        connection.execute(_insert_into(connection, table).on_conflict_do_nothing(), rows)


def _insert_into(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _normalised(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise InvalidInputError(
            f"catalog url {url!r} cannot be read; expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
        return parsed
    raise InvalidInputError(f"catalog url {url!r}: expected a sqlite:///PATH or postgresql:// url")


def _configure_sqlite(connection: object, _record: object) -> None:
    # The driver must not begin transactions behind our back: we emit BEGIN ourselves.
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("modyn_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

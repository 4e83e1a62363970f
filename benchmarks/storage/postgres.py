"""The PostgreSQL baselines: a real, durable server, tuned for this work, and the fastest ways in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from modyn.core.arrow import Int64Array
from tests.postgres import running_postgres

SETTINGS = {
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "work_mem": "512MB",
    "maintenance_work_mem": "1GB",
    "jit": "off",
}
"""No checkpoint and nothing that spills falls into a measurement; commits wait for the disk as by default."""

COPY_BYTES = 256 << 10
"""Written at a time."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def postgres() -> Iterator[Connection]:
    """A connection to an empty database.

    Raises:
        RuntimeError: PostgreSQL is not installed.
    """
    with running_postgres(durable=True, settings=SETTINGS) as url:
        if url is None:
            raise RuntimeError("the baselines need PostgreSQL's server binaries (initdb, postgres); install them")
        with psycopg.connect(url) as connection:
            assert _value(connection, "SHOW fsync") == "on"
            yield connection


def create_table(connection: Connection, ddl: LiteralString) -> None:
    """Creates the table ``samples`` anew, empty."""
    connection.execute("DROP TABLE IF EXISTS samples")
    connection.execute(sql.SQL("CREATE TABLE samples ({})").format(sql.SQL(ddl)))
    connection.commit()


def copy_in(connection: Connection, **columns: npt.NDArray[Any]) -> None:
    """Copies rows into the table and commits. Binary, rows encoded by NumPy: faster than text or CSV.

    Args:
        columns: integers, or ``V`` arrays (bytea), [n] each, in the order of the table's columns.
    """
    rows = memoryview(_encoded(columns))  # type: ignore[arg-type]
    with connection.cursor().copy("COPY samples FROM STDIN (FORMAT binary)") as copy:
        copy.write(_HEADER)
        for start in range(0, len(rows), COPY_BYTES):
            copy.write(rows[start : start + COPY_BYTES])
        copy.write(_TRAILER)
    connection.commit()


def settle(connection: Connection) -> None:
    """Vacuums and analyses the table, and writes everything out."""
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE samples")
    connection.execute("CHECKPOINT")
    connection.autocommit = False


def select_rows(connection: Connection, query: LiteralString, bounds: tuple[int, int]) -> Int64Array:
    """A bigint column by SELECT, rows in binary."""
    rows = connection.cursor(binary=True).execute(query, bounds).fetchall()
    connection.commit()
    return np.fromiter((value for (value,) in rows), dtype=np.int64, count=len(rows))


def select_array(connection: Connection, query: LiteralString, bounds: tuple[int, int]) -> Int64Array:
    """A bigint column as one array value in binary: no object a row anywhere."""
    array = sql.SQL("SELECT array_send(array_agg(key)) FROM ({}) AS found").format(sql.SQL(query))
    value = connection.cursor(binary=True).execute(array, bounds).fetchone()
    connection.commit()
    header = 20  # dimensions, flags, element type, length, lower bound
    assert value is not None
    elements = np.frombuffer(value[0], dtype=np.dtype([("length", ">i4"), ("value", ">i8")]), offset=header)
    return elements["value"].astype(np.int64)


def copy_out(connection: Connection, query: LiteralString, bounds: tuple[int, int]) -> Int64Array:
    """A bigint column by COPY in binary."""
    copied = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(sql.SQL(query))
    with connection.cursor().copy(copied, bounds) as copy:
        data = b"".join(copy)
    connection.commit()
    row = np.dtype([("fields", ">i2"), ("length", ">i4"), ("value", ">i8")])
    count = (len(data) - len(_HEADER) - len(_TRAILER)) // row.itemsize
    return np.frombuffer(data, dtype=row, count=count, offset=len(_HEADER))["value"].astype(np.int64)


def plan_of(connection: Connection, query: LiteralString, bounds: tuple[int, int]) -> str:
    """The first line of the query's plan."""
    row = connection.execute(sql.SQL("EXPLAIN {}").format(sql.SQL(query)), bounds).fetchone()
    connection.commit()
    assert row is not None
    return str(row[0])


def _encoded(columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """Rows of COPY's binary format: number of fields, then length and value of each, big-endian."""
    fields: list[tuple[str, Any]] = [("fields", ">i2")]
    for name, values in columns.items():
        fields += [(f"{name} length", ">i4"), (name, values.dtype.newbyteorder(">"))]
    rows = np.empty(len(next(iter(columns.values()))), dtype=np.dtype(fields))
    rows["fields"] = len(columns)
    for name, values in columns.items():
        rows[f"{name} length"] = values.dtype.itemsize
        rows[name] = values
    return rows.view(np.uint8).reshape(-1)


def _value(connection: Connection, query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    connection.commit()
    assert row is not None
    return row[0]

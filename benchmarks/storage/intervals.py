"""Keys of a timestamp interval, against an index of PostgreSQL."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.results import Result
from benchmarks.storage.postgres import (
    copy_in,
    copy_out,
    create_table,
    plan_of,
    postgres,
    select_array,
    select_rows,
    settle,
)
from benchmarks.storage.server import StorageProcess, storage_process, temporary_folder
from benchmarks.storage.timing import ROUNDS, paired, say, seconds_of
from modyn.core.arrow import Int64Array, batch_of

SAMPLES = 2_000_000
APPENDED = 500_000
START = 1_600_000_000
SPAN = 100_000_000
"""Random timestamps of this many seconds; the interval is the middle half, so it holds about 1 M samples."""

INTERVAL = (START + SPAN // 4, START + SPAN * 3 // 4)
QUERY = "SELECT key FROM samples WHERE timestamp >= %s AND timestamp < %s"
WAYS = {"rows": select_rows, "COPY": copy_out, "one array value": select_array}


def interval_vs_pg() -> dict[str, Result]:
    """Keys as int64 in the client's memory, on both sides."""
    name = "storage.interval_vs_pg"
    times = np.random.default_rng(5).integers(START, START + SPAN, SAMPLES)
    with temporary_folder() as folder, storage_process(folder / "state") as server, postgres() as connection:
        say(f"{name}: {SAMPLES:,} samples with random timestamps into both")
        server.client.register_dataset("stream")
        for first in range(0, SAMPLES, APPENDED):
            part = times[first : first + APPENDED]
            server.client.append("stream", str(first), batch_of(timestamp=part, label=part % 10, value=part % 251))
        create_table(connection, "key bigint, timestamp bigint, label bigint")
        copy_in(connection, key=np.arange(SAMPLES), timestamp=times, label=times % 10)
        # With the key in the index the table itself is not read: the fastest index for this query.
        connection.execute("CREATE INDEX ON samples (timestamp) INCLUDE (key)")
        settle(connection)
        expected = np.flatnonzero((times >= INTERVAL[0]) & (times < INTERVAL[1]))
        tried = {}
        for way, select in WAYS.items():
            assert (np.sort(select(connection, QUERY, INTERVAL)) == expected).all()
            tried[way] = min(seconds_of(partial(select, connection, QUERY, INTERVAL)) for _ in range(2))
        best = min(tried, key=lambda way: tried[way])
        plan = plan_of(connection, QUERY, INTERVAL).partition("(")[0].strip()
        say(f"{name}: PostgreSQL, {plan}: " + ", ".join(f"{way} {s:.3g} s" for way, s in tried.items()))
        assert (np.sort(interval_keys(server, "stream", INTERVAL)) == expected).all()
        pairs = paired(
            lambda: seconds_of(lambda: interval_keys(server, "stream", INTERVAL)),
            lambda: seconds_of(lambda: select_rows(connection, QUERY, INTERVAL)),
        )
        say(f"{name}: {len(expected):,} keys; {pairs.sentence()}")
    baseline = (
        f"{len(expected):,} keys of {SAMPLES:,} against SELECT, rows in binary, covering index; median of {ROUNDS} "
        f"pairs (the fastest way found, {best}, takes {tried[best] / tried['rows']:.2f} of it)"
    )
    return {name: Result(value=pairs.ratio, unit="×", baseline=baseline, target=20, at_most=False)}


def interval_keys(server: StorageProcess, dataset: str, interval: tuple[int, int]) -> Int64Array:
    """Keys of samples with ``interval[0] <= timestamp < interval[1]``, int64 [n]."""
    start, stop = interval
    table = server.client.read_columns(dataset, columns=(), start=start, stop=stop)
    keys: Int64Array = table.column("key").chunk(0).to_numpy()
    return keys

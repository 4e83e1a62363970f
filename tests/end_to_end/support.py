"""What several end-to-end tests share."""

from __future__ import annotations

import pyarrow as pa

from modyn.client import Client
from tests.helpers.streams import DAY, START


def append_daily(client: Client, dataset: str, table: pa.Table) -> None:
    """A batch of its own for each day, as an ingestion job would: results of the other days outlive changes of one."""
    days = (table["timestamp"].to_numpy() - START) // DAY
    for day in sorted(set(days.tolist())):
        client.append(dataset, f"day-{day}", table.filter(pa.array(days == day)))

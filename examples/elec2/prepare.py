"""Writes the Elec2 table (electricity market of New South Wales, half-hourly, 1996-1998) as weekly Parquet files.

``date`` and ``nswprice`` are dropped, as the literature does: the label says whether that price went up. Running it
again writes nothing that is there already.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from modyn.client.tabular import write_parquet

COLUMNS = ("timestamp", "day", "period", "nswdemand", "vicprice", "vicdemand", "transfer", "label")
SECONDS_PER_WEEK = 7 * 86_400


def read_elec2(path: Path) -> pa.Table:
    """The table without the dropped columns, checked to be Elec2; ends the program with a message if it is not."""
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        sys.exit(f"error: {path}: no Parquet file that can be read: {error}")
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        sys.exit(f"error: {path}: not the Elec2 table, it lacks {', '.join(missing)}")
    return table.select(list(COLUMNS))


def weeks(table: pa.Table) -> list[pa.Table]:
    """The rows of each week, counted from the first sample; rows are in time order."""
    timestamps = table["timestamp"].to_numpy()
    numbers = (timestamps - timestamps[0]) // SECONDS_PER_WEEK
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = [*starts[1:], len(timestamps)]
    return [table.slice(start, end - start).combine_chunks() for start, end in zip(starts, ends, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="the Elec2 table as one Parquet file")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data", metavar="DIR")
    arguments = parser.parse_args()
    written = 0
    tables = weeks(read_elec2(arguments.path))
    for table in tables:
        first = datetime.fromtimestamp(table["timestamp"][0].as_py(), UTC)
        written += write_parquet(arguments.output / first.strftime("elec2-%Y-%m-%d.parquet"), table)
    samples = sum(table.num_rows for table in tables)
    print(f"{arguments.output}: {len(tables)} weekly files with {samples} samples, {written} written now")


if __name__ == "__main__":
    main()

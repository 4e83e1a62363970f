"""A storage service in a process of its own, to be killed: ``python crash_child.py STATE SOURCE``.

It serves, ingests ``SOURCE`` over and over and appends numbered batches; what was acknowledged goes to standard output.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np

from modyn.core.state import StateDirectory
from tests.storage.support import StorageServer

BATCH_SIZE = 50
_PRINTING = threading.Lock()


def say(line: str) -> None:
    with _PRINTING:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def append_forever(storage: StorageServer, first: int) -> None:
    for number in range(first, 1_000_000):
        values = np.arange(number * BATCH_SIZE, (number + 1) * BATCH_SIZE)
        keys, repeated = storage.append(str(number), {"x": values, "label": values % 7, "timestamp": values})
        say(f"append {number} {keys.start} {keys.end} {int(repeated)}")


def write_file(folder: Path, number: int) -> None:
    """Renamed into place."""
    lines = "".join(f"{-value},{value % 7},{value}\n" for value in range(number * 40, number * 40 + 40))
    temporary = folder / f".{number}"
    temporary.write_text("x,label,timestamp\n" + lines)
    temporary.rename(folder / f"{number}.csv")


def ingest_forever(storage: StorageServer, folder: Path) -> None:
    for number in range(len(list(folder.glob("*.csv"))), 1_000_000):
        write_file(folder, number)
        progress = storage.ingest()
        say(f"ingest {number + 1} {progress.end_key}")


def main() -> None:
    state, folder, first_batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    storage = StorageServer(StateDirectory(state).create())
    source = {"format": "csv", "path": str(folder), "label": "label", "timestamp": "timestamp", "settle_seconds": 0}
    storage.register(source)
    say("ready")
    threading.Thread(target=append_forever, args=(storage, first_batch), daemon=True).start()
    ingest_forever(storage, folder)


if __name__ == "__main__":
    main()

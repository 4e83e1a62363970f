"""A second storage process: ``python lease_child.py STATE CATALOG_URL LEASE_SECONDS``.

Every line on standard input is the id of a batch to append; what became of it goes to standard output.
"""

from __future__ import annotations

import sys

from modyn.core.errors import ModynError
from modyn.core.state import StateDirectory
from modyn.storage import leases
from tests.storage.support import StorageServer


def main() -> None:
    leases.LEASE_SECONDS = float(sys.argv[3])
    storage = StorageServer(StateDirectory(sys.argv[1]), sys.argv[2])
    storage.register()
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            keys, _ = storage.append(line.strip(), {"x": [1.0]})
            print("appended", keys.start, storage.describe().end_key, flush=True)
        except ModynError as error:
            print(type(error).__name__, storage.describe().end_key, error.message, flush=True)


if __name__ == "__main__":
    main()

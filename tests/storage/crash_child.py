"""A storage service in a process of its own, to be killed: ``python crash_child.py STATE SOURCES ROUND``.

It changes its datasets in every way; what is asked for and what was acknowledged goes to standard output as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from modyn.core.state import StateDirectory
from modyn.storage import compaction
from tests.storage.support import StorageServer
from tests.storage.workload import Event, Workload, register

_PRINTING = threading.Lock()


def say(event: Event) -> None:
    with _PRINTING:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def main() -> None:
    state, folder, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    compaction.SMALL_SEGMENTS, compaction.PAUSE_SECONDS, compaction.REMOVAL_SECONDS = 4, 0.01, 0.1
    storage = StorageServer(StateDirectory(state).create())
    register(storage, folder)
    say({"what": "ready"})
    Workload(storage, folder, number, say).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()

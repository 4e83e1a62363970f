"""``python -m benchmarks.peers``: measures the peers and ours on the same samples and writes ``peers.md``.

Every peer gets a virtual environment outside the project, because its pins conflict with ours; all of it is deleted at
the end, unless a folder is named.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.results import FOLDER, machine
from benchmarks.storage import reads
from benchmarks.storage.data import Records
from benchmarks.storage.server import storage_process, temporary_folder
from benchmarks.storage.timing import say

ROOT = FOLDER.parent
PAGE = FOLDER / "peers.md"
CASE = reads.CASES["storage.read_160b"]
PEER_KEYS = 100_000
"""Peers read this many of the random keys; ours reads all of them, several times."""

EPOCHS = 5


@dataclass(frozen=True)
class Peer:
    """A package, pinned, and the module that measures it."""

    package: str
    version: str
    module: str
    what: str


PEERS = (
    Peer("mosaicml-streaming", "0.13.0", "mosaicml_streaming", "MosaicML Streaming, MDS, `ds[i]`"),
    Peer("litdata", "0.2.76", "litdata_streaming", "litdata, optimised dataset, `ds[i]`, `batch_decode=0`"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--environments", type=Path, help="folder to keep the peers' environments in, for a next time")
    options = parser.parse_args()
    with temporary_folder() as folder:
        environments = options.environments or folder
        records = Records.random(CASE.count, CASE.width)
        keys = np.random.default_rng(11).permutation(CASE.count)[: CASE.count // 2]
        records.values.tofile(folder / "records.bin")
        np.save(folder / "keys.npy", keys[:PEER_KEYS])
        ours = _ours(folder, records, keys)
        found = [_measure(peer, _environment(peer, environments), folder) for peer in PEERS]
    PAGE.write_text(_page(ours, found))
    say(f"written: {PAGE.relative_to(ROOT)}")
    return 0


def _ours(folder: Path, records: Records, keys: Any) -> float:
    """Samples a second through gRPC."""
    with storage_process(folder / "state") as server:
        server.client.register_dataset("files", records.write(folder / "files", reads.FILES))
        server.ingest("files")
        reads.epoch(server, "files", keys)
        rate = median(len(keys) / reads.epoch(server, "files", keys) for _ in range(EPOCHS))
    say(f"ours: {rate / 1e3:,.0f} k samples/s")
    return rate


def _environment(peer: Peer, folder: Path) -> Path:
    """The Python of an environment with a peer and the CPU build of torch."""
    python = folder / peer.module / "bin" / "python"
    if not python.exists():
        say(f"{peer.package}: installing")
        subprocess.run([sys.executable, "-m", "venv", str(folder / peer.module)], check=True)
    pins = re.findall(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    wanted = [*pins, f"{peer.package}=={peer.version}"]  # in one command: torch alone could become another build
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True, capture_output=True)
    return python


def _measure(peer: Peer, python: Path, folder: Path) -> tuple[Peer, dict[int, float]]:
    say(f"{peer.package}: writing the dataset and reading it")
    output = folder / f"{peer.module}-data"
    arguments = [str(folder / "records.bin"), str(CASE.width), str(folder / "keys.npy"), str(output)]
    command = [str(python), "-m", f"benchmarks.peers.{peer.module}", *arguments]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured = json.loads(answer.splitlines()[-1])
    assert measured["version"] == peer.version
    rates = {int(workers): float(rate) for workers, rate in measured["rates"].items()}
    say(f"{peer.package}: " + ", ".join(f"{workers} workers {rate / 1e3:.1f} k/s" for workers, rate in rates.items()))
    return peer, rates


def _page(ours: float, found: list[tuple[Peer, dict[int, float]]]) -> str:
    rows = [f"| Modyn, `read_samples` through gRPC from another process | {ours / 1e3:,.0f} | | | 1 |"]
    for peer, rates in found:
        cells = " | ".join(f"{rate / 1e3:,.1f}" for rate in rates.values())
        rows.append(f"| {peer.what} | {cells} | {max(rates.values()) / ours:.3f} |")
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    versions = ", ".join(f"{peer.package} {peer.version}" for peer, _ in found)
    table = "\n".join(rows)
    return f"""# Peers: random reads

Written by `python -m benchmarks.peers`, which installs each peer into an environment of its own (their pins conflict
with ours), measures all on the same samples and deletes everything again.

k samples a second: a random half of {CASE.count:,} samples of {CASE.width} B (a label of 4 bytes and the payload), in
batches of {reads.BATCH_SIZE} that end as NumPy arrays.

| | no workers | 1 worker | 2 workers | best, relative to ours |
|---|---:|---:|---:|---:|
{table}

- Peers: a local, unshuffled dataset behind a torch DataLoader, whose every sample is one `ds[i]`, with the collation of
  the DataLoader baseline of `storage.read_160b` (payloads joined into one array). Better of two epochs over
  {PEER_KEYS:,} of the keys.
- litdata decodes a small sample together with 255 neighbours by default; `batch_decode=0` makes random reads several
  times faster, so it is used here.
- Ours: binary records ingested from {reads.FILES} files, read by one client through gRPC; no DataLoader is needed.
  Median of {EPOCHS} epochs over all keys.
- The files are in the page cache in all cases.
- Versions: {versions}.
- Machine: {facts}.
"""


if __name__ == "__main__":
    sys.exit(main())

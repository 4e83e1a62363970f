"""A whole replay from the start of the process to its exit, beside a plain PyTorch script that does the same."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import yaml

from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.storage.timing import paired, seconds_of
from benchmarks.training.pictures import pipeline_of, write_pictures

NAMES = ("training.replay_mnist60k_s", "training.replay_mnist60k_vs_plain")

SAMPLES = 60_000
TRIGGERS = 6
THREADS = 1
"""Of training, the default here. Evaluation takes all processors here by default; the script has one number for all."""
ROUNDS = 3
PUBLISHED_SECONDS = 107.6
"""Of the published system, on this work."""


def measure() -> dict[str, Result]:
    """Both in turn, each in a process of its own."""
    with temporary_folder() as folder:
        data = folder / "data" / "all.bin"
        write_pictures(data, SAMPLES)
        everything = {"type": "StaticEvalStrategy", "intervals": [[0, None]]}
        pipeline = pipeline_of(
            data.parent,
            SAMPLES // TRIGGERS,
            evaluation={"handlers": [{"name": "all", "execution_time": "after_training", "strategy": everything}]},
        )
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
        times = paired(lambda: _ours(folder), lambda: _plain(data, folder), ROUNDS)
    work = (
        f"{SAMPLES:,} samples of 784 B, {TRIGGERS} triggers, batch 64, 1 epoch, MLP 784-128-10, all samples evaluated "
        f"after each trigger, process start to exit, {THREADS} thread"
    )
    return {
        NAMES[0]: Result(median(times.ours), "s", f"{work}; the published system: {PUBLISHED_SECONDS} s", target=10),
        NAMES[1]: Result(1 / times.ratio, "×", f"{work}; {times.sentence()} (plain PyTorch script)", target=3),
    }


def _ours(folder: Path) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        output = Path(scratch) / "run"
        command = [sys.executable, "-m", "modyn.client.cli", "run", str(folder / "pipeline.yaml")]
        command += ["--state", f"{scratch}/state", "--output", str(output)]
        seconds = seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))
        report = json.loads((output / "report.json").read_text())
        assert len(report["triggers"]) == TRIGGERS
        assert sum(window["samples"] for window in report["windows"]) >= SAMPLES, "every sample has to be evaluated"
    return seconds


def _plain(data: Path, folder: Path) -> float:
    module = "benchmarks.training.plain_replay"
    command = [sys.executable, "-m", module, str(data), str(TRIGGERS), str(THREADS), str(folder)]
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))

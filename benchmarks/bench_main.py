"""What a pipeline costs beyond the work itself, on the digits example through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.results import Result

ROOT = Path(__file__).parent.parent
RUNS = 3


def run() -> dict[str, Result]:
    """Runs the example in fresh state directories; medians over runs."""
    subprocess.run([sys.executable, "examples/digits/prepare.py"], cwd=ROOT, check=True)
    reports = [_run_example() for _ in range(RUNS)]
    triggers = len(reports[0]["triggers"])
    allowed = 2.0 + 0.150 * triggers
    return {
        "main.first_batch_ms": Result(
            value=median(report["fixed_cost"]["first_batch_ms_median"] for report in reports),
            unit="ms",
            baseline="trigger fired to first training batch, median over triggers, examples/digits",
            target=150,
        ),
        "main.overhead_s": Result(
            value=median(report["fixed_cost"]["overhead_seconds"] for report in reports),
            unit="s",
            baseline=f"wall time of the pipeline less training and evaluation compute, {triggers} triggers",
            target=allowed,
        ),
    }


def _run_example() -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        subprocess.run(
            [sys.executable, "-m", "modyn.client.cli", "run", "examples/digits/pipeline.yaml", "--state",
             str(Path(folder) / "state"), "--output", str(output)],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        report: dict[str, dict[str, float]] = json.loads((output / "report.json").read_text())
        return report

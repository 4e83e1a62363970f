"""What deciding costs beside the work it decides on: pipelines on Elec2 with weekly evaluations."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Result

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "elec2"
DATA = ROOT.parent / "shared" / "data" / "elec2.parquet"
RUNS = 3

FAMILIES = {
    "amount": "amount.yaml",
    "time": "pipeline.yaml",
    "drift": "drift.yaml",
    "performance": "performance.yaml",
    "cost": "misclassification_cost.yaml",
    "ensemble": "ensemble.yaml",
}
"""An example pipeline for every family of triggers."""

NAMES = tuple(f"triggers.share_{family}" for family in FAMILIES)

EPOCHS = 5


def measure(wanted: set[str]) -> dict[str, Result]:
    """Share of wall time spent deciding, by family; median over runs."""
    with tempfile.TemporaryDirectory() as folder:
        pipelines = _pipelines(Path(folder))
        return {
            name: _result(family, [_run(pipelines[family]) for _ in range(RUNS)])
            for family, name in zip(FAMILIES, NAMES, strict=True)
            if name in wanted
        }


def _pipelines(folder: Path) -> dict[str, Path]:
    """The examples beside data of their own, all with the same number of epochs."""
    command = [sys.executable, str(EXAMPLE / "prepare.py"), str(DATA), "--output", str(folder / "data")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    paths = {}
    for family, name in FAMILIES.items():
        text = (EXAMPLE / name).read_text().replace("epochs_per_trigger: 10", f"epochs_per_trigger: {EPOCHS}")
        paths[family] = folder / name
        paths[family].write_text(text)
    return paths


def _run(pipeline: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        command = [sys.executable, "-m", "modyn.client.cli", "run", str(pipeline), "--state", f"{folder}/state"]
        subprocess.run([*command, "--output", str(output)], check=True, stdout=subprocess.DEVNULL)
        report: dict[str, Any] = json.loads((output / "report.json").read_text())
        return report


def _result(family: str, reports: list[dict[str, Any]]) -> Result:
    cost, evaluations = reports[0]["cost"], len(reports[0]["trigger_evaluations"])
    seconds = median(report["cost"]["trigger_seconds"] for report in reports)
    wall = median(report["cost"]["wall_seconds"] for report in reports)
    return Result(
        value=median(report["cost"]["trigger_seconds"] / report["cost"]["wall_seconds"] for report in reports),
        unit="of wall time",
        baseline=f"examples/elec2/{FAMILIES[family]}, {EPOCHS} epochs: {evaluations} evaluations of the trigger took "
        f"{seconds:.2f} s of {wall:.1f} s, {cost['trainings']} trainings",
        target=0.25 if family == "drift" else 0.1,
    )

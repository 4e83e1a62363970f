"""Runs the policies of an example on its stream and writes their comparison.

python examples/compare_policies.py examples/elec2 runs/elec2-policies

The folder of the example has ``pipeline.yaml`` and ``policies.yaml``: for each policy the sections in which it differs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from modyn.client import PipelineResult, compare, replay
from modyn.client.runfolder import RunFolder


def run(example: Path, name: str, policy: dict[str, Any], state: Path) -> PipelineResult:
    """One replay; trainings that an earlier one did already are reused."""
    result: PipelineResult = replay(example / "pipeline.yaml", name=name, state=state, quiet=True, **policy)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", type=Path, metavar="EXAMPLE", help="folder with pipeline.yaml and policies.yaml")
    parser.add_argument("output", type=Path, metavar="DIR", help="for comparison.html and a run folder of each policy")
    parser.add_argument("--state", type=Path, default=Path(".modyn"), metavar="DIR")
    arguments = parser.parse_args()
    policies = yaml.safe_load((arguments.example / "policies.yaml").read_text(encoding="utf-8"))
    results = []
    for name, policy in policies.items():
        result = run(arguments.example, name, policy, arguments.state)
        results.append(result)
        print(f"{name}: {len(result.report.triggers)} triggers, {result.report.cost.train_seconds:.1f} s of training")
    for name, result in zip(policies, results, strict=True):
        folder = arguments.output / name.replace(",", "").replace(" ", "-")
        RunFolder(folder).write_report(result.report, result.yaml)
        result.to_html(folder / "report.html")
    compare(results).to_html(arguments.output / "comparison.html")
    print(f"{arguments.output}/comparison.html")


if __name__ == "__main__":
    main()

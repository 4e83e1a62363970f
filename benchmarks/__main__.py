"""``python -m benchmarks [--only PART]``."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.results import save

PARTS = ("main",)
"""Modules ``bench_<part>`` with a function ``run() -> dict[str, Result]``."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="run one part")
    chosen = parser.parse_args().only
    missed: list[str] = []
    for part in [chosen] if chosen else PARTS:
        results = importlib.import_module(f"benchmarks.bench_{part}").run()
        save(results)
        for name, result in results.items():
            print(f"{name}: {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
            if not result.holds:
                missed.append(name)
    if missed:
        print(f"targets missed: {', '.join(missed)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

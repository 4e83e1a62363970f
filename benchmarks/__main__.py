"""``python -m benchmarks [--only PART] [--name NAME]``."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.results import Result, save

PARTS = ("main", "storage", "triggers", "selection", "training", "evaluation")
"""Modules ``bench_<part>`` with a function ``run() -> dict[str, Result]``; one that has ``NAMES`` can also be asked for
some of them: ``run(names)``."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="run one part")
    parser.add_argument("--name", action="append", default=[], help="measure one value; can be given several times")
    parser.add_argument("--dry", action="store_true", help="print, but do not change the files with the results")
    options = parser.parse_args()
    for name in options.name:
        if name.partition(".")[0] not in ([options.only] if options.only else PARTS):
            parser.error(f"--name {name}: expected PART.NAME, PART one of {', '.join(PARTS)}")
    missed: list[str] = []
    for part in [options.only] if options.only else PARTS:
        results = _run(parser, part, [name for name in options.name if name.startswith(f"{part}.")], options.name)
        if not options.dry:
            save(results)
        for name, result in results.items():
            print(f"{name}: {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
            if not result.holds:
                missed.append(name)
    if missed:
        print(f"targets missed: {', '.join(missed)}", file=sys.stderr)
    return 0


def _run(parser: argparse.ArgumentParser, part: str, names: list[str], asked: list[str]) -> dict[str, Result]:
    if asked and not names:
        return {}
    module = importlib.import_module(f"benchmarks.bench_{part}")
    results: dict[str, Result]
    if not names:
        results = module.run()
        return results
    known = getattr(module, "NAMES", ())
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"--name {unknown[0]}: expected one of {', '.join(known) or f'none: {part} runs as a whole'}")
    results = module.run(names)
    return results


if __name__ == "__main__":
    sys.exit(main())

"""What a benchmark reports, and the files that keep it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
JSON_FILE = FOLDER / "results.json"
TABLE_FILE = FOLDER / "RESULTS.md"
SECTIONS = FOLDER / "sections"
"""Longer studies, one Markdown file each; they stand below the table."""


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        value: what was measured, in ``unit``.
        baseline: what it is compared with, or a description of how it was measured.
        target: bound that the value should keep, and ``at_most`` whether it is an upper one.
    """

    value: float
    unit: str
    baseline: str
    target: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target


def machine() -> dict[str, object]:
    """The machine, so that numbers can be read."""
    import os

    import torch

    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def save(results: dict[str, Result]) -> None:
    """Adds results to the files; those of benchmarks that were not run stay."""
    known = json.loads(JSON_FILE.read_text()) if JSON_FILE.exists() else {}
    entries = dict(known.get("results", {}))
    for name, result in results.items():
        fields = asdict(result)
        fields["target"] = f"{'<=' if fields.pop('at_most') else '>='} {result.target:g}"
        entries[name] = {**fields, "holds": result.holds}
    document = {"machine": machine(), "results": dict(sorted(entries.items()))}
    JSON_FILE.write_text(json.dumps(document, indent=2) + "\n")
    TABLE_FILE.write_text(_table(document) + _sections())


def save_section(name: str, text: str) -> None:
    """Adds a study to the file for people, or replaces it.

    Args:
        name: of its file; sections stand in the order of their names.
        text: Markdown that starts with a heading of the second level.
    """
    SECTIONS.mkdir(exist_ok=True)
    (SECTIONS / f"{name}.md").write_text(text.rstrip() + "\n")
    document = json.loads(JSON_FILE.read_text())
    TABLE_FILE.write_text(_table(document) + _sections())


def _sections() -> str:
    return "".join("\n" + path.read_text() for path in sorted(SECTIONS.glob("*.md")))


def _table(document: dict[str, dict[str, object]]) -> str:
    lines = ["# Benchmark results", "", "Written by `make bench`. Machine: " + _sentence(document["machine"]) + ".", ""]
    lines += ["| name | value | unit | target | holds | measured as |", "|---|---:|---|---|---|---|"]
    for name, entry in document["results"].items():
        assert isinstance(entry, dict)
        value = f"{entry['value']:.4g}"
        holds = "yes" if entry["holds"] else "**no**"
        lines.append(f"| `{name}` | {value} | {entry['unit']} | {entry['target']} | {holds} | {entry['baseline']} |")
    return "\n".join(lines) + "\n"


def _sentence(facts: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

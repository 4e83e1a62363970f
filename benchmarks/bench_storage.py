"""Storage: samples in and out, against PostgreSQL and against a DataLoader over a local memory map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.results import Result
from benchmarks.storage import reads, scale
from benchmarks.storage.intervals import interval_vs_pg
from benchmarks.storage.timing import say
from benchmarks.storage.writes import append_vs_copy, index_vs_copy

Measurement = Callable[[set[str]], dict[str, Result]]


def _whole(measure: Callable[[], dict[str, Result]]) -> Measurement:
    return lambda wanted: measure()


MEASUREMENTS: list[tuple[tuple[str, ...], Measurement]] = [
    (("storage.index_vs_copy",), _whole(index_vs_copy)),
    (("storage.append_vs_copy",), _whole(append_vs_copy)),
    (("storage.interval_vs_pg",), _whole(interval_vs_pg)),
    (("storage.read_160b",), partial(reads.measure, reads.CASES["storage.read_160b"])),
    (("storage.read_3kb", "storage.read_3kb_local"), partial(reads.measure, reads.CASES["storage.read_3kb"])),
    (("storage.read_100kb", "storage.read_100kb_local"), partial(reads.measure, reads.CASES["storage.read_100kb"])),
    (scale.NAMES, _whole(scale.hundred_million)),
]
"""Values that are measured together, and how."""

NAMES = tuple(name for names, _ in MEASUREMENTS for name in names)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values, and the others that cost nothing more."""
    results: dict[str, Result] = {}
    for together, measure in MEASUREMENTS:
        wanted = set(together) & set(names)
        if wanted:
            measured = measure(wanted)
            results.update(measured)
            for name, result in measured.items():
                say(f"{name} = {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
    return results

"""Triggers: how fast they walk a stream, what their statistics cost, and what deciding costs a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.results import Result
from benchmarks.storage.timing import say
from benchmarks.triggers import shares
from benchmarks.triggers.embeddings import embeddings_per_sample
from benchmarks.triggers.kernels import mmd_1000, mmd_5000_cpu_s
from benchmarks.triggers.simple import simple_msps

SINGLE: dict[str, Callable[[], Result]] = {
    "triggers.simple_msps": simple_msps,
    "triggers.mmd_1000": mmd_1000,
    "triggers.mmd_5000_cpu_s": mmd_5000_cpu_s,
    "triggers.embeddings_per_sample": embeddings_per_sample,
}

NAMES = (*SINGLE, *shares.NAMES)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values."""
    results: dict[str, Result] = {}
    for name in names:
        results[name] = SINGLE[name]() if name in SINGLE else shares.measure({name})[name]
        result = results[name]
        say(f"{name} = {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
    return results

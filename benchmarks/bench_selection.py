"""Selection: greedy algorithms against their honest baselines, policies at 100 million keys, and whether they pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.results import Result
from benchmarks.selection import craig, facility, gradmatch, kcenter, pays, scale
from benchmarks.storage.timing import say

GROUPS: dict[tuple[str, ...], Callable[[], dict[str, Result]]] = {
    ("selection.kcenter_cpu_s", "selection.kcenter_50k_cpu_s"): kcenter.measure,
    ("selection.facility_cpu_s", "selection.facility_50k_gib"): facility.measure,
    ("selection.craig_cpu_s",): craig.measure,
    ("selection.gradmatch_cpu_s",): gradmatch.measure,
    ("selection.uniform_100m_s", "selection.balanced_100m_s", "selection.rss_100m"): scale.measure,
    tuple(f"selection.pays_{name}" for name in pays.TARGETS): pays.measure,
}
"""What is measured together."""

NAMES = tuple(name for group in GROUPS for name in group)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values, and those that are measured together with them."""
    results: dict[str, Result] = {}
    for group, measure in GROUPS.items():
        if not set(group) & set(names):
            continue
        for name, result in measure().items():
            results[name] = result
            say(f"{name} = {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
    return results

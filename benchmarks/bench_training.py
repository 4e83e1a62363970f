"""Training: what a trigger costs, how soon a model is there, and speed beside plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import training
from benchmarks.modules import measured, names_of
from benchmarks.results import Result

NAMES = names_of(training)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values, and those that are measured together with them."""
    return measured(training, names)

"""Evaluation: one request beside many, speed beside plain PyTorch, new windows over stored predictions, intervals."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import evaluation
from benchmarks.modules import measured, names_of
from benchmarks.results import Result

NAMES = names_of(evaluation)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values, and those that are measured together with them."""
    return measured(evaluation, names)

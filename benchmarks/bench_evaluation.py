"""Evaluation: one request beside many, speed beside plain PyTorch, new windows over stored predictions, intervals.

Every module of ``benchmarks.evaluation`` that has ``NAMES`` measures these values with its ``measure()``, all together.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from benchmarks import evaluation
from benchmarks.results import Result
from benchmarks.storage.timing import say


def _modules() -> list[ModuleType]:
    found = (
        importlib.import_module(f"{evaluation.__name__}.{info.name}")
        for info in pkgutil.iter_modules(evaluation.__path__)
    )
    return [module for module in found if hasattr(module, "NAMES")]


NAMES: tuple[str, ...] = tuple(name for module in _modules() for name in module.NAMES)


def run(names: Sequence[str] = NAMES) -> dict[str, Result]:
    """Measures the named values, and those that are measured together with them."""
    results: dict[str, Result] = {}
    for module in _modules():
        if not set(module.NAMES) & set(names):
            continue
        for name, result in module.measure().items():
            results[name] = result
            say(f"{name} = {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
    return results

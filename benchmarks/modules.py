"""Benchmarks that are packages: every module of one that has ``NAMES`` measures these values with its ``measure()``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from benchmarks.results import Result
from benchmarks.storage.timing import say


def measuring(package: ModuleType) -> list[ModuleType]:
    """The modules of a package that measure something."""
    found = (
        importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    )
    return [module for module in found if hasattr(module, "NAMES")]


def names_of(package: ModuleType) -> tuple[str, ...]:
    """All values of a package."""
    return tuple(name for module in measuring(package) for name in module.NAMES)


def measured(package: ModuleType, names: Sequence[str]) -> dict[str, Result]:
    """The named values of a package, and those that are measured together with them."""
    results: dict[str, Result] = {}
    for module in measuring(package):
        if not set(module.NAMES) & set(names):
            continue
        for name, result in module.measure().items():
            results[name] = result
            say(f"{name} = {result.value:.4g} {result.unit} ({'holds' if result.holds else 'MISSED'})")
    return results

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import modyn.models
import modyn.trainer_server
from modyn.core.registry import Plugin

MODULES = [
    module.name
    for package in (modyn.models, modyn.trainer_server)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if ".migrations" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", ["modyn.models.parsers", "modyn.models.zoo"])
def test_every_plug_in_has_an_example_or_a_paper(name: str) -> None:
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        loaded = importlib.import_module(module.name)
        for cls in vars(loaded).values():
            if isinstance(cls, type) and issubclass(cls, Plugin) and cls.plugin_name and cls.__module__ == module.name:
                assert cls.__doc__, cls
                assert ">>>" in cls.__doc__ or "arxiv" in str(loaded.__doc__).lower() or "CVPR" in str(loaded.__doc__)

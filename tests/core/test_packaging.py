"""The service folders are named in several tools' settings; a forgotten one would be lost silently."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {path.parent.name for path in ROOT.glob("*/modyn") if path.is_dir()}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    return tools


def test_every_folder_is_packaged_tested_and_type_checked(settings: dict[str, Any]) -> None:
    build = settings["hatch"]["build"]
    assert set(build["dev-mode-dirs"]) == FOLDERS
    assert set(build["targets"]["wheel"]["packages"]) == {f"{folder}/modyn" for folder in FOLDERS}
    assert set(settings["pytest"]["ini_options"]["pythonpath"]) == FOLDERS | {"."}
    assert set(settings["mypy"]["mypy_path"]) == FOLDERS
    assert set(settings["mypy"]["files"]) >= FOLDERS - {"proto"} | {"tests"}


def test_modyn_is_a_namespace_package() -> None:
    """An ``__init__.py`` directly in one of the folders would hide all the others."""
    assert list(ROOT.glob("*/modyn/__init__.py")) == []


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_each_folder_holds_one_typed_package(folder: str) -> None:
    (package,) = [path for path in (ROOT / folder / "modyn").iterdir() if path.name != "__pycache__"]
    assert package.name == folder
    assert (package / "__init__.py").exists()
    assert (package / "py.typed").exists()


def test_every_folder_of_modules_is_a_package() -> None:
    """Migration scripts are files that Alembic loads by path, not modules."""
    missing = [
        path.parent.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder / "modyn").rglob("*.py")
        if path.parent.name != "versions" and not (path.parent / "__init__.py").exists()
    ]
    assert missing == []


@pytest.mark.parametrize("folder", sorted(FOLDERS - {"proto"}))
def test_the_readme_names_every_module(folder: str) -> None:
    readme = (ROOT / folder / "README.md").read_text()
    modules = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / folder / "modyn" / folder).iterdir()
        if path.is_dir() or path.suffix == ".py"
    }
    missing = [name for name in modules - {"__init__.py", "_version.py", "__pycache__/"} if f"`{name}`" not in readme]
    assert missing == []


@pytest.mark.parametrize("folder", sorted(FOLDERS - {"proto"}))
def test_the_readme_names_no_module_that_is_gone(folder: str) -> None:
    named = re.findall(r"^\| ((?:`[\w/]+\.py`(?:, )?)+)", (ROOT / folder / "README.md").read_text(), re.MULTILINE)
    files = [name for cell in named for name in re.findall(r"`([\w/]+\.py)`", cell)]
    assert [name for name in files if not (ROOT / folder / "modyn" / folder / name).exists()] == []

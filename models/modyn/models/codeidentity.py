"""Digest of the Python code that a job would run, found without running it.

Starting from ``module:attribute`` references and inline sources, imports are followed through the syntax trees of
all modules that are the user's own (in the code root, or importable but not installed). Installed packages count
with their distribution's name and version, the standard library with Python's version.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modyn.core.digests import digest_bytes, digest_inputs
from modyn.core.versions import distribution_version, package_version
from modyn.models.uncaptured import first_uncaptured

_SITE_FOLDERS = tuple({Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")})


@dataclass(frozen=True)
class CodeIdentity:
    """What code runs.

    Attributes:
        digest: changes whenever the code does; None if that cannot be told.
        notice: for the user, why results are not reused, when the digest is None.
    """

    digest: str | None
    notice: str | None


@dataclass(frozen=True)
class OwnCode:
    """The user's own files that some code consists of.

    Attributes:
        files: where each file has to lie below a folder of ``sys.path`` -> where it is.
        distributions: installed packages that it imports, with their versions.
        problem: what it reads besides, such as files, if that can be told; else None.
    """

    files: dict[str, Path]
    distributions: dict[str, str]
    problem: str | None


_LIBRARIES = ("numpy", "pillow", "pyarrow", "torch", "torchvision")
"""What built-in models and parsers compute with: another version may give other bits."""


def _version_of(distribution: str) -> str | None:
    try:
        return distribution_version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def identity_of(references: Sequence[str], inline: dict[str, str], root: str | None) -> CodeIdentity:
    """The identity of references (``module:attribute``) and inline sources (by YAML key)."""
    walk = _Walk(root)
    walk.add_all(references, inline)
    if walk.problem is not None:
        return CodeIdentity(None, f"results are not reused: {walk.problem}")
    facts = {
        "modyn": package_version(),
        "python": platform.python_version(),
        "libraries": {name: _version_of(name) for name in _LIBRARIES},
        "references": list(references),
        "sources": walk.sources,
        "distributions": walk.distributions,
    }
    return CodeIdentity(digest_inputs(facts), None)


def own_code_of(references: Sequence[str], inline: dict[str, str], root: str | None) -> OwnCode:
    """The files behind references (``module:attribute``) and inline sources (by YAML key)."""
    walk = _Walk(root)
    walk.add_all(references, inline)
    return OwnCode(walk.files, walk.distributions, walk.problem)


class _Walk:
    """Follows imports; what is visited is recorded once."""

    def __init__(self, root: str | None) -> None:
        self._root = Path(root).resolve() if root is not None else None
        self._visited: set[str] = set()
        self.sources: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.distributions: dict[str, str] = {}
        self.problem: str | None = None

    def add_all(self, references: Sequence[str], inline: dict[str, str]) -> None:
        """References (``module:attribute``) and inline sources (by YAML key)."""
        for reference in references:
            self.add_module(reference.partition(":")[0])
        for key, source in inline.items():
            self.add_source(key, source.encode(), package="")

    def add_module(self, name: str) -> None:
        """A module and the packages it is in."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            dotted = ".".join(parts[:count])
            if dotted not in self._visited:
                self._visited.add(dotted)
                self._visit(dotted)

    def _visit(self, name: str) -> None:
        top = name.partition(".")[0]
        if top == "modyn" and self._is_own_package(name):
            return  # counted by version
        found = _find_source(name, self._root)
        if found is None:
            self._add_distributions(top)
            return
        path, is_package = found
        package = name if is_package else name.rpartition(".")[0]
        self.files["/".join([*package.split("."), path.name]) if package else path.name] = path
        if path.suffix == ".py":
            self.add_source(name, path.read_bytes(), package)
        else:  # a compiled extension of the user's own
            self.sources[name] = digest_bytes(path.read_bytes())

    @staticmethod
    def _is_own_package(name: str) -> bool:
        """`modyn` is a namespace that others may add to; only our own parts are counted by our version."""
        parts = name.split(".")
        return len(parts) == 1 or parts[1] in _OWN_PACKAGES

    def _add_distributions(self, top: str) -> None:
        if top in sys.stdlib_module_names:
            return  # counted by Python's version
        if top not in _distributions_by_package() and _top_spec(top) is not None:
            _distributions_by_package.cache_clear()  # installed after this process started
        pending = list(_distributions_by_package().get(top, ()))
        while pending:
            name = pending.pop()
            if name in self.distributions:
                continue
            try:
                distribution = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # an optional requirement that is not installed
            self.distributions[name] = distribution.version
            pending += _required_names(distribution)

    def add_source(self, name: str, source: bytes, package: str) -> None:
        self.sources[name] = digest_bytes(source)
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # the job says so
        problem = first_uncaptured(tree)
        if problem is not None and self.problem is None:
            self.problem = f"{name}, {problem}"
        for imported in _imports(tree, package):
            self.add_module(imported)


_OWN_PACKAGES = frozenset(
    {"client", "core", "evaluator", "models", "proto", "selector", "storage", "supervisor", "trainer_server"}
)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of all modules that a module may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            if base:
                yield base
                # `from package import name`: the name may be a module
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _find_source(name: str, root: Path | None) -> tuple[Path, bool] | None:
    """File of a module that is the user's own and whether it is a package; None for anything else."""
    parts = name.split(".")
    if root is not None and (found := _file_in(root, parts)) is not None:
        return found  # also where it hides a module of the standard library
    spec = None if parts[0] in sys.stdlib_module_names else _top_spec(parts[0])
    if spec is None:
        return None
    if len(parts) == 1:
        is_own = spec.origin is not None and _is_own(Path(spec.origin))
        return (Path(str(spec.origin)), spec.submodule_search_locations is not None) if is_own else None
    for folder in spec.submodule_search_locations or ():
        if _is_own(Path(folder)) and (found := _file_in(Path(folder), parts[1:])) is not None:
            return found
    return None


def _file_in(folder: Path, parts: list[str]) -> tuple[Path, bool] | None:
    base = folder.joinpath(*parts)
    if (base / "__init__.py").is_file():
        return base / "__init__.py", True
    for suffix in (".py", *importlib.machinery.EXTENSION_SUFFIXES):
        path = base.with_name(base.name + suffix)
        if path.is_file():
            return path, False
    return None


def _top_spec(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _is_own(path: Path) -> bool:
    """Importable but not in site-packages: an editable install, or a folder of PYTHONPATH."""
    return path.is_absolute() and not any(path.resolve().is_relative_to(folder) for folder in _SITE_FOLDERS)


def _required_names(distribution: importlib.metadata.Distribution) -> list[str]:
    required = [line for line in distribution.requires or () if "extra ==" not in line]
    return [match.group().lower() for line in required if (match := re.match(r"[\w.-]+", line))]


@functools.cache
def _distributions_by_package() -> dict[str, list[str]]:
    return {top: sorted(set(names)) for top, names in importlib.metadata.packages_distributions().items()}

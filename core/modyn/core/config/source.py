"""YAML text to a plain tree that still knows where each entry stood, and back: the only YAML reader.

Safe tags only, no duplicate keys, no dates (a date stays text), and numbers such as ``1e-3`` are numbers, as in
YAML 1.2 (YAML 1.1 reads them as text, which then fails far away, in an optimizer).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modyn.core.errors import InvalidInputError

MAX_TEXT_CHARS = 1 << 20
"""A larger file is no pipeline."""

MAX_NODES = 100_000
"""Entries after aliases are followed: a few nested aliases can otherwise name billions."""

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the file to an entry."""


def dotted(location: Location) -> str:
    """A location as users read it.

    >>> dotted(("evaluation", "handlers", 0, "name"))
    'evaluation.handlers[0].name'
    """
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class YamlMapping(dict[str, Any]):
    """A mapping that knows its location in the file; otherwise a plain dict."""

    location: Location = ()


@dataclass
class Document:
    """A parsed file.

    Attributes:
        name: of the file, for messages.
        tree: its top mapping.
        lines: line number (from 1) of every key and list entry.
        problems: what is wrong with single entries, such as duplicate keys.
    """

    name: str
    tree: YamlMapping
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)

    def line_of(self, location: Location) -> int:
        """Line of an entry, or of the nearest one around it that exists."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


class _Loader(yaml.SafeLoader):
    """YAML scalars with the deviations named at the top of this module."""


_NO_DATES = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_implicit_resolvers = _NO_DATES
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_document(text: str, name: str) -> Document:
    """Parses YAML text.

    Args:
        text: the file's content.
        name: of the file, for messages.

    Raises:
        InvalidInputError: it is empty, no valid YAML, or no mapping; with file, line and column.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInputError(f"{name}: {len(text):,} characters are too many; expected at most {MAX_TEXT_CHARS:,}")
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise InvalidInputError(f"{name}: the file is empty; expected sections such as pipeline, data, model")
            if not isinstance(root, yaml.MappingNode):
                mark, kind = root.start_mark, "list" if isinstance(root, yaml.SequenceNode) else "single value"
                raise InvalidInputError(
                    f"{name}:{mark.line + 1}:{mark.column + 1}: expected a mapping of sections such as pipeline, "
                    f"data, model and trigger; got a {kind}"
                )
            return _Builder(loader, name).build(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise InvalidInputError(_syntax_message(error, name)) from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{name}: not valid YAML: {reason}") from error
    except RecursionError as error:
        raise InvalidInputError(f"{name}: entries are nested too deeply") from error


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        InvalidInputError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def _syntax_message(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
    problem = error.problem or error.context or "cannot be parsed"
    hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
    return f"{where}: not valid YAML: {problem}{hint}"


class _Builder:
    """Turns YAML nodes into a tree, noting where everything stood."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self._loader = loader
        self._document = Document(name, YamlMapping())
        self._open: set[int] = set()
        self._count = 0

    def build(self, root: yaml.MappingNode) -> Document:
        self._document.tree = self._mapping(root, ())
        return self._document

    def _value(self, node: yaml.Node, location: Location) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidInputError(f"{self._document.name}: more than {MAX_NODES:,} entries; aliases repeat too much")
        if isinstance(node, yaml.ScalarNode):
            return self._loader.construct_object(node)
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, location)
            return self._sequence(node, location)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.Node, location: Location) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            here = (*location, index)
            self._document.lines[here] = item.start_mark.line + 1
            items.append(self._value(item, here))
        return items

    def _mapping(self, node: yaml.MappingNode, location: Location) -> YamlMapping:
        self._check_duplicates(node, location)
        self._loader.flatten_mapping(node)  # merge keys (<<)
        result = YamlMapping()
        result.location = location
        for key_node, value_node in node.value:
            key = self._key(key_node)
            here = (*location, key)
            self._document.lines[here] = key_node.start_mark.line + 1
            result[key] = self._value(value_node, here)
        return result

    def _check_duplicates(self, node: yaml.MappingNode, location: Location) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in first and key_node.tag != "tag:yaml.org,2002:merge":
                self._document.problems.append(
                    ((*location, key), f"this key is given twice, on lines {first[key]} and {line}; keep one")
                )
            first.setdefault(key, line)

    def _key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode) and isinstance(node.value, Hashable):
            return str(node.value)  # the text as written: `on:` is the key "on", not True
        raise yaml.MarkedYAMLError(problem="a key must be a single value", problem_mark=node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads back: it quotes text that the loader would take for a number."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None  # inline Python stays readable
    if any(mark in text for mark in "\x85\u2028\u2029\ufeff"):  # line breaks to YAML 1.1: only quotes keep them
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(YamlMapping, yaml.SafeDumper.represent_dict)


def write_yaml(tree: Mapping[str, Any]) -> str:
    """A plain tree as YAML text, keys in their order; :func:`read_document` reads an equal tree."""
    return yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)

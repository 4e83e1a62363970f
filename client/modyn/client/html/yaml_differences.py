"""In which keys pipelines differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

ABSENT = "–"

LONGEST = 200
"""Characters of a value; inline code can be long, and the pipeline stands below."""


def differences(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """A row per key that is not alike in all pipelines, where null is as if it were absent: path, value in each.

    >>> differences(["trigger: {id: A, every: 7d}", "trigger: {id: B}"])
    [('trigger.id', 'A', 'B'), ('trigger.every', '7d', '–')]

    Args:
        texts: YAML documents.
    """
    flat = [dict(_leaves(yaml.safe_load(text), "")) for text in texts]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    rows = ((key, *(leaves.get(key, ABSENT) for leaves in flat)) for key in keys)
    return [row for row in rows if len(set(row[1:])) > 1 and set(row[1:]) != {ABSENT, "null"}]


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and any(isinstance(item, (dict, list)) for item in node):
        for position, value in enumerate(node):
            yield from _leaves(value, f"{path}[{position}]")
    else:
        text = node if isinstance(node, str) else json.dumps(node, default=str, ensure_ascii=False)
        yield path, text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

"""Keys of the published system's YAML that were renamed or no longer do anything: accepted, with a notice.

Used by sections and plug-ins alike; imports neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from modyn.core.config.source import Location, YamlMapping, dotted


@dataclass
class Reading:
    """What reading one file has to say besides its result; the pydantic validation context."""

    notices: list[str] = field(default_factory=list)

    def notice(self, location: Location, text: str) -> None:
        line = f"{dotted(location)}: {text}"
        if line not in self.notices:
            self.notices.append(line)


class HasPublishedKeys(Protocol):
    renamed_keys: Mapping[str, str]
    ignored_keys: Mapping[str, str]


def accept_published_keys(cls: HasPublishedKeys, data: Any, context: Any) -> Any:
    """The mapping with published keys renamed or dropped; the original is not modified.

    Raises:
        ValueError: a key is given under its old and its new name.
    """
    if not isinstance(data, Mapping) or not any(key in cls.ignored_keys or key in cls.renamed_keys for key in data):
        return data
    result = YamlMapping(data)
    result.location = getattr(data, "location", ())
    for key in list(result):
        if key in cls.renamed_keys:
            new = cls.renamed_keys[key]
            if new in result:
                raise ValueError(f"key {key!r} is the old name of {new!r}, which is given too; keep {new!r}")
            result[new] = result.pop(key)
            _notice(context, (*result.location, key), f"this key is now called {new!r}")
        elif key in cls.ignored_keys:
            del result[key]
            _notice(context, (*result.location, key), f"has no effect: {cls.ignored_keys[key]}")
    return result


def _notice(context: Any, location: Location, text: str) -> None:
    if isinstance(context, Reading):
        context.notice(location, text)


def describe_published_keys(cls: HasPublishedKeys, schema: dict[str, Any]) -> None:
    """Adds the accepted keys to a class's JSON Schema, marked deprecated."""
    properties = schema.setdefault("properties", {})
    for key, why in cls.ignored_keys.items():
        properties.setdefault(key, {"deprecated": True, "description": f"Has no effect: {why}."})
    for key, new in cls.renamed_keys.items():
        properties.setdefault(key, {"deprecated": True, "description": f"Now called `{new}`."})

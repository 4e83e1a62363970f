"""Keys of the published system's YAML that were renamed or no longer do anything: accepted, with a notice.

:class:`Described` is the base of sections and plug-ins; imports neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic_core import core_schema

from modyn.core.config.source import Location, YamlMapping, dotted


@dataclass
class Reading:
    """What reading one file has to say besides its result; the pydantic validation context."""

    notices: list[str] = field(default_factory=list)

    def notice(self, location: Location, text: str) -> None:
        line = f"{dotted(location)}: {text}"
        if line not in self.notices:
            self.notices.append(line)


class Described(BaseModel):
    """Base of all that YAML describes: immutable, no unknown keys but published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Published YAML keys that were renamed: old name -> new name."""

    ignored_keys: ClassVar[Mapping[str, str]] = {}
    """Published YAML keys that no longer do anything: name -> why. Accepted with one notice each."""

    @model_validator(mode="before")
    @classmethod
    def _accept_published_keys(cls, data: Any, info: ValidationInfo) -> Any:
        return _without_booleans_as_numbers(cls, accept_published_keys(cls, data, info.context))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = handler(schema)
        _describe(cls, handler.resolve_ref_schema(described))
        return described


def accept_published_keys(cls: type[Described], data: Any, context: Any) -> Any:
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


def _without_booleans_as_numbers(cls: type[Described], data: Any) -> Any:
    """Makes ``true`` a word where a number is expected, as pydantic would take it for 1."""
    if not isinstance(data, Mapping):
        return data
    fields = cls.model_fields
    wrong = [
        key
        for key, value in data.items()
        if isinstance(value, bool) and key in fields and _is_number(fields[key].annotation)
    ]
    if not wrong:
        return data
    result = YamlMapping(data)
    result.location = getattr(data, "location", ())
    result.update({key: str(data[key]).lower() for key in wrong})
    return result


def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers, and nothing that may be a boolean."""
    kinds = _kinds(annotation)
    return bool(kinds & {int, float}) and not kinds & {bool, Any}


def _kinds(annotation: Any) -> set[Any]:
    """The types of which a value may be."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return set().union(*(_kinds(part) for part in get_args(annotation)))
    return _kinds(get_args(annotation)[0]) if origin is Annotated else {annotation}


def _notice(context: Any, location: Location, text: str) -> None:
    if isinstance(context, Reading):
        context.notice(location, text)


def _describe(cls: type[Described], schema: dict[str, Any]) -> None:
    """Adds the accepted keys to a class's JSON Schema, marked deprecated."""
    properties = schema.setdefault("properties", {})
    for key, why in cls.ignored_keys.items():
        properties[key] = {"deprecated": True, "description": f"Has no effect: {why}."}  # also if it is a base's field
    for key, new in cls.renamed_keys.items():
        properties.setdefault(key, {"deprecated": True, "description": f"Now called `{new}`."})

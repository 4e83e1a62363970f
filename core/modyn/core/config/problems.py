"""Validation errors as lines a user can act on: where, what value, what was expected, the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from modyn.core.config.source import Location, dotted
from modyn.core.errors import InvalidInputError
from modyn.core.registry import NESTED_ERROR, PLANNED_ERROR, Plugin, Registry

RELATION_ERROR = "modyn_relation"
"""Error type for values that do not fit each other; its context says where (see :func:`relation_error`)."""

MAX_VALUE_CHARS = 60

S = TypeVar("S", bound=BaseModel)
P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or not available yet."""

    location: Location
    text: str
    planned: bool = False

    def __str__(self) -> str:
        where = dotted(self.location)
        return f"{where}: {self.text}" if where else self.text


def relation_error(problems: Iterable[tuple[Location, str]]) -> PydanticCustomError:
    """An error at places below the validated field: pairs of (location relative to the field, text)."""
    problems = list(problems)
    text = "; ".join(text.replace("{", "{{").replace("}", "}}") for _, text in problems)
    return PydanticCustomError(RELATION_ERROR, text, {"problems": problems})


def nested_error(error: ValidationError, plugin: type[BaseModel]) -> PydanticCustomError:
    """Errors of a plug-in's fields, for a validator of the field that holds it."""
    context = {"message": str(error), "errors": error.errors(include_url=False), "plugin": plugin}
    return PydanticCustomError(NESTED_ERROR, "{message}", context)


def planned_error(text: str) -> PydanticCustomError:
    """A documented value that a later release will have."""
    return PydanticCustomError(PLANNED_ERROR, "{message}", {"message": f"{text} is not in this release yet"})


def problems_of(error: ValidationError, root: type[BaseModel], tree: Any, at: Location = ()) -> list[Problem]:
    """All problems of a validation error, plug-ins unfolded.

    Args:
        error: from validating ``tree``.
        root: class it was validated against.
        tree: the plain tree.
        at: location of ``tree`` in its file.
    """
    return list(_unfold(error.errors(include_url=False), root, tree, at))


def parse_plugin(registry: Registry[P], tree: Mapping[str, Any], what: str) -> P:
    """A plug-in from its mapping, as it travels between services.

    Raises:
        InvalidInputError: with all problems, one a line.
    """
    try:
        return registry.parse(tree)
    except ValidationError as error:
        raise _input_error(problems_of(error, registry.get(str(tree.get(registry.key))), tree), what) from error


def parse_section(section: type[S], tree: Any, what: str) -> S:
    """A section from its mapping, as it travels between services.

    Raises:
        InvalidInputError: with all problems, one a line.
    """
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        raise _input_error(problems_of(error, section, tree), what) from error


def _input_error(problems: list[Problem], what: str) -> InvalidInputError:
    return InvalidInputError(f"{what}: " + "\n".join(str(problem) for problem in problems))


# ------------------------------------------------------------------------------------------------- unfolding


def _unfold(errors: Sequence[Any], root: type[BaseModel], tree: Any, base: Location) -> Iterator[Problem]:
    resolved = [(error, *_resolve(error, root, tree)) for error in errors]
    plugins = {location for error, location, *_ in resolved if error["type"] in _PLUGIN_ERRORS}
    for error, location, owner, value in resolved:
        kind, context = error["type"], error.get("ctx", {})
        here = (*base, *location)
        if kind == NESTED_ERROR:
            yield from _unfold(context["errors"], context["plugin"], value, here)
        elif kind == RELATION_ERROR:
            yield from (Problem((*here, *suffix), text) for suffix, text in context["problems"])
        elif kind == PLANNED_ERROR:
            yield Problem(_with_key(here, context), error["msg"], planned=True)
        elif kind == "modyn_plugin" and isinstance(value, Mapping):
            yield Problem(_with_key(here, context), error["msg"])
        elif kind == "extra_forbidden":
            yield Problem(here, _unknown_key(str(location[-1]), owner, root))
        elif kind == "missing":
            yield Problem(here, _missing(str(location[-1]), owner))
        elif kind == "string_type" and location in plugins:
            continue  # the other member of "a plug-in, or text", whose own error says more
        else:
            yield Problem(here, _wrong_value(error))


_PLUGIN_ERRORS = (NESTED_ERROR, PLANNED_ERROR, "modyn_plugin")


def _with_key(location: Location, context: Mapping[str, Any]) -> Location:
    return (*location, context["key"]) if "key" in context else location


def _resolve(error: Any, root: type[BaseModel], tree: Any) -> tuple[Location, type[BaseModel] | None, Any]:
    """Location of an error in the user's tree, the class that owns its last key, and the value there.

    Pydantic's own locations also name the members of unions; those are left out.
    """
    location: list[str | int] = []
    node: Any = tree
    owner: type[BaseModel] | None = None
    cls: type[BaseModel] | None = root
    parts = error["loc"]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if isinstance(part, int) and isinstance(node, Sequence) and not isinstance(node, str):
            node, owner = (node[part] if part < len(node) else None), None
        elif isinstance(node, Mapping) and (part in node or (cls is not None and part in cls.model_fields)):
            owner, node = cls, node.get(part)
            cls = _class_of(cls, str(part)) if cls is not None else None
        elif last and error["type"] == "missing":
            owner, node = cls, None
        else:
            continue  # a union member, or an index of a set
        location.append(part)
    return tuple(location), owner, node


def _class_of(cls: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section class of a field, inside lists and unions too."""
    field = cls.model_fields.get(key)
    return _section_in(field.annotation) if field is not None else None


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, Union, UnionType, Annotated):
        found = (_section_in(argument) for argument in get_args(annotation))
        return next((section for section in found if section is not None), None)
    return None


# ---------------------------------------------------------------------------------------------------- texts


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing."""
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""


def _unknown_key(key: str, owner: type[BaseModel] | None, root: type[BaseModel]) -> str:
    if owner is None:
        return "unknown key"
    known = list(owner.model_fields)
    text = "unknown key" + nearest(key, [*known, *getattr(owner, "ignored_keys", ())])
    if "did you mean" in text:
        return text
    elsewhere = [name for name in root.model_fields if key in getattr(_class_of(root, name), "model_fields", ())]
    if elsewhere and owner is root:
        return f"{text}; it belongs to the section {elsewhere[0]!r}"
    return f"{text}; expected one of {', '.join(known)}" if known else f"{text}; expected no keys"


def _missing(key: str, owner: type[BaseModel] | None) -> str:
    field = owner.model_fields.get(key) if owner is not None else None
    described = field.description if field is not None else None
    return f"this key is missing; expected: {described}" if described else "this key is missing"


def _wrong_value(error: Any) -> str:
    value, expected = error.get("input"), _expected(error)
    if error["type"] in ("value_error", "too_short") and (value is None or isinstance(value, Mapping | list)):
        return expected  # the text names what is wrong inside
    return f"value {shown(value)}: {expected}"


def shown(value: Any) -> str:
    """A value as it may stand in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(dict(value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number below 2**63",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number less than {lt}",
    "less_than_equal": "{le} or less",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "multiple_of": "a multiple of {multiple_of}",
}


def _expected(error: Any) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind in ("literal_error", "enum"):
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {context['expected']}{nearest(str(value), choices)}"
    if kind == "string_type":
        quote = "; put it in quotes" if isinstance(value, int | float) else ""
        return f"expected text{quote}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind].format(**context)}"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]

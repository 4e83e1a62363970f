"""Plug-ins: a plug-in is its configuration, a frozen pydantic class whose fields are its YAML keys.

Adding one is one new file and one import line in its package. Third parties add theirs through Python entry
points of the registry's group. Schema, error texts, the reference pages and the contract tests follow from here.

    TRIGGERS: Registry[Trigger] = Registry("trigger", key="id", package="modyn.supervisor.triggers", …)

    @TRIGGERS.register("DataAmountTrigger")
    class DataAmountTrigger(Trigger):
        \"\"\"Fire every ``num_samples`` new samples.\"\"\"
        num_samples: PositiveInt
"""

from __future__ import annotations

import copy
import difflib
import importlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError, core_schema

from modyn.core.config.inline import REFERENCE_PATTERN, is_reference
from modyn.core.config.published import Described
from modyn.core.errors import InvalidInputError

NESTED_ERROR = "modyn_nested"
"""Error type that carries the errors of a plug-in's own fields; the configuration reader unfolds it."""

PLANNED_ERROR = "modyn_planned"
"""Error type for a documented plug-in that this release does not have yet."""


class Plugin(Described):
    """Base of all plug-ins."""

    plugin_name: ClassVar[str] = ""
    """The name it is registered under; set by :meth:`Registry.register`."""


P = TypeVar("P", bound=Plugin)

_DESCRIBING: ContextVar[frozenset[str]] = ContextVar("_DESCRIBING", default=frozenset())
"""Kinds of plug-ins whose JSON Schema is being written."""


class Registry(Generic[P]):
    """Named plug-ins of one kind.

    Args:
        kind: what a plug-in is called in messages, such as ``trigger``.
        key: the YAML key that holds its name, such as ``id``.
        package: imported on first use; importing it registers the built-in plug-ins.
        group: entry-point group of third-party plug-ins.
        planned: names of the published system that a later release will have.
        own: plug-in, and its key for ``module:attribute``, that a name of this form stands for; None: for nothing.
    """

    def __init__(
        self,
        kind: str,
        *,
        key: str,
        package: str,
        group: str,
        planned: tuple[str, ...] = (),
        own: tuple[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.key = key
        self.package = package
        self.group = group
        self.planned = planned
        self.own = own
        self._classes: dict[str, type[P]] = {}
        self._aliases: dict[str, type[P]] = {}
        self._loaded = False

    def register(self, name: str, *, aliases: tuple[str, ...] = ()) -> Callable[[type[P]], type[P]]:
        """Class decorator that makes a plug-in known under a name.

        Args:
            aliases: names of the published system for it; accepted, and resolved to ``name``.
        """

        def add(cls: type[P]) -> type[P]:
            for known in (name, *aliases):
                other = self._classes.get(known) or self._aliases.get(known) or cls
                if other.__qualname__ != cls.__qualname__:
                    raise ValueError(f"two {self.kind}s are named {known!r}")
            cls.plugin_name = name
            self._classes[name] = cls
            self._aliases.update(dict.fromkeys(aliases, cls))
            return cls

        return add

    def names(self) -> list[str]:
        """All available names, sorted."""
        self._load()
        return sorted(self._classes)

    def aliases_of(self, name: str) -> list[str]:
        """Further names under which a plug-in is accepted, sorted."""
        cls = self.get(name)
        return sorted(alias for alias, known in self._aliases.items() if known is cls)

    def get(self, name: str) -> type[P]:
        """The class registered under a name, or that a reference stands for.

        Raises:
            InvalidInputError: there is none.
        """
        self._load()
        if self.own is not None and is_reference(name):
            name = self.own[0]
        cls = self._classes.get(name) or self._aliases.get(name)
        if cls is None:
            raise InvalidInputError(self._unknown(name))
        return cls

    def parse(self, tree: Mapping[str, Any], context: Any = None) -> P:
        """A plug-in from its YAML mapping.

        Raises:
            pydantic.ValidationError: a key or value is wrong.
            InvalidInputError: the name is missing or unknown.
        """
        name = tree.get(self.key)
        if not isinstance(name, str):
            raise InvalidInputError(f"key {self.key!r} is missing; expected one of {self._choices()}")
        fields = copy.copy(tree) if isinstance(tree, dict) else dict(tree)  # a copy keeps its place in the file
        del fields[self.key]
        if self.own is not None and is_reference(name):
            if self.own[1] in fields:
                raise InvalidInputError(
                    f"{name!r} and the key {self.own[1]!r} both name code of your own; leave {self.own[1]!r} out"
                )
            fields[self.own[1]] = name
        return self.get(name).model_validate(fields, context=context)

    def dump(self, plugin: P) -> dict[str, Any]:
        """The YAML mapping of a plug-in, every default filled in."""
        return {self.key: plugin.plugin_name, **plugin.model_dump(mode="json")}

    def field(self, *, optional: bool = False) -> RegistryField[P]:
        """Annotation for a pydantic field that holds a plug-in: ``trigger: Annotated[Trigger, TRIGGERS.field()]``.

        Args:
            optional: the field may also be None.
        """
        return RegistryField(self, optional=optional)

    def _load(self) -> None:
        if self._loaded:
            return
        importlib.import_module(self.package)
        for entry in entry_points(group=self.group):
            try:
                entry.load()
            except Exception as error:  # other people's code can fail in any way
                raise InvalidInputError(
                    f"the installed {self.kind} {entry.name!r} ({entry.value}) cannot be imported: "
                    f"{type(error).__name__}: {error}; repair or uninstall the package it comes from"
                ) from error
        self._loaded = True

    def _choices(self) -> str:
        return ", ".join(self.names())

    def _unknown(self, name: object) -> str:
        close = difflib.get_close_matches(str(name), self.names(), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"no {self.kind} is named {name!r}{hint}; expected one of {self._choices()}"


class RegistryField(Generic[P]):
    """Tells pydantic how to read, write and describe a plug-in by name."""

    def __init__(self, registry: Registry[P], *, optional: bool = False) -> None:
        self.registry = registry
        self.optional = optional

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        registry = self.registry

        def validate(value: Any, info: ValidationInfo) -> Any:
            if isinstance(value, Plugin) or (value is None and self.optional):
                return value
            return self._from_tree(value, info.context)

        def serialize(plugin: Any, _next: SerializerFunctionWrapHandler) -> Any:
            return None if plugin is None else registry.dump(plugin)

        return core_schema.with_info_plain_validator_function(
            validate,
            serialization=core_schema.wrap_serializer_function_ser_schema(serialize, schema=core_schema.any_schema()),
        )

    def _from_tree(self, value: Any, context: Any) -> P:
        registry = self.registry
        if not isinstance(value, Mapping):
            raise PydanticCustomError("modyn_plugin", "expected a mapping with the key '{key}'", {"key": registry.key})
        name = value.get(registry.key)
        if name in registry.planned:
            raise PydanticCustomError(
                PLANNED_ERROR,
                "{kind} '{name}' is not in this release yet",
                {"kind": registry.kind, "name": name, "key": registry.key},
            )
        if not isinstance(name, str):
            found = "this key is missing" if registry.key not in value else f"value {name!r}"
            raise PydanticCustomError(
                "modyn_plugin",
                "{found}: expected one of {choices}",
                {"found": found, "choices": ", ".join(registry.names()), "key": registry.key},
            )
        try:
            return registry.parse(value, context)
        except InvalidInputError as error:
            raise PydanticCustomError(
                "modyn_plugin", "{message}", {"message": error.message, "key": registry.key}
            ) from error
        except ValidationError as error:
            raise PydanticCustomError(
                NESTED_ERROR,
                "{message}",
                {
                    "message": str(error),
                    "errors": error.errors(include_url=False),
                    "plugin": registry.get(str(name)),
                },
            ) from error

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if self.registry.kind in _DESCRIBING.get():  # a plug-in that holds others of its kind
            return self._names_only()
        token = _DESCRIBING.set(_DESCRIBING.get() | {self.registry.kind})
        try:
            choices = self._choices()
        finally:
            _DESCRIBING.reset(token)
        if self.optional:
            choices.append({"type": "null"})
        return {"oneOf": choices} if choices else {"not": {}}

    def _names_only(self) -> dict[str, Any]:
        body = {"title": self.registry.kind, "type": "object", "required": [self.registry.key]}
        one: dict[str, Any] = {**body, "properties": {self.registry.key: self._name_schema(*self.registry.names())}}
        return {"anyOf": [one, {"type": "null"}]} if self.optional else one

    def _name_schema(self, *names: str) -> dict[str, Any]:
        accepted = [*names, *(alias for name in names for alias in self.registry.aliases_of(name))]
        return {"const": accepted[0]} if len(accepted) == 1 else {"enum": accepted}

    def _is_own(self, choice: dict[str, Any]) -> bool:
        return self.registry.own is not None and choice["title"] == self.registry.own[0]

    def _own_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        """The same with a reference as name."""
        assert self.registry.own is not None
        key, given = self.registry.key, self.registry.own[1]
        others = {name: body for name, body in choice["properties"].items() if name not in (key, given)}
        required = [name for name in choice["required"] if name != given]
        properties = {key: {"type": "string", "pattern": REFERENCE_PATTERN}, **others}
        return {**choice, "title": "module:attribute", "properties": properties, "required": required}

    def _choices(self) -> list[dict[str, Any]]:
        choices: list[dict[str, Any]] = []
        for name in self.registry.names():
            body = without_references(self.registry.get(name).model_json_schema())
            properties = {self.registry.key: self._name_schema(name), **body.get("properties", {})}
            required = [self.registry.key, *body.get("required", [])]
            choices.append({**body, "title": name, "properties": properties, "required": required})
        choices.extend(self._own_choice(choice) for choice in list(choices) if self._is_own(choice))
        choices.extend(
            {
                "title": name,
                "description": "Not in this release yet.",
                "type": "object",
                "properties": {self.registry.key: {"const": name}},
                "required": [self.registry.key],
            }
            for name in self.registry.planned
        )
        return choices


def without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema whose definitions stand where they are used, so that it can be part of another one."""
    definitions = schema.get("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        target = definitions.get(str(node.get("$ref", "")).removeprefix("#/$defs/"))
        merged = node if target is None else {**target, **{key: node[key] for key in node if key != "$ref"}}
        return {key: resolved(value) for key, value in merged.items() if key != "$defs"}

    inlined: dict[str, Any] = resolved(schema)
    return inlined

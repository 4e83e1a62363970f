"""The JSON Schema of the pipeline YAML, for editors and other tools."""

from __future__ import annotations

from typing import Any

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.versions import PIPELINE_SCHEMA_VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a pipeline file, with every installed plug-in."""
    schema = PipelineConfig.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs", {})
    _hoist(schema, definitions)
    for definition in list(definitions.values()):
        _hoist(definition, definitions)
    return {
        "$schema": DIALECT,
        "title": f"Modyn pipeline, schema version {PIPELINE_SCHEMA_VERSION}",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def _hoist(node: Any, definitions: dict[str, Any]) -> None:
    """Moves definitions of plug-ins, which stand inside, to the top, where their references point."""
    if isinstance(node, list):
        for item in node:
            _hoist(item, definitions)
    elif isinstance(node, dict):
        inner = node.pop("$defs", None) if "$defs" in node else None
        for name, definition in (inner or {}).items():
            if definitions.setdefault(name, definition) != definition:
                raise ValueError(f"two plug-ins define different nested classes named {name!r}; rename one")
            _hoist(definition, definitions)
        for value in node.values():
            _hoist(value, definitions)

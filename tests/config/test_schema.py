from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modyn.core.config.pipeline import PipelineConfig
from modyn.core.config.reader import json_schema, load_pipeline_text, resolved_yaml
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES
from modyn.core.plugins.evaluation import METRICS, WINDOW_STRATEGIES
from modyn.core.plugins.formats import FORMATS
from modyn.core.plugins.models import MODELS
from modyn.core.plugins.parsers import PARSERS
from modyn.core.plugins.selection import PRESAMPLING_STRATEGIES, SELECTION_POLICIES
from modyn.core.plugins.triggers import TRIGGERS
from modyn.core.registry import Registry
from tests.helpers.pipelines import MINIMAL, PUBLISHED

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = sorted(set(FOLDER.glob("*/*.yaml")) - set(FOLDER.glob("*/policies.yaml")))

REGISTRIES: list[Registry[Any]] = [
    *(TRIGGERS, SELECTION_POLICIES, PRESAMPLING_STRATEGIES, DOWNSAMPLING_STRATEGIES, METRICS, WINDOW_STRATEGIES),
    *(FORMATS, PARSERS, MODELS),
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_valid_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


def test_every_reference_resolves(schema: dict[str, Any]) -> None:
    for reference in _values_of(schema, "$ref"):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize("text", [MINIMAL, PUBLISHED, *(path.read_text() for path in EXAMPLES)])
def test_valid_pipelines_validate(validator: jsonschema.Draft202012Validator, text: str) -> None:
    validator.validate(yaml.safe_load(text))
    resolved = resolved_yaml(load_pipeline_text(text, "p").require_runnable())
    validator.validate(yaml.safe_load(resolved))


@pytest.mark.parametrize(
    "section",
    [
        "training: {batch_size: many}",
        "training: {bach_size: 3}",
        "training: {device: gpu}",
        "selection_strategy: {name: NoSuchStrategy}",
        "selection_strategy: {name: NewDataStrategy, limit: 0}",
        "selection_strategy: {name: NewDataStrategy, nothing: 0}",
        "trigger: {id: DataAmountTrigger, num_samples: 0}",
        "trigger: {id: DataAmountTrigger}",
        "model: {id: MLP, config: {in_features: 4, num_classes: two}}",
        "model: {id: MLP}",
        "model: {id: NoSuchModel}",
        "evaluation: {handlers: []}",
        "surprise: 1",
    ],
)
def test_invalid_pipelines_do_not(validator: jsonschema.Draft202012Validator, section: str) -> None:
    tree = yaml.safe_load(MINIMAL) | yaml.safe_load(section)
    assert not validator.is_valid(tree)
    with pytest.raises(InvalidInputError):
        load_pipeline_text(yaml.safe_dump(tree), "p")


def test_planned_plugins_validate(validator: jsonschema.Draft202012Validator) -> None:
    tree = yaml.safe_load(MINIMAL)
    for name in TRIGGERS.planned:
        validator.validate(tree | {"trigger": {"id": name, "anything": 1}})
    for model in MODELS.planned:
        validator.validate(tree | {"model": {"id": model, "config": {"num_classes": 3}}})


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    missing = [
        f"{name}.{key}"
        for name, definition in {"": schema, **schema["$defs"]}.items()
        for key, field in definition.get("properties", {}).items()
        if not {"description", "const", "$ref"} & field.keys()
    ]
    assert missing == []


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_plugin_and_its_keys_are_described(registry: Registry[Any]) -> None:
    for name in registry.names():
        plugin = registry.get(name)
        assert plugin.__doc__, name
        for key, field in plugin.model_fields.items():
            assert field.description, f"{registry.kind} {name}.{key} has no description"


def test_every_section_is_documented() -> None:
    def sections(cls: Any) -> Iterator[Any]:
        yield cls
        for child in cls.__subclasses__():
            yield from sections(child)

    base = PipelineConfig.__mro__[1]
    for section in sections(base):
        if section.__module__.startswith("modyn."):
            assert section.__doc__
            for key, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{key}"


def _values_of(tree: Any, key: str) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get(key), str):
            yield tree[key]
        for value in tree.values():
            yield from _values_of(value, key)
    elif isinstance(tree, list):
        for item in tree:
            yield from _values_of(item, key)

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, PositiveInt, ValidationError

from modyn.core.config.problems import parse_plugin, parse_section
from modyn.core.errors import InvalidInputError
from modyn.core.registry import Plugin, Registry


class Shape(Plugin):
    """A plug-in kind of this test."""


def shapes() -> Registry[Shape]:
    registry: Registry[Shape] = Registry(
        "shape", key="id", package="tests.helpers.no_shapes", group="modyn.test_shapes", planned=("Sphere",)
    )

    @registry.register("Circle")
    class Circle(Shape):
        """Round."""

        radius: PositiveInt

    @registry.register("Square")
    class Square(Shape):
        """Not round."""

        side: PositiveInt = 1
        corner: Annotated[Shape, registry.field()] | None = None

    return registry


@pytest.fixture(autouse=True)
def no_built_in_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tests.helpers.no_shapes", sys)


def test_a_plugin_is_found_by_name_and_knows_it() -> None:
    registry = shapes()
    circle = registry.parse({"id": "Circle", "radius": 3})
    assert circle.plugin_name == "Circle"
    assert registry.names() == ["Circle", "Square"]
    assert registry.dump(circle) == {"id": "Circle", "radius": 3}
    assert registry.parse(registry.dump(circle)) == circle


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"id": "Circel"}, r"no shape is named 'Circel' \(did you mean 'Circle'\?\); expected one of Circle, Square"),
        ({"id": "Hexagon"}, "no shape is named 'Hexagon'; expected one of"),
        ({}, "key 'id' is missing; expected one of Circle, Square"),
        ({"id": 3}, "key 'id' is missing"),
    ],
)
def test_unknown_names_list_what_exists(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        shapes().parse(tree)


def test_two_plugins_cannot_share_a_name() -> None:
    registry = shapes()
    with pytest.raises(ValueError, match="two shapes are named 'Circle'"):

        @registry.register("Circle")
        class Other(Shape):
            """Another one."""


def test_nested_errors_are_unfolded_to_lines() -> None:
    registry = shapes()

    class Drawing(BaseModel):
        main: Annotated[Shape, registry.field()]

    tree = {"main": {"id": "Square", "side": "x", "corner": {"id": "Circle", "radus": 1}}}
    with pytest.raises(InvalidInputError) as caught:
        parse_section(Drawing, tree, "drawing")
    assert caught.value.message.splitlines() == [
        "drawing: main.side: value 'x': expected a whole number",
        "main.corner.radius: this key is missing",
        "main.corner.radus: unknown key (did you mean 'radius'?)",
    ]
    with pytest.raises(InvalidInputError, match=r"shape: corner.id: no shape is named 'Ring'"):
        parse_plugin(registry, {"id": "Square", "corner": {"id": "Ring"}}, "shape")


def test_fields_accept_instances_and_serialize_to_their_mapping() -> None:
    registry = shapes()

    class Drawing(BaseModel):
        main: Annotated[Shape, registry.field()]

    circle = registry.parse({"id": "Circle", "radius": 2})
    drawing = Drawing(main=circle)
    assert drawing.main is circle
    assert drawing.model_dump() == {"main": {"id": "Circle", "radius": 2}}
    assert Drawing.model_validate(drawing.model_dump()) == drawing


def test_planned_plugins_are_told_apart_from_wrong_ones() -> None:
    registry = shapes()

    class Drawing(BaseModel):
        main: Annotated[Shape, registry.field()]

    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"main": {"id": "Sphere", "whatever": 1}})
    assert [error["type"] for error in caught.value.errors()] == ["modyn_planned"]


def test_plugins_are_immutable() -> None:
    circle = shapes().parse({"id": "Circle", "radius": 3})
    with pytest.raises(ValidationError, match="frozen"):
        circle.radius = 4  # type: ignore[attr-defined]


def _entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    (tmp_path / "third_party_shapes.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "third_party_shapes", raising=False)
    entry = importlib.metadata.EntryPoint("Triangle", "third_party_shapes", "modyn.test_shapes")
    monkeypatch.setattr(
        "modyn.core.registry.entry_points",
        lambda group: [entry] if group == "modyn.test_shapes" else importlib.metadata.entry_points(group=group),
    )


def test_third_parties_add_plugins_by_entry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = shapes()
    monkeypatch.setitem(sys.modules, "shape_host", sys)
    monkeypatch.setattr(sys, "shape_registry", registry, raising=False)
    monkeypatch.setattr(sys, "shape_base", Shape, raising=False)
    source = """
import shape_host

@shape_host.shape_registry.register("Triangle")
class Triangle(shape_host.shape_base):
    'Three sides.'
    height: int = 1
"""
    _entry_point(monkeypatch, tmp_path, source)
    assert registry.names() == ["Circle", "Square", "Triangle"]
    assert registry.dump(registry.parse({"id": "Triangle"})) == {"id": "Triangle", "height": 1}


def test_a_third_party_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = shapes()
    _entry_point(monkeypatch, tmp_path, "raise RuntimeError('no licence')")
    for _ in range(2):  # the second time too
        with pytest.raises(InvalidInputError, match=r"installed shape 'Triangle'.*RuntimeError: no licence.*uninstall"):
            registry.names()

"""Plain Python trees (None, bool, int, float, str, list, dict) as ``modyn.v1.Value`` messages and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modyn.proto.common_pb2 import Value, ValueList, ValueMap


def to_value(tree: Any) -> Value:  # noqa: PLR0911 - one case per kind
    """Encodes a plain tree. Integers stay integers (64 bits), floats stay floats.

    Raises:
        TypeError: the tree has a node of another type.
    """
    match tree:
        case None:
            return Value(null_value=True)
        case bool():
            return Value(bool_value=tree)
        case int():
            return Value(int_value=tree)
        case float():
            return Value(float_value=tree)
        case str():
            return Value(string_value=tree)
        case list() | tuple():
            return Value(list_value=ValueList(items=[to_value(item) for item in tree]))
        case Mapping():
            return Value(map_value=ValueMap(fields={str(key): to_value(item) for key, item in tree.items()}))
    raise TypeError(f"cannot encode a {type(tree).__name__} as a Value")


def from_value(value: Value) -> Any:
    """Decodes to a plain tree; an empty message is None."""
    kind = value.WhichOneof("kind")
    match kind:
        case None | "null_value":
            return None
        case "list_value":
            return [from_value(item) for item in value.list_value.items]
        case "map_value":
            # protobuf maps have no order; sorted keys make the result deterministic
            fields = value.map_value.fields
            return {key: from_value(fields[key]) for key in sorted(fields)}
        case _:
            return getattr(value, kind)

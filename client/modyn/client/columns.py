"""Tables whose columns carry their meaning: the pieces that tables of results are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from modyn.core.scores import ScoreName

_TYPES: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}

Getter = Callable[[Any], Any]


@dataclass(frozen=True)
class Column:
    """A column of a :class:`ResultTable`.

    Attributes:
        name: of the column.
        type: its Arrow type.
        description: what its values mean.
        value: takes a value out of one of the table's rows.
    """

    name: str
    type: pa.DataType
    description: str
    value: Getter

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, metadata={"description": self.description})


@dataclass(frozen=True)
class ResultTable:
    """A table of results.

    Attributes:
        description: what a row is.
        columns: in their order.
        rows: from what the table is of, such as a report, the objects that columns take their values from.
    """

    description: str
    columns: Sequence[Column]
    rows: Callable[[Any], Iterable[Any]]

    @property
    def schema(self) -> pa.Schema:
        """Fields carry their meaning as metadata ``description``, and so does the schema."""
        return pa.schema([column.field for column in self.columns], metadata={"description": self.description})

    def of(self, source: Any) -> pa.Table:
        """The table of one report, or whatever it is of."""
        rows = list(self.rows(source))
        arrays = [_array(map(column.value, rows), column.type) for column in self.columns]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def _array(values: Iterator[Any], type_: pa.DataType) -> pa.Array:
    array = pa.array(values, type_)
    if not pa.types.is_floating(type_):
        return array
    return pc.if_else(pc.is_finite(array), array, pa.scalar(None, type_))


def column(name: str, type_: Any, description: str, value: Getter) -> Column:
    return Column(name, _TYPES[type_], description, value)


def fields(part: type[BaseModel], *names: str, of: Getter | None = None, prefix: str = "") -> list[Column]:
    """Columns that are fields of a part of the report.

    Args:
        part: of the report.
        names: of the fields; all by default.
        of: takes the part out of a row; by default it is the row. None stands for a part that is not there.
        prefix: of the columns' names.
    """
    return [
        Column(
            prefix + name,
            arrow_type(part.model_fields[name].annotation),
            part.model_fields[name].description or "",
            _getter(name, of),
        )
        for name in names or part.model_fields
    ]


def _getter(name: str, of: Getter | None) -> Getter:
    get = attrgetter(name)
    if of is None:
        return get

    def value(row: Any) -> Any:
        part = of(row)
        return None if part is None else get(part)

    return value


def arrow_type(annotation: Any) -> pa.DataType:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(choice for choice in get_args(annotation) if choice is not type(None))
    if get_origin(annotation) is Literal:
        annotation = type(get_args(annotation)[0])
    return _TYPES[annotation]


def interval_columns(of: Getter, *, prefix: str = "", what: str) -> list[Column]:
    def end(name: str) -> Getter:
        def value(row: Any) -> Any:
            interval = of(row)
            return None if interval is None else getattr(interval, name)

        return value

    return [
        column(f"{prefix}low", float, f"Lower end of the confidence interval of {what}.", end("low")),
        column(f"{prefix}high", float, f"Upper end of the confidence interval of {what}.", end("high")),
    ]


_name = lru_cache(maxsize=4096)(ScoreName.parse)


def score_name_columns(name: Callable[[Any], str]) -> list[Column]:
    """The three columns that a score's name becomes."""
    return [
        column("metric", str, "Result name of the metric.", lambda row: _name(name(row)).metric),
        column(
            "slice",
            str,
            "The samples it is restricted to, as `column=value`; null: all.",
            lambda row: _name(name(row)).slice or None,
        ),
        column("class", int, "The class it is about; null: all of them.", lambda row: _name(name(row)).label),
    ]

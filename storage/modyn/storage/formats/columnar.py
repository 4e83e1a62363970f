"""What formats with named columns share: which column is what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pydantic import Field, model_validator

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FileSamples, SourceFormat
from modyn.storage.schema import normal_labels, unix_seconds

PIECE_BYTES = 32 << 20
"""Files are read in pieces of about this size."""


ColumnReference = str | int
"""A column by its name, or by its position from 0."""


@dataclass(frozen=True)
class ColumnRoles:
    """The columns of one file by what they are for."""

    payload: list[str]
    label: str | None
    timestamp: str | None

    @property
    def all(self) -> list[str]:
        extra = (self.label, self.timestamp)
        return list(dict.fromkeys([*self.payload, *(name for name in extra if name is not None)]))


class ColumnarFormat(SourceFormat):
    """Files with named columns: one is the event time, one the label, the others are the payload."""

    timestamp: ColumnReference | None = Field(
        None, description="Column with the event time (Unix seconds or a time type); the file's time by default."
    )
    label: ColumnReference | None = Field(
        None, description="Column with the label, empty where it is missing; no labels by default."
    )
    columns: list[str] | None = Field(
        None, min_length=1, description="Payload columns to keep; by default all but label, timestamp and `drop`."
    )
    drop: list[str] = Field([], description="Columns to leave out.")

    @model_validator(mode="after")
    def _columns_do_not_clash(self) -> ColumnarFormat:
        columns = self.columns or []
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands twice in `columns`")
        both = sorted(set(columns) & set(self.drop))
        if both:
            raise ValueError(f"column {both[0]!r} stands in both `columns` and `drop`")
        if self.label is not None and self.label == self.timestamp:
            raise ValueError(f"column {self.label!r} cannot be both `label` and `timestamp`")
        return self

    @property
    def has_times(self) -> bool:
        return self.timestamp is not None

    def column_roles(self, names: list[str]) -> ColumnRoles:
        """What the columns of a file are for.

        Raises:
            CorruptDataError: two have the same name, or one that the configuration names is missing.
        """
        if len(set(names)) < len(names):
            raise CorruptDataError(f"column names occur more than once; the file has {listed(names)}")
        label = _named("label", self.label, names)
        timestamp = _named("timestamp", self.timestamp, names)
        if self.columns is not None:
            payload = [str(_named("payload", column, names)) for column in self.columns]
        else:
            payload = [name for name in names if name not in {label, timestamp, *self.drop}]
        return ColumnRoles(payload, label, timestamp)

    def samples(self, batch: pa.RecordBatch, roles: ColumnRoles) -> FileSamples:
        """A piece of a file as samples; it has at least the columns of the roles."""
        column = dict(zip(batch.schema.names, batch.columns, strict=True))
        labels = None if roles.label is None else normal_labels(column[roles.label], roles.label)
        times = None if roles.timestamp is None else unix_seconds(column[roles.timestamp], roles.timestamp)
        return FileSamples(batch.select(roles.payload), labels, times)


def _named(role: str, reference: ColumnReference | None, names: list[str]) -> str | None:
    if reference is None:
        return None
    if isinstance(reference, str) and reference in names:
        return reference
    if isinstance(reference, int) and 0 <= reference < len(names):
        return names[reference]
    raise CorruptDataError(f"{role} column {reference!r} is missing; the file has {listed(names)}")


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turns a library's complaints about a file into one error that says so."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip() or type(error).__name__
        raise CorruptDataError(f"cannot be read as {what}: {reason}") from error


def listed(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")

"""Sources of samples: folders of files in a known format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.globs import glob_regex
from modyn.core.locations import Option, check_location, check_options
from modyn.core.name_times import name_time_pattern
from modyn.core.registry import Plugin, Registry


@dataclass(frozen=True, eq=False)
class FileSamples:
    """Consecutive samples of one file, as columns of equal length n.

    Attributes:
        payload: the sample's bytes or named columns; never empty of columns.
        labels: Arrow int64 (or float, or list) [n], null where missing; None if the format carries none.
        timestamps: event times, int64 [n], Unix seconds; None if the file's own time is to be used.
    """

    payload: pa.RecordBatch
    labels: pa.Array | None
    timestamps: Int64Array | None


@dataclass(frozen=True)
class FixedColumn:
    """A payload column of fixed-width values at regular distances in a file.

    Attributes:
        type: Arrow type of a value: a number, fixed-size binary, or a fixed-size list of numbers.
        width: bytes of a value.
        offset: of the first value in the file, bytes.
        stride: from one value to the next, bytes.
    """

    name: str
    type: pa.DataType
    width: int
    offset: int
    stride: int


@dataclass(frozen=True)
class RecordLayout:
    """Samples that lie in a file at regular distances, in native byte order."""

    num_rows: int
    columns: tuple[FixedColumn, ...]


@dataclass(frozen=True)
class ArrowLayout:
    """An uncompressed Arrow IPC file whose batches are read through a memory map; columns are payload in this order."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class WholeFileLayout:
    """A file that is one sample: its bytes are the column ``payload`` (binary)."""


@dataclass(frozen=True, eq=False)
class InPlaceSamples:
    """All n samples of a file whose payload stays where it is.

    Attributes:
        layout: how the payload lies in the file.
        num_rows: n.
        schema: Arrow schema of the payload columns.
        labels: as in :class:`FileSamples`.
        timestamps: as in :class:`FileSamples`.
    """

    layout: RecordLayout | ArrowLayout | WholeFileLayout
    num_rows: int
    schema: pa.Schema
    labels: pa.Array | None
    timestamps: Int64Array | None


SampleRole = Literal["any", "train", "test"]
"""What samples may be used for; ``test``: never handed to a training job."""

NANOSECONDS = 1_000_000_000


class SourceFormat(Plugin, ABC):
    """A folder that is watched for files of one format (the ``data.source`` section)."""

    default_pattern: ClassVar[str] = "**/*"

    path: str = Field(
        min_length=1,
        description="Folder with the files, relative to the pipeline's own folder; or a URI such as `s3://bucket/prefix`.",
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        description="Glob of the files inside the folder (`*`, `?`, `[abc]`, `{a,b}`, `**/`); the format's own by "
        "default.",
    )
    name_time: str | None = Field(
        None,
        min_length=1,
        description="Where the event time stands in a file's path, such as `logs/%Y-%m-%d/*` or `*-%s.csv`; by "
        "default the file's modification time.",
    )
    role: SampleRole = Field("any", description="What the samples may be used for; `test` ones never for training.")
    roles: dict[str, SampleRole] = Field(
        {}, description="Roles of files by glob; the first that matches counts, and `role` where none does."
    )
    poll_seconds: PositiveFloat = Field(
        1.0,
        description="Pause between two looks at the folder, in live mode; Linux says sooner if a local file is new.",
    )
    settle_seconds: float = Field(
        1.0, ge=0, description="A file is complete once its size and time did not change for this long."
    )
    options: dict[str, Option] = Field(
        {},
        description="Options of the file system that a URI names, such as `endpoint_override`, `region` or "
        "`anonymous`; never secrets.",
    )
    cache_bytes: PositiveInt = Field(
        10 << 30, description="How much of the files of a URI is kept on storage's own disk, bytes."
    )

    @field_validator("pattern", "name_time", "roles")
    @classmethod
    def _patterns_make_sense(cls, value: str | dict[str, str] | None, info: ValidationInfo) -> object:
        compiled = name_time_pattern if info.field_name == "name_time" else glob_regex
        for pattern in [value] if isinstance(value, str) else value or ():
            compiled(pattern)
        return value

    @field_validator("options")
    @classmethod
    def _no_secret_in_options(cls, options: dict[str, Option]) -> dict[str, Option]:
        check_options(options)
        return options

    @model_validator(mode="after")
    def _no_secret_in_path(self) -> Self:  # no validator of the field, whose value the message would show
        check_location(self.path)
        return self

    @model_validator(mode="after")
    def _one_source_of_times(self) -> Self:
        if self.name_time is not None and self.has_times:
            raise ValueError("`name_time` and a time within the file exclude each other; leave out one of them")
        return self

    @property
    def has_times(self) -> bool:
        """Whether every sample brings its own event time, so that the file's time is not asked for."""
        return False

    def file_time(self, name: str, mtime_ns: int) -> int:
        """Event time of a file's samples that bring none, Unix seconds.

        Args:
            name: path relative to the source's folder, with forward slashes.
            mtime_ns: modification time, Unix nanoseconds.

        Raises:
            CorruptDataError: the name holds no time, but ``name_time`` says that it does.
        """
        return mtime_ns // NANOSECONDS if self.name_time is None else name_time_pattern(self.name_time).seconds(name)

    def role_of(self, name: str) -> SampleRole:
        """What the samples of a file may be used for, by its path relative to the source's folder."""
        for pattern, role in self.roles.items():
            if glob_regex(pattern).fullmatch(name):
                return role
        return self.role

    @property
    def file_pattern(self) -> str:
        """Glob of the files that hold samples, relative to the folder."""
        return self.pattern or self.default_pattern

    def list_files(self, folder: Path) -> list[Path] | None:
        """The files that hold the samples now, for formats that keep a list of their own; None: those that match the
        pattern. Files that were on an earlier list and are not on this one no longer hold samples.

        Raises:
            UnavailableError: the list cannot be read now.
            InvalidInputError: the folder is no such source, or cannot be read by what is installed.
        """
        return None

    def companions(self, path: Path) -> list[Path]:
        """Other files that must be complete before ``path`` is read, such as its label file; they may not exist."""
        return []

    def in_place(self, path: Path) -> InPlaceSamples | None:
        """How the payload of one complete, non-empty file can be read where it is; None where it has to be read once
        and written again in a form that allows random access (see :meth:`read`).

        Raises:
            CorruptDataError: as :meth:`read`.
        """
        return None

    @abstractmethod
    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        """All samples of one complete, non-empty file, in file order, in pieces that fit into memory.

        Args:
            expected: payload schema of the dataset's earlier samples, None for its first file. A format without
                types of its own reads into these; the caller checks that the result conforms.

        Raises:
            CorruptDataError: the file cannot be read; the message says why. All of it is then quarantined.
        """


FORMATS: Registry[SourceFormat] = Registry(
    "file format", key="format", package="modyn.storage.formats", group="modyn.formats"
)

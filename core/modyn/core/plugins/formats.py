"""Sources of samples: folders of files in a known format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, PositiveFloat

from modyn.core.arrow import Int64Array
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


class SourceFormat(Plugin, ABC):
    """A folder that is watched for files of one format (the ``data.source`` section)."""

    default_pattern: ClassVar[str] = "**/*"

    path: str = Field(min_length=1, description="Folder with the files; relative to the pipeline's own folder.")
    pattern: str | None = Field(
        None,
        min_length=1,
        description="Glob of the files inside the folder (`*`, `?`, `[abc]`, `**/`); the format's own by default.",
    )
    poll_seconds: PositiveFloat = Field(1.0, description="Pause between two looks at the folder, in live mode.")
    settle_seconds: float = Field(
        1.0, ge=0, description="A file is complete once its size and time did not change for this long."
    )

    @property
    def file_pattern(self) -> str:
        """Glob of the files that hold samples, relative to the folder."""
        return self.pattern or self.default_pattern

    def companions(self, path: Path) -> list[Path]:
        """Other files that must be complete before ``path`` is read, such as its label file; they may not exist."""
        return []

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

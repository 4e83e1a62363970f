"""Sources of samples: folders of files in a known format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, PositiveFloat

from modyn.core.arrow import Int64Array
from modyn.core.registry import Plugin, Registry


@dataclass(frozen=True, eq=False)
class FileSamples:
    """The samples of one file, as columns of equal length n, in file order.

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

    path: str = Field(description="Folder with the files; relative to the pipeline's own folder.")
    pattern: str | None = Field(None, description="Glob of the files inside the folder; the format's own by default.")
    poll_seconds: PositiveFloat = Field(1.0, description="Pause between two looks at the folder, in live mode.")
    settle_seconds: float = Field(
        1.0, ge=0, description="A file is complete once its size and time did not change for this long."
    )

    @abstractmethod
    def read(self, path: Path) -> FileSamples:
        """All samples of one complete file.

        Raises:
            CorruptDataError: it cannot be read; the message says why. The file is then quarantined.
        """


FORMATS: Registry[SourceFormat] = Registry(
    "file format", key="format", package="modyn.storage.formats", group="modyn.formats"
)

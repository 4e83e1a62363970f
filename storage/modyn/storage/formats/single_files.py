"""One file per sample, with the label in a file beside it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples, InPlaceSamples, SourceFormat, WholeFileLayout

MAX_SAMPLE_BYTES = 32 << 20
"""A larger sample would not fit into one message."""

MAX_LABEL_BYTES = 64
"""A larger label file is no number."""


class WholeFiles(SourceFormat):
    """Formats whose files are one sample each: the bytes are the column ``payload``."""

    pack: bool = Field(
        True, description="Copy the files of a scan into one segment; otherwise each is opened when its sample is read."
    )

    @abstractmethod
    def label(self, path: Path) -> pa.Array | None:
        """The label of a file's sample, [1], null where it is missing; None if the format carries none.

        Raises:
            CorruptDataError: it cannot be read.
        """

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        _check_size(path.stat().st_size)
        data = path.read_bytes()
        _check_size(len(data))
        payload = pa.record_batch([pa.array([data], pa.binary())], names=["payload"])
        yield FileSamples(payload, self.label(path), None)

    def in_place(self, path: Path) -> InPlaceSamples | None:
        if self.pack:
            return None
        with path.open("rb") as file:  # that it can be opened is all that can be known without reading it
            _check_size(os.fstat(file.fileno()).st_size)
        return InPlaceSamples(WholeFileLayout(), 1, pa.schema([("payload", pa.binary())]), self.label(path), None)


def _check_size(size: int) -> None:
    if size > MAX_SAMPLE_BYTES:
        raise CorruptDataError(f"has {size} bytes; a sample may have up to {MAX_SAMPLE_BYTES}")


@FORMATS.register("files")
class SingleFiles(WholeFiles):
    """One file per sample: its bytes are the ``payload`` column, its time the file's.

    The label is a whole number in a text file beside it, with another extension. Where that file is missing or empty
    the sample is unlabelled.
    """

    file_extension: str = Field(min_length=1, description="Extension of sample files, such as `.png`.")
    label_file_extension: str | None = Field(
        None, min_length=1, description="Extension of label files, such as `.label`; unlabelled by default."
    )

    @property
    def file_pattern(self) -> str:
        return self.pattern or f"**/*.{self.file_extension.lstrip('.')}"

    def companions(self, path: Path) -> list[Path]:
        return [] if self.label_file_extension is None else [self._label_file(path)]

    def label(self, path: Path) -> pa.Array | None:
        if self.label_file_extension is None:
            return None
        return pa.array([self._read_label(self._label_file(path))], pa.int64())

    def _label_file(self, path: Path) -> Path:
        name = path.name
        stem = name.removesuffix("." + self.file_extension.lstrip("."))
        if stem == name:
            stem = path.stem
        return path.with_name(f"{stem}.{(self.label_file_extension or '').lstrip('.')}")

    def _read_label(self, path: Path) -> int | None:
        try:
            with path.open("rb") as file:
                text = file.read(MAX_LABEL_BYTES + 1).strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptDataError(f"label file {path.name!r} cannot be read: {error.strerror}") from error
        if not text:
            return None
        try:
            label = int(text)
        except ValueError:
            shown = text[:20].decode("utf-8", "replace")
            raise CorruptDataError(f"label file {path.name!r} holds {shown!r}; expected one whole number") from None
        if not -(2**63) <= label < 2**63:
            raise CorruptDataError(f"label file {path.name!r} holds {label}, which has more than 64 bits")
        return label


@FORMATS.register("SingleSampleFileWrapper")
class SingleSampleFileWrapper(SingleFiles):
    """The published name of ``files``."""

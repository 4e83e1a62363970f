"""One file per sample, with the label in a file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples, SourceFormat

MAX_SAMPLE_BYTES = 32 << 20
"""A larger sample would not fit into one message."""

MAX_LABEL_BYTES = 64
"""A larger label file is no number."""


@FORMATS.register("files")
class SingleFiles(SourceFormat):
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

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        data = path.read_bytes()
        if len(data) > MAX_SAMPLE_BYTES:
            raise CorruptDataError(f"has {len(data)} bytes; a sample may have up to {MAX_SAMPLE_BYTES}")
        labels = None
        if self.label_file_extension is not None:
            labels = pa.array([self._read_label(self._label_file(path))], pa.int64())
        payload = pa.record_batch([pa.array([data], pa.binary())], names=["payload"])
        yield FileSamples(payload, labels, None)

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

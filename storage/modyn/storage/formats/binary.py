"""Files of fixed-size binary records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, PositiveInt, model_validator

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples, FixedColumn, InPlaceSamples, RecordLayout, SourceFormat
from modyn.storage.formats.columnar import PIECE_BYTES
from modyn.storage.formats.records import FieldPlace, read_field

INTEGER_BYTES = 8
"""Largest label or time field."""


@FORMATS.register("binary")
class BinaryFormat(SourceFormat):
    """Fixed-size records: an unsigned label, optionally a signed time, then the payload.

    Label and time may be left out. The payload is the opaque column ``payload``, which stays in the files.
    """

    default_pattern: ClassVar[str] = "**/*.bin"

    record_size: PositiveInt = Field(description="Bytes of a whole record, label and time included.")
    label_size: int = Field(0, ge=0, le=INTEGER_BYTES, description="Bytes of the label at its start; 0 if unlabelled.")
    timestamp_size: int = Field(
        0, ge=0, le=INTEGER_BYTES, description="Bytes of the event time (Unix seconds) after the label; 0 if none."
    )
    byteorder: Literal["little", "big"] = Field("little", description="Byte order of label and time.")
    file_extension: str | None = Field(None, description="Extension of the files; the published way to say `pattern`.")
    pack: bool = Field(False, description="Copy the samples at ingest instead of reading them in the files.")

    @model_validator(mode="after")
    def _payload_is_left(self) -> BinaryFormat:
        if self.record_size <= self._header_size:
            raise ValueError(
                f"record_size {self.record_size} leaves no payload after label_size {self.label_size} "
                f"and timestamp_size {self.timestamp_size}"
            )
        return self

    @property
    def file_pattern(self) -> str:
        return self.pattern or (f"**/*.{self.file_extension.lstrip('.')}" if self.file_extension else "**/*.bin")

    @property
    def has_times(self) -> bool:
        return self.timestamp_size > 0

    @property
    def _header_size(self) -> int:
        return self.label_size + self.timestamp_size

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        self._num_records(path)
        with path.open("rb") as file:
            step = max(1, PIECE_BYTES // self.record_size)
            while data := file.read(step * self.record_size):
                if len(data) % self.record_size:
                    raise CorruptDataError("became shorter while it was read")
                records = np.frombuffer(data, dtype=np.uint8).reshape(-1, self.record_size)
                payload = pa.py_buffer(np.ascontiguousarray(records[:, self._header_size :]))
                column = pa.Array.from_buffers(self._payload_type, len(records), [None, payload])
                labels, times = self._decoded(records[:, : self._header_size])
                yield FileSamples(pa.record_batch([column], names=["payload"]), labels, times)

    def in_place(self, path: Path) -> InPlaceSamples | None:
        if self.pack:
            return None
        rows = self._num_records(path)
        labels, times = self._decoded(read_field(path, FieldPlace(rows, 0, self._header_size, self.record_size)))
        kind = self._payload_type
        column = FixedColumn("payload", kind, kind.byte_width, offset=self._header_size, stride=self.record_size)
        return InPlaceSamples(RecordLayout(rows, (column,)), rows, pa.schema([("payload", kind)]), labels, times)

    @property
    def _payload_type(self) -> pa.DataType:
        return pa.binary(self.record_size - self._header_size)

    def _num_records(self, path: Path) -> int:
        size = path.stat().st_size
        if size % self.record_size:
            raise CorruptDataError(
                f"has {size} bytes, no multiple of record_size {self.record_size}; "
                f"the last {size % self.record_size} bytes are no whole record"
            )
        return size // self.record_size

    def _decoded(self, headers: npt.NDArray[np.uint8]) -> tuple[pa.Array | None, Int64Array | None]:
        """Labels and times of uint8 [n, label_size + timestamp_size]."""
        labels = times = None
        if self.label_size:
            values = self._integers(headers[:, : self.label_size], signed=False)
            if self.label_size == INTEGER_BYTES and (values < 0).any():
                raise CorruptDataError("has a label beyond the largest 64-bit integer")
            labels = pa.array(values)
        if self.timestamp_size:
            times = self._integers(headers[:, self.label_size :], signed=True)
        return labels, times

    def _integers(self, field: npt.NDArray[np.uint8], *, signed: bool) -> Int64Array:
        """Integers of 1 to 8 bytes; unsigned ones beyond 63 bits come out negative."""
        width = field.shape[1]
        if width in (1, 2, 4, 8):
            order, kind = "<" if self.byteorder == "little" else ">", "i" if signed else "u"
            numbers = np.ascontiguousarray(field).view(f"{order}{kind}{width}").reshape(-1)
            return numbers.astype(np.int64, copy=False)
        little = field if self.byteorder == "little" else field[:, ::-1]
        wide = np.zeros((len(field), INTEGER_BYTES), dtype=np.uint8)
        wide[:, :width] = little
        if signed:
            wide[little[:, -1] >= 0x80, width:] = 0xFF
        values: Int64Array = wide.view("<i8").reshape(-1).astype(np.int64, copy=False)
        return values

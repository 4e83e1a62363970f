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
from modyn.core.plugins.formats import FORMATS, FileSamples, SourceFormat
from modyn.storage.formats.columnar import PIECE_BYTES

INTEGER_BYTES = 8
"""Largest label or time field."""


@FORMATS.register("binary")
class BinaryFormat(SourceFormat):
    """Fixed-size records: an unsigned label, optionally a signed time, then the payload.

    Label and time may be left out. The payload is the opaque column ``payload``.
    """

    default_pattern: ClassVar[str] = "**/*.bin"

    record_size: PositiveInt = Field(description="Bytes of a whole record, label and time included.")
    label_size: int = Field(0, ge=0, le=INTEGER_BYTES, description="Bytes of the label at its start; 0 if unlabelled.")
    timestamp_size: int = Field(
        0, ge=0, le=INTEGER_BYTES, description="Bytes of the event time (Unix seconds) after the label; 0 if none."
    )
    byteorder: Literal["little", "big"] = Field("little", description="Byte order of label and time.")
    file_extension: str | None = Field(None, description="Extension of the files; the published way to say `pattern`.")

    @model_validator(mode="after")
    def _payload_is_left(self) -> BinaryFormat:
        if self.record_size <= self.label_size + self.timestamp_size:
            raise ValueError(
                f"record_size {self.record_size} leaves no payload after label_size {self.label_size} "
                f"and timestamp_size {self.timestamp_size}"
            )
        return self

    @property
    def file_pattern(self) -> str:
        return self.pattern or (f"**/*.{self.file_extension.lstrip('.')}" if self.file_extension else "**/*.bin")

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size % self.record_size:
                raise CorruptDataError(
                    f"has {size} bytes, no multiple of record_size {self.record_size}; "
                    f"the last {size % self.record_size} bytes are no whole record"
                )
            step = max(1, PIECE_BYTES // self.record_size)
            while data := file.read(step * self.record_size):
                if len(data) % self.record_size:
                    raise CorruptDataError("became shorter while it was read")
                yield self._samples(np.frombuffer(data, dtype=np.uint8).reshape(-1, self.record_size))

    def _samples(self, records: npt.NDArray[np.uint8]) -> FileSamples:
        start = self.label_size + self.timestamp_size
        payload = pa.py_buffer(np.ascontiguousarray(records[:, start:]))
        column = pa.Array.from_buffers(pa.binary(self.record_size - start), len(records), [None, payload])
        labels = times = None
        if self.label_size:
            values = self._integers(records[:, : self.label_size], signed=False)
            if (values < 0).any():
                raise CorruptDataError("has a label beyond the largest 64-bit integer")
            labels = pa.array(values)
        if self.timestamp_size:
            times = self._integers(records[:, self.label_size : start], signed=True)
        return FileSamples(pa.record_batch([column], names=["payload"]), labels, times)

    def _integers(self, field: npt.NDArray[np.uint8], *, signed: bool) -> Int64Array:
        """Integers of 1 to 8 bytes; unsigned ones beyond 63 bits come out negative."""
        little = field if self.byteorder == "little" else field[:, ::-1]
        wide = np.zeros((len(field), INTEGER_BYTES), dtype=np.uint8)
        wide[:, : little.shape[1]] = little
        if signed:
            wide[little[:, -1] >= 0x80, little.shape[1] :] = 0xFF
        values: Int64Array = wide.view("<i8").reshape(-1).astype(np.int64, copy=False)
        return values

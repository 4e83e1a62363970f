"""WebDataset: tar archives whose consecutive members with one name, but for the extension, are a sample."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, model_validator

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS, FileSamples, SourceFormat
from modyn.storage.formats.columnar import PIECE_BYTES, decoding, listed
from modyn.storage.formats.single_files import MAX_SAMPLE_BYTES
from modyn.storage.formats.tar_members import members
from modyn.storage.schema import normal_labels, unix_seconds

_JSON_FIELD = re.compile(r"((?:.*\.)?json)\.(.+)")
Sample = tuple[str, dict[str, bytes]]


@FORMATS.register("webdataset")
class WebDatasetFormat(SourceFormat):
    """Tar archives of samples (WebDataset); gzip and zstd are decompressed.

    Consecutive members with the same name up to its first dot are one sample. The payload columns are the extensions,
    such as ``jpg``, with the bytes of the members.
    """

    default_pattern: ClassVar[str] = "**/*.{tar,tar.gz,tgz,tar.zst,tar.zstd}"

    columns: list[str] | None = Field(
        None, min_length=1, description="Extensions to keep; by default those of the first sample but for the next two."
    )
    label: str | None = Field(
        None,
        min_length=1,
        description="Extension of the label, a whole number as text, such as `cls`, or a field of a JSON member, such "
        "as `json.label`; missing where a sample has none. No labels by default.",
    )
    timestamp: str | None = Field(
        None,
        min_length=1,
        description="The same for the event time: Unix seconds, or ISO 8601 in JSON; the file's time by default.",
    )
    key: str | None = Field(
        None, min_length=1, description="Name of a payload column for the samples' names, such as `__key__`."
    )

    @model_validator(mode="after")
    def _columns_do_not_clash(self) -> WebDatasetFormat:
        columns = [*(self.columns or ()), *([self.key] if self.key else ())]
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands twice in `columns` and `key`")
        return self

    @property
    def has_times(self) -> bool:
        return self.timestamp is not None

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        with decoding("tar"):
            columns = self.columns
            piece: list[Sample] = []
            size = 0
            for sample in _samples(path):
                columns = columns or self._columns_of(*sample)
                piece.append(sample)
                size += sum(map(len, sample[1].values()))
                if size >= PIECE_BYTES:
                    yield self._piece(piece, columns)
                    piece, size = [], 0
            if piece:
                yield self._piece(piece, columns or [])

    def _columns_of(self, name: str, parts: dict[str, bytes]) -> list[str]:
        columns = [extension for extension in parts if extension not in (self.label, self.timestamp)]
        if not columns:
            raise CorruptDataError(
                f"sample {name!r} has no payload beside label and timestamp; it has {listed([*parts])}"
            )
        return columns

    def _piece(self, samples: list[Sample], columns: list[str]) -> FileSamples:
        self._check(samples, columns)
        arrays = [pa.array([parts[column] for _, parts in samples], pa.binary()) for column in columns]
        if self.key is not None:
            arrays.append(pa.array([name for name, _ in samples], pa.string()))
        batch = pa.record_batch(arrays, names=[*columns, *([self.key] if self.key else ())])
        labels = times = None
        if self.label is not None:
            labels = normal_labels(_as_array([_value(self.label, *sample) for sample in samples], "label"), self.label)
        if self.timestamp is not None:
            values = [_seconds(_value(self.timestamp, *sample), sample[0]) for sample in samples]
            times = unix_seconds(_as_array(values, "timestamp"), self.timestamp)
        return FileSamples(batch, labels, times)

    def _check(self, samples: list[Sample], columns: list[str]) -> None:
        known = {*columns, self.label, self.timestamp}
        for name, parts in samples:
            missing = next((column for column in columns if column not in parts), None)
            if missing is not None:
                raise CorruptDataError(f"sample {name!r} has no member {missing!r}; it has {listed([*parts])}")
            unknown = next((part for part in parts if part not in known), None)
            if self.columns is None and unknown is not None:
                raise CorruptDataError(
                    f"sample {name!r} has a member {unknown!r}, which the first sample has not; say which to keep: "
                    f"columns: [{listed(columns)}]"
                )


def _samples(path: Path) -> Iterator[Sample]:
    """Name and members by extension of each sample."""
    current: str | None = None
    parts: dict[str, bytes] = {}
    size = 0
    for member, data in members(path, MAX_SAMPLE_BYTES):
        folder, _, base = member.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not dot or not stem or "__" in (member[:2], base[:2]):
            continue  # WebDataset leaves these out too: no extension, hidden files, and notes about the archive
        name = f"{folder}/{stem}" if folder else stem
        if name != current:
            if parts and current is not None:
                yield current, parts
            current, parts, size = name, {}, 0
        extension = extension.lower()
        if extension in parts:
            raise CorruptDataError(f"sample {name!r} has two members {extension!r}")
        parts[extension] = data
        size += len(data)
        if size > MAX_SAMPLE_BYTES:
            raise CorruptDataError(
                f"sample {name!r} has more than {MAX_SAMPLE_BYTES} bytes, the most a sample may have"
            )
    if parts and current is not None:
        yield current, parts


def _value(reference: str, name: str, parts: dict[str, bytes]) -> Any:
    """A label or time; None where the sample has none.

    Raises:
        CorruptDataError: it cannot be read.
    """
    field = _JSON_FIELD.fullmatch(reference)
    if field is None:
        text = parts.get(reference, b"").strip()
        try:
            return int(text) if text else None
        except ValueError:
            shown = text[:20].decode("utf-8", "replace")
            raise CorruptDataError(
                f"member {reference!r} of sample {name!r} is {shown!r}; expected a whole number"
            ) from None
    if field[1] not in parts:
        return None
    try:
        value = json.loads(parts[field[1]])
    except ValueError as error:
        raise CorruptDataError(f"member {field[1]!r} of sample {name!r} is no JSON: {error}") from None
    for key in field[2].split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _seconds(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise CorruptDataError(f"time {value!r} of sample {name!r} is neither Unix seconds nor ISO 8601") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() // 1)


def _as_array(values: list[Any], role: str) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise CorruptDataError(f"a {role} is no number: {error}") from error

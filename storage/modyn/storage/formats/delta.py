"""Delta Lake tables, by the optional library deltalake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr, field_validator

from modyn.core.errors import InvalidInputError, UnavailableError
from modyn.core.plugins.formats import FORMATS, FileSamples
from modyn.storage.formats.columnar import ColumnarFormat, decoding

MAX_PIECE_ROWS = 1 << 16


@FORMATS.register("delta")
class DeltaFormat(ColumnarFormat):
    """A Delta Lake table, one sample a row; ``path`` is the table's folder. Needs ``pip install 'modyn[delta]'``.

    The samples are the rows of the table's current version, partition columns included. Its data files are followed as
    files are: those that a new version adds hold new samples, those that it removes no longer hold any.
    """

    default_pattern: ClassVar[str] = "**/*.parquet"

    _fragments: dict[str, Any] = PrivateAttr(default_factory=dict)
    """The data files of the version last looked at, by absolute path, as PyArrow dataset fragments."""
    _schema: pa.Schema | None = PrivateAttr(default=None)

    @field_validator("path")
    @classmethod
    def _path_is_local(cls, path: str) -> str:
        if "://" in path:
            raise ValueError("a Delta table has to lie in a local folder; mount or copy it there")
        return path

    def list_files(self, folder: Path) -> list[Path]:
        self._open(folder)
        return [Path(path) for path in self._fragments]

    def read(self, path: Path, expected: pa.Schema | None) -> Iterator[FileSamples]:
        key = str(path.absolute())
        if key not in self._fragments:
            self._open(Path(self.path))
        fragment, schema = self._fragments.get(key), self._schema
        if fragment is None or schema is None:
            raise FileNotFoundError(key)  # the table's newest version no longer has it
        roles = self.column_roles(schema.names)
        with decoding("Parquet"):
            batches = fragment.to_batches(
                schema=schema, columns=roles.all, batch_size=MAX_PIECE_ROWS, use_threads=False
            )
            for batch in batches:
                yield self.samples(batch, roles)

    def _open(self, folder: Path) -> None:
        try:
            from deltalake import DeltaTable
            from deltalake.exceptions import DeltaError, TableNotFoundError
        except ImportError as error:
            raise InvalidInputError(
                f"format 'delta' needs the library deltalake ({error}); install it where storage runs: "
                "pip install 'modyn[delta]'"
            ) from error
        try:
            dataset = DeltaTable(str(folder)).to_pyarrow_dataset()
        except TableNotFoundError as error:
            raise InvalidInputError(f"data.source.path {folder} is no Delta table: {error}") from error
        except (DeltaError, OSError) as error:
            raise UnavailableError(f"Delta table {folder} cannot be read: {error}") from error
        fragments = {str((folder / fragment.path).absolute()): fragment for fragment in dataset.get_fragments()}
        self._schema, self._fragments = dataset.schema, fragments

"""File formats of data sources: one module, one plug-in."""

from __future__ import annotations

from modyn.storage.formats import arrow_ipc, binary, csv, parquet, single_files

__all__ = ["arrow_ipc", "binary", "csv", "parquet", "single_files"]

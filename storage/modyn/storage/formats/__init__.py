"""File formats of data sources: one module, one plug-in."""

from __future__ import annotations

from modyn.storage.formats import (
    arrow_ipc,
    binary,
    class_folders,
    csv,
    delta,
    json_lines,
    numpy,
    parquet,
    single_files,
    webdataset,
)

__all__ = [
    "arrow_ipc",
    "binary",
    "class_folders",
    "csv",
    "delta",
    "json_lines",
    "numpy",
    "parquet",
    "single_files",
    "webdataset",
]

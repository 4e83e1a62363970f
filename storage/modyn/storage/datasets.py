"""All datasets of a state directory: registration and look-up by name."""

from __future__ import annotations

import difflib
import os
import threading
import uuid
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modyn.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.storage.catalog import DatasetRow, StorageCatalog
from modyn.storage.dataset import Dataset
from modyn.storage.segments import SegmentCache
from modyn.storage.source import Source

MAX_NAME_CHARS = 200

PACE_KEYS = ("poll_seconds", "settle_seconds")
"""Keys of a source that do not say what its samples are; they may differ between registrations."""


class Datasets:
    """Registered datasets with their sources.

    Args:
        folder: the state's datasets folder; each dataset has a folder of its own in it.
    """

    def __init__(self, folder: Path, catalog: StorageCatalog) -> None:
        self._folder = folder
        self._catalog = catalog
        self._cache = SegmentCache()
        self._lock = threading.Lock()
        self._datasets: dict[str, Dataset] = {}
        self._sources: dict[str, Source] = {}
        for row in catalog.all_datasets():
            self._add(row)

    def all(self) -> list[Dataset]:
        """By name."""
        with self._lock:
            return [self._datasets[name] for name in sorted(self._datasets)]

    def get(self, name: str) -> Dataset:
        """
        Raises:
            NotFoundError: there is none; the message names the nearest.
        """
        with self._lock:
            dataset = self._datasets.get(name)
            names = sorted(self._datasets)
        if dataset is None:
            close = difflib.get_close_matches(name, names, n=3)
            known = f"the nearest are {', '.join(map(repr, close))}" if close else f"there are {len(names)} others"
            raise NotFoundError(
                f"no dataset is named {name!r}; {known}. Register it by a `source` in the pipeline or with "
                "`modyn-client datasets register`; `modyn-client datasets list` shows all"
            )
        return dataset

    def source(self, name: str) -> Source | None:
        """The source of a dataset, None if it has none.

        Raises:
            NotFoundError: there is no such dataset.
        """
        return None if self.get(name).source is None else self._sources[name]

    def register(self, name: str, source: dict[str, Any] | None) -> Dataset:
        """A new dataset, or the existing one of this name.

        Args:
            source: the ``data.source`` section; None for a dataset that only receives ``Append``, or for whatever
                source an existing one has.

        Raises:
            InvalidInputError: the name or the source is wrong; the message names the key.
            AlreadyExistsError: the name is taken by a dataset with another source.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise InvalidInputError(f"dataset name {name!r}: expected 1 to {MAX_NAME_CHARS} printable characters")
        checked = None if source is None else checked_source(source)
        with self._lock:
            dataset = self._datasets.get(name)
            if dataset is None:
                row = self._catalog.add_dataset(name, uuid.uuid4().hex, checked)
                return self._add(row)
            if checked is None or checked == dataset.source:
                return dataset
            if _identity(checked) != _identity(dataset.source):
                raise AlreadyExistsError(
                    f"dataset {name!r} already exists with data.source {_shown(dataset.source)}; it cannot get "
                    f"{_shown(checked)}. Choose another data.dataset_id"
                )
            dataset.set_source(checked)
            return dataset

    def close(self) -> None:
        """Ends watchers and watch streams."""
        for dataset in self.all():
            dataset.close()
        for source in self._sources.values():
            source.close()
        self._cache.clear()

    def _add(self, row: DatasetRow) -> Dataset:
        dataset = Dataset(row, self._folder / row.folder, self._catalog, self._cache)
        self._datasets[row.name] = dataset
        self._sources[row.name] = Source(dataset, self._catalog)
        return dataset


def checked_source(tree: dict[str, Any]) -> dict[str, Any]:
    """A ``data.source`` section with all defaults and an absolute path to an existing folder.

    Raises:
        InvalidInputError: a key or value is wrong, or the folder does not exist.
    """
    try:
        source: SourceFormat = FORMATS.parse(tree)
    except ValidationError as error:
        problems = "; ".join(
            f"data.source{''.join(f'.{part}' for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise InvalidInputError(problems) from error
    path = Path(os.path.abspath(source.path))  # without `..`, so that equal folders have equal paths
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InvalidInputError(f"data.source.path {str(path)!r} {what}; expected the folder with the dataset's files")
    return FORMATS.dump(source.model_copy(update={"path": str(path)}))


def _identity(source: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if source is None else {key: value for key, value in source.items() if key not in PACE_KEYS}


def _shown(source: dict[str, Any] | None) -> str:
    """What differs from the defaults, so that the message stays short."""
    if source is None:
        return "none (it only receives Append)"
    fields = FORMATS.get(source["format"]).model_fields if source["format"] in FORMATS.names() else {}
    said = {
        key: value
        for key, value in source.items()
        if key not in fields or fields[key].is_required() or value != fields[key].get_default(call_default_factory=True)
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in said.items()) + "}"

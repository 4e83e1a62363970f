"""All datasets of a state directory: registration and look-up by name."""

from __future__ import annotations

import difflib
import os
import re
import threading
import uuid
from pathlib import Path
from typing import Any

from modyn.core.config.problems import parse_plugin
from modyn.core.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from modyn.core.locations import local_path
from modyn.core.plugins.formats import FORMATS, SourceFormat
from modyn.proto.storage_pb2 import Role
from modyn.storage.catalog import DatasetRow, StorageCatalog
from modyn.storage.compaction import Compactor, Maintenance
from modyn.storage.dataset import Dataset
from modyn.storage.filesystems import remote_folder
from modyn.storage.leases import Leases
from modyn.storage.segments import SegmentCache
from modyn.storage.source import Source
from modyn.storage.writing import Writer

MAX_NAME_CHARS = 200

_FOLDER = re.compile("[0-9a-f]{32}")
"""Names of the folders of datasets."""

PACE_KEYS = ("poll_seconds", "settle_seconds", "cache_bytes")
"""Keys of a source that do not say what its samples are; they may differ between registrations."""


class Datasets:
    """Registered datasets with their writers and sources.

    Args:
        folder: the state's datasets folder; each dataset has a folder of its own in it.
        read_only: another process writes; its changes are followed.
    """

    def __init__(self, folder: Path, catalog: StorageCatalog, *, read_only: bool = False) -> None:
        self._folder = folder
        self._catalog = catalog
        self._cache = SegmentCache()
        self._lock = threading.RLock()
        self._datasets: dict[str, Dataset] = {}
        self._writers: dict[str, Writer] = {}
        self._sources: dict[str, Source] = {}
        self.leases = Leases(catalog, read_only=read_only)
        self._maintenance = Maintenance()
        for row in catalog.all_datasets():
            self._add(row)

    @property
    def read_only(self) -> bool:
        return self.leases.read_only

    def all(self) -> list[Dataset]:
        """By name."""
        with self._lock:
            self._look_for_new()
            return [self._datasets[name] for name in sorted(self._datasets)]

    def writer(self, name: str) -> Writer:
        """What changes a dataset.

        Raises:
            NotFoundError: there is no such dataset.
        """
        return self._writers[self.get(name).name]

    def compactor(self, name: str) -> Compactor:
        """What compacts a dataset.

        Raises:
            NotFoundError: there is no such dataset.
        """
        return self._maintenance.compactor(self.writer(name))

    def get(self, name: str) -> Dataset:
        """
        Raises:
            NotFoundError: there is none; the message names the nearest.
        """
        with self._lock:
            if name not in self._datasets:
                self._look_for_new()
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

    def register(self, name: str, source: dict[str, Any] | None, role: int = Role.ROLE_UNSPECIFIED) -> Dataset:
        """A new dataset, or the existing one of this name.

        Args:
            source: the ``data.source`` section; None for a dataset that only receives ``Append``, or for whatever
                source an existing one has.
            role: what samples may be used for that nothing gives another role.

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
                if self.read_only:
                    raise ConflictError(
                        f"this storage service only serves reads (--replica), so dataset {name!r} cannot be "
                        "registered; register it with the service that writes"
                    )
                row = self._catalog.add_dataset(name, uuid.uuid4().hex, checked, role or Role.ANY)
                return self._add(row)
            if role not in (Role.ROLE_UNSPECIFIED, dataset.role):
                raise AlreadyExistsError(
                    f"dataset {name!r} already exists with role {_role_name(dataset.role)}; it cannot get "
                    f"{_role_name(role)}. Choose another name"
                )
            if checked is None or checked == dataset.source:
                return dataset
            if _identity(checked) != _identity(dataset.source):
                raise AlreadyExistsError(
                    f"dataset {name!r} already exists with data.source {_shown(dataset.source)}; it cannot get "
                    f"{_shown(checked)}. Choose another data.dataset_id"
                )
            dataset.set_source(checked)
            return dataset

    def check_catalog(self) -> None:
        """
        Raises:
            ConflictError: there are datasets here that the catalog does not know, so another one is this folder's.
        """
        there = [path.name for path in self._folder.iterdir() if _FOLDER.fullmatch(path.name)]
        known = {row.folder for row in self._catalog.all_datasets()}  # read last: a row comes before its folder
        if unknown := sorted(set(there) - known):
            raise ConflictError(
                f"{self._folder} has {len(unknown)} datasets that the catalog does not know, such as {unknown[0]}: the "
                "state directory belongs to another catalog, and so do its models. Name that one with --catalog; or "
                "delete these folders, if nobody needs the datasets any more"
            )

    def close(self) -> None:
        """Ends watchers and watch streams."""
        for dataset in self._datasets.values():
            dataset.close()
        for source in self._sources.values():
            source.close()
        self._maintenance.close()
        self.leases.close()
        self._cache.clear()

    def _add(self, row: DatasetRow) -> Dataset:
        dataset = Dataset(
            row,
            self._folder / row.folder,
            self._catalog,
            self._cache,
            follows=lambda: not self.leases.holds(row.id),
            read_only=self.read_only,
        )
        writer = Writer(dataset, self._catalog, self.leases)
        self._datasets[row.name] = dataset
        self._writers[row.name] = writer
        self._sources[row.name] = Source(writer, self._catalog)
        if not self.read_only:
            self._maintenance.look_after(writer)
        return dataset

    def _look_for_new(self) -> None:
        """Datasets that another process has registered."""
        for row in self._catalog.all_datasets():
            if row.name not in self._datasets:
                self._add(row)


def checked_source(tree: dict[str, Any]) -> dict[str, Any]:
    """A ``data.source`` section with all defaults, and an absolute path to an existing folder or a URI that is reached.

    Raises:
        InvalidInputError: a key or value is wrong, or the folder or bucket does not exist or must not be read.
        UnavailableError: the service of a URI cannot be reached.
    """
    source: SourceFormat = parse_plugin(FORMATS, tree, "data.source")
    location = local_path(source.path)
    if location is None:
        if type(source).list_files is not SourceFormat.list_files:
            raise InvalidInputError(
                f"data.source.path {source.path}: format {source.plugin_name!r} needs a local folder"
            )
        folder = remote_folder(source)
        folder.check()
        return FORMATS.dump(source.model_copy(update={"path": folder.uri}))
    if source.options:
        raise InvalidInputError("data.source.options: a local folder has none; they are for a URI such as s3://bucket")
    path = Path(os.path.abspath(location))  # without `..`, so that equal folders have equal paths
    if not location or not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InvalidInputError(f"data.source.path {str(path)!r} {what}; expected the folder with the dataset's files")
    return FORMATS.dump(source.model_copy(update={"path": str(path)}))


def _identity(source: dict[str, Any] | None) -> dict[str, Any] | None:
    if source is None:
        return None
    if source["format"] in FORMATS.names():  # a key that is newer than the registration has its default
        source = FORMATS.dump(FORMATS.parse(source))
    return {key: value for key, value in source.items() if key not in PACE_KEYS}


def _role_name(role: int) -> str:
    return Role.Name(Role.ValueType(role)).lower()


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

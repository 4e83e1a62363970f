"""One file per sample, in a folder named after its class."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, field_validator

from modyn.core.errors import CorruptDataError
from modyn.core.plugins.formats import FORMATS
from modyn.storage.formats.columnar import listed
from modyn.storage.formats.single_files import WholeFiles

MAX_LABEL = 2**63 - 1


@FORMATS.register("class_folders")
class ClassFolders(WholeFiles):
    """One file per sample in a folder per class, ``path/<class>/…/file``: its bytes are the ``payload`` column.

    The label is the place of the class in ``classes``, from 0. Without ``classes`` the folders are named by the label
    itself, a whole number. (Numbering folders in the order of their names would give other labels to old samples once a
    class is added.)
    """

    default_pattern: ClassVar[str] = "*/**/*"

    classes: list[str] | None = Field(
        None, min_length=1, description="Names of the class folders in the order of the labels, from 0."
    )
    file_extension: str | None = Field(
        None, min_length=1, description="Extension of sample files, such as `.png`; all files by default."
    )

    @field_validator("classes")
    @classmethod
    def _classes_differ(cls, classes: list[str] | None) -> list[str] | None:
        for name in classes or ():
            if (classes or []).count(name) > 1:
                raise ValueError(f"class {name!r} stands twice")
            if not name or "/" in name:
                raise ValueError(f"class {name!r} is no name of a folder")
        return classes

    @property
    def file_pattern(self) -> str:
        return self.pattern or (
            f"*/**/*.{self.file_extension.lstrip('.')}" if self.file_extension else self.default_pattern
        )

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.classes or ())}

    def label(self, path: Path) -> pa.Array:
        try:
            folders = path.relative_to(self.path).parts[:-1]
        except ValueError:
            raise CorruptDataError(f"does not lie below {self.path}, so its class is unknown") from None
        if not folders:
            raise CorruptDataError(f"lies in no class folder; expected {self.path}/<class>/{path.name}")
        return pa.array([self._label_of(folders[0])], pa.int64())

    def _label_of(self, name: str) -> int:
        if self.classes is not None:
            if name not in self._labels:
                raise CorruptDataError(f"class folder {name!r} is not among `classes`: {listed(self.classes)}")
            return self._labels[name]
        if not (name.isascii() and name.isdigit() and int(name) <= MAX_LABEL):
            raise CorruptDataError(
                f"class folder {name!r} is no whole number; name all classes in the order of their labels: "
                f"classes: [{self._suggested()}]"
            )
        return int(name)

    def _suggested(self) -> str:
        """The folders there are, as one would write them down."""
        names = sorted(entry.name for entry in Path(self.path).iterdir() if entry.is_dir())
        return listed([name for name in names if not name.startswith((".", "_"))])

"""User code for tests."""

from __future__ import annotations

import textwrap
from pathlib import Path


class CodeRoot:
    """A pipeline's own folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def write(self, name: str, source: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))

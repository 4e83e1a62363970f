"""What a page consists of. Texts are plain: the template escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        title: more, such as the whole of a digest, where a pointer rests on it.
        badge: how it stands out: ``good``, ``plain`` or ``bad``; empty: not at all.
    """

    text: str
    title: str = ""
    badge: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row names it.

    Attributes:
        caption: what the table shows.
        header: a name per column.
        rows: as long as the header each.
        texts: positions of columns that hold words rather than numbers, beside the first.
        note: what was left out and where it is.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture drawn for a wide and for a narrow page.

    Attributes:
        key: its id on the page.
        caption: what it shows.
        wide, narrow: SVG elements.
        note: what was left out.
    """

    kind: ClassVar[str] = "picture"
    key: str
    caption: str
    wide: str
    narrow: str
    note: str = ""


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Attributes:
        text: what it says.
        tone: ``plain``, ``lead`` (the most important one), ``muted`` or ``bad``.
    """

    kind: ClassVar[str] = "words"
    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"
    entries: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Numbers that stand out: name, number, and what is to be said of it in small letters."""

    kind: ClassVar[str] = "facts"
    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Source:
    """A text whose line breaks matter."""

    kind: ClassVar[str] = "source"
    text: str
    label: str


@dataclass(frozen=True)
class Heading:
    """The head of a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on request, without a script.

    Attributes:
        summary: what is behind it.
        blocks: what is shown.
        prints: whether it is open on paper.
    """

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: Sequence[Block]
    prints: bool = False


Block: TypeAlias = Table | Picture | Words | Bullets | Facts | Source | Heading | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page with an entry in its table of contents.

    Attributes:
        key: its id, ``[a-z-]+``.
        title: of the section.
        blocks: in order; a section without any is left out.
    """

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """A document.

    Attributes:
        title: of the window and the first heading.
        status: of the run, with its :attr:`Cell.badge`; None: there is none.
        subtitle: one line under the title.
        sections: in order.
        footer: who made it.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str
    status: Cell | None = None

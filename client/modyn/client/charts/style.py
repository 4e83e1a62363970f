"""What all pictures share: sizes, colours that themes can exchange, line styles, texts of users."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]

Where: TypeAlias = tuple[str, str, str]
"""Handler, dataset and metric."""


Dashes: TypeAlias = str | tuple[int, tuple[float, ...]]
"""A line style as matplotlib takes it: its name, or an offset and lengths of strokes and gaps."""


@dataclass(frozen=True)
class Size:
    """A page that a picture is drawn for. One unit is a CSS pixel, so that letters keep their size.

    Attributes:
        name: of the CSS class.
        width: in units.
        font: size of letters, in units.
    """

    name: str
    width: float
    font: float

    @property
    def is_narrow(self) -> bool:
        return self is NARROW


WIDE: Final = Size("wide", 900, 13.5)
NARROW: Final = Size("narrow", 350, 12)
"""A phone of 390 pixels less its margins."""

INK: Final = "#1b1f24"
MUTED: Final = "#57606a"
FAINT: Final = "#b6bec8"
GRID: Final = "#dde1e6"
PAPER: Final = "#fefefe"

BLUE: Final = "#0072b2"
VERMILLION: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#cc79a7"
ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"

THEME: Final[Mapping[str, str]] = {
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    ORANGE: "orange",
    SKY: "sky",
}
"""Colours by the CSS variable that stands for them in a page. The hues are those of Okabe and Ito, Color Universal
Design (2008), which the colour-blind can tell apart."""

SERIES: Final[Sequence[tuple[str, Dashes, str]]] = (
    (BLUE, "-", "o"),
    (VERMILLION, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, (0, (5, 1, 1, 1, 1, 1)), "v"),
    (SKY, (0, (1, 1)), "P"),
)
"""Colour, line style and marker of the first, second … series: any of the three tells them apart."""

HEATMAP: Final = "cividis"
"""For all kinds of colour vision, and monotonous in lightness (Nuñez et al. 2018)."""

LARGEST: Final = 1e100
"""Larger numbers are drawn here: axes need room above the largest one."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def printable(text: str) -> str:
    """Without what no document can hold (control characters, halves of characters) and without what turns the direction
    of the text around it.

    >>> printable("a" + chr(27) + "[1m b")
    'a�[1m b'
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def short(text: str, limit: int) -> str:
    """One line of at most ``limit`` characters.

    >>> short("a  very long name", 8)
    'a very …'
    """
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def letter(index: int) -> str:
    """What a run is called in pictures and tables of a comparison.

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'A2')
    """
    turn = index // 26
    return chr(ord("A") + index % 26) + (str(turn + 1) if turn else "")


def finite(values: Sequence[float | None]) -> Float64Array:
    """Numbers that can be drawn, float64 [n]: NaN for none and for infinite ones.

    >>> finite([0.5, None, float("inf")])
    array([0.5, nan, nan])
    """
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return np.clip(numbers, -LARGEST, LARGEST)


def new_figure(size: Size, height: float) -> Figure:
    """An empty picture.

    Args:
        size: how wide.
        height: in units.
    """
    # Without pyplot: it keeps figures in a global list and picks a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size.width / 72, height / 72), dpi=72, layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(w_pad=3 / 72, h_pad=3 / 72)  # type: ignore[union-attr, call-arg]
    return figure


def dress(axes: Axes, size: Size, *, x: str = "", y: str = "", grid: str | None = "y") -> None:
    """Labels, colours and letters that all axes have.

    Args:
        axes: to be changed.
        size: of the picture.
        x, y: what the axes show.
        grid: direction of the lines behind the curves; None: no lines.
    """
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=size.font - 0.5, colors=MUTED, labelcolor=INK, length=3)
    for offset in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        offset.set(fontsize=size.font - 0.5, color=INK)
    axes.set_xlabel(x, fontsize=size.font, color=INK, parse_math=False)
    axes.set_ylabel(y, fontsize=size.font, color=INK, parse_math=False)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def add_legend(figure: Figure, axes: Axes, size: Size, *, columns: int | None = None, last_first: bool = False) -> None:
    """Above the axes, where it covers no curve.

    Args:
        figure: of the axes.
        axes: with labelled curves.
        size: of the picture.
        columns: of the legend; None: as fit.
        last_first: what was drawn last, above the others, is named first.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    if last_first:
        handles, labels = handles[::-1], labels[::-1]
    columns = columns or (1 if size.is_narrow and max(map(len, labels)) > 18 else 2 if size.is_narrow else 3)
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=size.font, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def say(axes: Axes, size: Size, text: str) -> None:
    """Words in place of what cannot be drawn."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=size.font)
    axes.set_axis_off()

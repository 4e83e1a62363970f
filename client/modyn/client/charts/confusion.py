"""Labels against predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.heatmap import averaged
from modyn.client.charts.style import INK, WIDE, Size, dress, new_figure, say
from modyn.core.report import ConfusionPart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = ("#f4f7fa", "#7fb2d9", "#083b66")
"""Of a cell that holds no, half and all samples of its label."""

NUMBERS_UP_TO = {"wide": 14, "narrow": 6}
"""Classes whose cells have room for a number."""

MOST_CELLS = 300
"""A side; matrices of more classes are averaged down to it."""


def confusion_figure(part: ConfusionPart, *, size: Size = WIDE) -> Figure:
    """Rows are labels, columns predictions; the darker, the larger the share of the samples of that label.

    Args:
        part: counts of labels and predictions.
        size: of the picture.
    """
    from matplotlib.colors import LinearSegmentedColormap

    classes = len(part.classes)
    figure = new_figure(size, min(size.width * 0.85, 190 + 45.0 * classes, 520))
    axes = figure.add_subplot()
    if not classes:
        say(axes, size, "no samples")
        return figure
    counts = np.array(part.counts, np.float64).reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = LinearSegmentedColormap.from_list("shares", SHADES)
    axes.imshow(
        averaged(shares, MOST_CELLS, MOST_CELLS), cmap=shades, vmin=0, vmax=1, interpolation="none",
        extent=(-0.5, classes - 0.5, classes - 0.5, -0.5),
    )  # fmt: skip
    if classes <= NUMBERS_UP_TO[size.name]:
        for row, column in np.ndindex(classes, classes):
            text = f"{int(counts[row, column]):,}" + ("" if size.is_narrow else f"\n{shares[row, column]:.1%}")
            axes.text(
                column, row, text, ha="center", va="center", fontsize=size.font - (0 if classes <= 6 else 1),
                color=ink_on(shades(shares[row, column])[:3]),
            )  # fmt: skip
    dress(axes, size, x="predicted class", y="label", grid=None)
    places = np.unique(np.linspace(0, classes - 1, min(classes, 12 if classes <= 12 else 6)).round().astype(np.int64))
    names = [str(part.classes[place]) for place in places]
    axes.set_xticks(places.tolist(), names)
    axes.set_yticks(places.tolist(), names)
    axes.spines[:].set_color(INK)
    return figure


def ink_on(paper: Sequence[float]) -> str:
    """The one of white and near-black that stands out more.

    Args:
        paper: red, green and blue, each 0 to 1.
    """
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in paper]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # as WCAG 2 defines it
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.0545 else "#101214"

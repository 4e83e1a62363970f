"""Scores by distance from the training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modyn.client.charts.style import BLUE, WIDE, Size, dress, finite, new_figure, say, short
from modyn.core.report import OffsetPart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def offsets_figure(parts: Sequence[OffsetPart], *, size: Size = WIDE) -> Figure:
    """Mean score of models at each distance from their training data, with its interval.

    Args:
        parts: of one handler, dataset and metric, in the order of the distances.
        size: of the picture.
    """
    figure = new_figure(size, 240 if size.is_narrow else 280)
    axes = figure.add_subplot()
    means = finite([part.mean for part in parts])
    if np.isnan(means).all():
        say(axes, size, "no model was scored")
        return figure
    places = np.arange(len(parts))
    low = np.fmin(finite([p.interval.low if p.interval else None for p in parts]), means)
    high = np.fmax(finite([p.interval.high if p.interval else None for p in parts]), means)
    axes.errorbar(
        places, means, yerr=np.nan_to_num(np.stack([means - low, high - means])), color=BLUE, marker="o", markersize=6,
        linewidth=1.4, capsize=4,
    )  # fmt: skip
    room = max(4, int(size.width / max(len(parts), 1) / size.font * 1.4))
    axes.set_xticks(places.tolist(), [short(part.offset, room) for part in parts])
    axes.margins(x=0.08)
    dress(axes, size, x="distance from the training data", y=short(parts[0].metric, 40))
    return figure

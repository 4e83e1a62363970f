"""Pictures for pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modyn.client.charts.style import NARROW, WIDE, Size, short
from modyn.client.charts.svg import inline_svg
from modyn.client.html.blocks import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(
    key: str, caption: str, draw: Callable[[Size], Figure], *, description: str = "", note: str = ""
) -> Picture:
    """A picture in both sizes.

    Args:
        key: unique on the page, ``[a-z0-9-]+``.
        caption: what it shows; also its title for those who do not see it.
        draw: makes it.
        description: what can be seen, for those who do not see it; empty: the caption says it all.
        note: what was left out.
    """
    wide, narrow = (
        inline_svg(
            draw(size),
            key=f"{key}-{size.name}",
            title=short(caption, 200),
            description=short(description or caption, 1_000),
        )
        for size in (WIDE, NARROW)
    )
    return Picture(key, caption, wide, narrow, note)

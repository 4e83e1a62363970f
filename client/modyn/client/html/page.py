"""Pages as HTML: one file without scripts, fonts or anything else from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from modyn.client.charts.style import printable
from modyn.client.html.blocks import Page

TEMPLATE = "page.html.j2"


def render(page: Page) -> str:
    """The document as text; encode it as UTF-8."""
    shown = [section for section in page.sections if section.blocks]
    return _environment().get_template(TEMPLATE).render(page=page, sections=shown).lstrip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("modyn.client.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticks"] = _ticks
    return environment


def _ticks(text: str) -> Markup:
    """Text in which commands stand in backticks, as in Markdown."""
    return Markup(re.sub("`([^`<>]+)`", r"<code>\1</code>", str(escape(printable(text)))))  # noqa: S704 - escaped


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value  # markup is ours

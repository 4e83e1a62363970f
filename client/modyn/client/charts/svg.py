"""Pictures as SVG elements of an HTML page: letters stay letters, colours are those of the page's theme."""

from __future__ import annotations

import io
import re
import threading
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from modyn.client.charts.style import THEME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SETTINGS = threading.Lock()
"""matplotlib reads how it writes SVG from settings of the process."""

_NAMES = re.compile(r"\{[^}]*\}")
_COLOUR = re.compile("|".join(map(re.escape, THEME)), re.IGNORECASE)
_REFERENCE = re.compile(r"#([\w.-]+)")
_FAMILY = re.compile(r"\s*font-family:[^;]*;?|'DejaVu Sans'[^;]*", re.IGNORECASE)


def inline_svg(figure: Figure, *, key: str, title: str, description: str) -> str:
    """A picture as an ``<svg>`` element; the same picture gives the same bytes.

    Args:
        figure: drawn for a :class:`Size`; its texts hold only characters that a document can hold.
        key: unique on the page, ``[a-z0-9-]+``; its ids begin with it.
        title, description: for those who do not see it.
    """
    root = ElementTree.fromstring(_svg(figure, key))  # noqa: S314 - matplotlib has just written it
    for element in root.iter():
        element.tag = _NAMES.sub("", str(element.tag))
        for name in [name for name in element.attrib if name.startswith("{")]:
            element.set(_NAMES.sub("", name), element.attrib.pop(name))
    _remove(root, {"metadata", "style"})
    _rename_ids(root, key)
    for element in root.iter():
        for name in ("style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _COLOUR.sub(_themed, element.attrib[name]))
        if element.tag == "text":
            element.set("style", _FAMILY.sub("", element.get("style", "")).strip())
    box = root.attrib["viewBox"]
    root.attrib.clear()
    named = {"viewBox": box, "role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
    for name, value in named.items():
        root.set(name, value)
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        part = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        part.text = text
        root.insert(position, part)
    return ElementTree.tostring(root, encoding="unicode")


def _svg(figure: Figure, key: str) -> str:
    from matplotlib import rc_context

    data = io.StringIO()
    with _SETTINGS, warnings.catch_warnings(), rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the browser has other fonts
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(data, format="svg", dpi=144, metadata=nothing, facecolor="none")
    return data.getvalue()


def _remove(root: ElementTree.Element, tags: set[str]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _rename_ids(root: ElementTree.Element, key: str) -> None:
    """Several pictures share a page: ids that nothing refers to go, the others begin with ``key``."""
    used = {
        match
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("href", "clip-path", "style")
        for match in _REFERENCE.findall(value)
    }
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{key}-{name}")
        if element.get("href", "").startswith("#"):
            element.set("href", f"#{key}-{element.attrib['href'][1:]}")
        if element.get("clip-path", "").startswith("url(#"):
            element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{key}-"))


def _themed(match: re.Match[str]) -> str:
    return f"var(--{THEME[match[0].lower()]})"

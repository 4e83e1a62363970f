"""HTML reports in a real browser: on a desktop, on a phone, in the dark and on paper."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modyn.client.comparison import compare
from modyn.client.html import comparison_html, report_html
from tests.helpers.chromium import Browser, chromium, find_chromium
from tests.helpers.full_reports import HOSTILE, empty_report, full_report, hostile_report

pytestmark = pytest.mark.browser

YAML = f"pipeline:\n  name: weekly retraining\ntrigger: {{id: TimeTrigger, every: 7d}}\nlong: {'x' * 300}\n"


def six_runs() -> str:
    runs = [full_report(name=f"policy {i}", pipeline_id=str(i), level=0.6 + 0.02 * i, seed=i) for i in range(6)]
    return comparison_html(compare(runs), [YAML.replace("7d", f"{i + 1}d") for i in range(6)])


PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: report_html(full_report(), YAML),
    "hostile": lambda: report_html(hostile_report(), HOSTILE),
    "empty": lambda: report_html(empty_report(), YAML),
    "comparison": six_runs,
    "hostile comparison": lambda: comparison_html(compare([hostile_report()] * 2), [YAML, None]),
}

WINDOWS = [(1280, 900, False), (860, 900, True), (390, 844, False), (390, 844, True)]
"""Width, height and whether it is dark."""

PICTURES = """
[...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
  const letters = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim())
    .map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
  return {figure: svg.closest('figure').id, x: box.x + scrollX, y: box.y + scrollY, width: box.width,
          height: box.height, letters: Math.min(...letters)};
})
"""

CONTRASTS = """
(() => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => color.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('[id^=confusion]')) continue;
    const style = getComputedStyle(e);
    const ink = light(parse(e.closest('svg') ? style.fill : style.color)), behind = light(paper(e));
    const ratio = (Math.max(ink, behind) + 0.05) / (Math.min(ink, behind) + 0.05);
    if (ratio < 4.5) found.push([e.tagName, e.textContent.trim().slice(0, 40), ratio]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.fail("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    with chromium(path) as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_readable_on_every_screen(name: str, browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES[name](), encoding="utf-8")
    for width, height, dark in WINDOWS:
        browser.open(page, width=width, height=height, dark=dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        assert browser.evaluate(CONTRASTS) == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        check_pictures(browser, width)
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(20, 24, 29)" if dark else "rgb(254, 254, 254)"
        )
        assert browser.complaints == []


def check_pictures(browser: Browser, width: int) -> None:
    """One of both sizes of each picture is shown, legible, and not blank."""
    pictures: list[dict[str, Any]] = [found for found in browser.evaluate(PICTURES) if found["width"] > 0]
    figures = "[...document.querySelectorAll('figure')].filter(f => f.getClientRects().length).map(f => f.id)"
    assert [found["figure"] for found in pictures] == browser.evaluate(figures)
    if not pictures:
        return
    screen = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    for found in pictures:
        assert found["x"] >= 0
        assert found["x"] + found["width"] <= width
        assert found["height"] > 100
        assert found["letters"] >= 11, found
        box = (found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"])
        pixels = np.asarray(screen.crop(box), np.float64)
        marked = np.abs(pixels - pixels[0, 0]).max(axis=-1) > 40
        assert marked.mean() > 0.01, f"{found['figure']} is blank"


@pytest.mark.parametrize("name", ["report", "empty", "comparison"])
def test_pages_print_on_a4(name: str, browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES[name](), encoding="utf-8")
    browser.open(page, width=1280, height=900)
    printed = browser.pdf()
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert len(boxes) >= (1 if name == "empty" else 3)
    for width, height in boxes:
        assert float(width) == pytest.approx(595, abs=2)
        assert float(height) == pytest.approx(842, abs=2)
    browser.open(page, width=688, height=900)  # what A4 leaves between its margins
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.evaluate("document.documentElement.scrollWidth") <= 688
    assert browser.evaluate("[...document.querySelectorAll('.narrow')].every(e => !e.getClientRects().length)")
    assert browser.evaluate("document.querySelector('nav').getClientRects().length") == 0


def test_tables_scroll_with_the_keyboard_and_pages_work_without_scripts(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(six_runs(), encoding="utf-8")
    browser.open(page, width=390, height=844)
    wide = "[...document.querySelectorAll('.scroll')].find(e => e.scrollWidth > e.clientWidth + 50)"
    browser.evaluate(f"{wide}.focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    browser.evaluate("new Promise(done => setTimeout(done, 300))")
    assert browser.evaluate(f"{wide}.scrollLeft") > 0
    assert browser.evaluate("document.scripts.length") == 0

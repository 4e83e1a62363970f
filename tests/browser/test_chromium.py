"""What drives the browser notices what pages do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.chromium import chromium, find_chromium

pytestmark = pytest.mark.browser


def test_errors_and_requests_are_noticed(tmp_path: Path) -> None:
    path = find_chromium()
    assert path is not None
    page = tmp_path / "page.html"
    page.write_text("<script>console.error('no'); missing()</script><img src=http://127.0.0.1:9/x.png>")
    with chromium(path) as browser:
        browser.open(page, width=300, height=300)
        said = "\n".join(browser.complaints)
    assert "console.error" in said
    assert "Uncaught" in said
    assert "request to http://127.0.0.1:9/x.png" in said

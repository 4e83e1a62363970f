"""Example reports of the documentation and their pictures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from docs import pictures
from modyn.client.html import report_html
from tests.helpers.full_reports import full_report

pytestmark = pytest.mark.browser


def run_folder(path: Path, number: int) -> Path:
    path.mkdir()
    report = full_report(name=f"policy {number}", pipeline_id=str(number), windows=6, models=2, seed=number)
    (path / "report.json").write_text(report.model_dump_json(), encoding="utf-8")
    (path / "pipeline.yaml").write_text(f"trigger: {{id: TimeTrigger, every: {number}d}}\n", encoding="utf-8")
    return path


def test_pictures_are_taken_of_pages_that_changed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    runs = [run_folder(tmp_path / f"run-{number}", number) for number in (1, 2)]
    said: list[str] = []
    assert pictures.main(["add", "prices", *map(str, runs)], docs, said.append) == 0
    assert sorted(path.name for path in (docs / "pictures").glob("*.png")) == [
        f"prices-{page}-{screen}.png" for page in ("comparison", "report") for screen in ("dark", "desktop", "phone")
    ]
    assert pictures.main(["--check"], docs, said.append) == 0
    page = docs / "examples" / "prices" / "report.html"
    [(first, yaml), _] = pictures.runs_of(docs / "examples" / "prices")
    assert page.read_text(encoding="utf-8") == report_html(first, yaml)
    picture = docs / "pictures" / "prices-report-phone.png"
    assert Image.open(io.BytesIO(picture.read_bytes())).size == (390, 1500)
    assert picture.stat().st_size < 150_000

    picture.unlink()
    page.write_text("old", encoding="utf-8")
    assert pictures.main(["--check"], docs, said.append) == 1
    assert "docs/pictures/prices-report-phone.png was not taken of the page as it is\n" in said
    assert "docs/examples/prices/report.html is not what its runs and the code say\n" in said

"""The how-to pages about storage say what works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from modyn.core.plugins.formats import FORMATS
from tests.storage.support import StorageServer

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (HOWTO / page).read_text(), re.DOTALL)


def test_the_ingestion_job_runs(storage: StorageServer, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        for code in blocks("ingestion_jobs.md", "python"):
            exec(compile(code.replace("127.0.0.1:50051", storage.server.address), "page", "exec"), {})
    assert storage.describe("sensors").num_samples == 300
    assert capsys.readouterr().out.splitlines()[-1] == "minute-2 200 300 True"


@pytest.mark.parametrize("page", ["formats.md", "ingestion_jobs.md"])
def test_the_sources_are_valid(page: str) -> None:
    found = blocks(page, "yaml")
    assert found
    for text in found:
        tree = yaml.safe_load(text)
        FORMATS.parse(tree.get("data", tree)["source"])


def test_every_format_has_its_place() -> None:
    page = (HOWTO / "formats.md").read_text()
    for name in FORMATS.names():
        assert f"`{name}`" in page

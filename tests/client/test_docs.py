"""Generated pages say what the code says."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import typer

from modyn.client.cli import app
from modyn.client.commands.serve import NEEDS, check_peers
from modyn.client.server import LINEAGE_SERVICES, EmbeddedServer
from modyn.core.report import Report, without_volatile
from modyn.core.state import StateDirectory
from tests.client.reports import report

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = re.compile(r"(\.venv/bin/)?modyn(-client)? ")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_is_up_to_date(generate: ModuleType) -> None:
    assert list(generate.outdated()) == [], "run `make docs`"


def test_every_command_and_option_is_documented(generate: ModuleType) -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    for name, command in generate.commands():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, f"command {name} has no section"
        assert command.help, f"command {name} has no help"
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name} has no help"
            assert parameter.opts[0].startswith("-") is False or f"`{parameter.opts[0]}" in section


def documented_commands() -> list[list[str]]:
    """Every command line of a code block in the README and the written pages."""
    pages = [DOCS.parent / "README.md", DOCS / "quickstart.md", *sorted((DOCS / "howto").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line.removeprefix(".venv/bin/"), comments=True) for line in lines if SHOWN.match(line)]
    return [arguments for _, *arguments in words]


@pytest.mark.parametrize("arguments", documented_commands(), ids=" ".join)
def test_documented_commands_are_accepted(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    given = command.make_context("modyn", arguments).params
    if command.name == "serve":
        check_peers(tuple(given["services"] or NEEDS), {name: given.get(name) for name in NEEDS})


def python_blocks(page: str) -> list[str]:
    text: str = (DOCS / "howto" / page).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", ["ingestion_jobs.md", "late_labels.md", "deletion.md", "evaluation.md"])
def test_documented_programs_print_what_they_say(
    page: str, state: StateDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    """A comment behind a `print` is what it prints; values of several prints are between commas."""
    server = EmbeddedServer(state, "a test", services=LINEAGE_SERVICES, runs_jobs=False)
    with server:
        for code in python_blocks(page):
            exec(compile(code.replace("127.0.0.1:50051", server.address), page, "exec"), {})
            said = re.findall(r"print\(.*\)  # (.+)", code)
            printed = capfd.readouterr().out.splitlines()
            if len(said) == 1 and len(printed) == 1:
                assert printed == said
            elif said:
                assert [line.split()[-1] for line in printed] == said[0].split(", ")


def test_every_plugin_has_a_section_and_its_keys_a_meaning(generate: ModuleType) -> None:
    for page, (registry, _, _) in generate.PLUGIN_PAGES.items():
        text = (DOCS / "reference" / f"{page}.md").read_text()
        for name in registry.names():
            assert f"\n## {name}\n" in text
            for key, field in registry.get(name).model_fields.items():
                assert field.description, f"{name}.{key} has no description"


def test_report_schema_describes_reports_and_marks_what_is_volatile() -> None:
    schema = json.loads((DOCS / "reference" / "report.schema.json").read_text())
    jsonschema.validate(report().model_dump(mode="json"), schema)
    volatile = {
        (part, name)
        for part, body in [*schema["$defs"].items(), ("Report", schema)]
        for name, field in body["properties"].items()
        if field.get("x-volatile")
    }
    assert {("TriggerSeconds", "train"), ("PipelinePart", "id"), ("CostPart", "wall_seconds")} <= volatile
    kept = without_volatile(report())
    assert "wall_seconds" not in kept["cost"]
    assert set(kept) == set(Report.model_fields)


def test_pipeline_schema_accepts_the_examples() -> None:
    import yaml

    schema = json.loads((DOCS / "reference" / "pipeline.schema.json").read_text())
    examples = sorted((DOCS.parent / "examples").glob("*/pipeline.yaml"))
    assert examples
    for path in examples:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)

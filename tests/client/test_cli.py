"""The command line as a user meets it: a process with an exit status and text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from modyn.client.commands.run import _folder_name
from modyn.client.options import parse_time
from tests.client.processes import modyn

PIPELINE = """\
pipeline: {name: demo}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 10}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path


def test_help_is_fast_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['modyn-client', '--help']\n"
        "from modyn.client.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'grpc', 'pyarrow', 'sqlalchemy', 'pydantic') if m in sys.modules])\n"
    )
    best = 10.0
    for _ in range(3):
        start = time.monotonic()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        best = min(best, time.monotonic() - start)
    assert result.stdout.splitlines()[-1] == "[]"
    assert best < 0.5 * float(os.environ.get("MODYN_TEST_SLOWDOWN", "3"))  # shared machines


@pytest.mark.parametrize(
    "arguments",
    [
        ["lst"],
        ["run"],
        ["run", "x.yaml", "--maximum-triggers", "0"],
        ["run", "x.yaml", "--order", "random"],
        ["compare", "1"],
        ["compare", "1", "runs/nowhere"],
        ["list", "--server", "no-port"],
        ["simulate"],
        ["simulate", "x.yaml", "--live"],
        ["trigger"],
        ["triggers", "1", "--limit", "0"],
    ],
)
def test_usage_errors_exit_2(tmp_path: Path, arguments: list[str]) -> None:
    result = modyn(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--start-replay-at", "20", "--stop-replay-at", "10"], "must be later"),
        (["--live", "--stop-replay-at", "10"], "cannot go with --live"),
        (["--live", "--order", "arrival"], "cannot go with --live"),
        (["--start-key", "5", "--end-key", "5"], "must be larger"),
        (["--start-replay-at", "yesterday"], "is no time"),
    ],
)
def test_options_that_contradict_exit_2(pipeline: Path, arguments: list[str], says: str) -> None:
    for command in ("run", "simulate"):
        if command == "run" or "--live" not in arguments:
            result = modyn(command, pipeline.name, *arguments, cwd=pipeline.parent)
            assert result.returncode == 2
            assert says in " ".join(result.stderr.replace("│", " ").split())
            assert not (pipeline.parent / ".modyn").exists()


def test_missing_file_and_bad_keys_are_one_screen(pipeline: Path) -> None:
    result = modyn("run", "missing.yaml", cwd=pipeline.parent)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: missing.yaml")
    pipeline.write_text(PIPELINE.replace("num_samples", "num_sample") + "trainin: {}\n")
    result = modyn("run", "pipeline.yaml", cwd=pipeline.parent)
    assert result.returncode == 2
    assert "num_samples" in result.stderr  # the nearest known keys
    assert "training" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (pipeline.parent / ".modyn").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = modyn("run", "missing.yaml", "--debug", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" in result.stderr


def test_validate(pipeline: Path) -> None:
    result = modyn("validate", "pipeline.yaml", cwd=pipeline.parent)
    assert (result.returncode, result.stdout) == (0, "pipeline.yaml: valid\n")
    pipeline.write_text(PIPELINE.replace("MLP, config: {in_features: 2, num_classes: 2}", "FmowNet"))
    result = modyn("validate", "pipeline.yaml", cwd=pipeline.parent)
    assert result.returncode == 0
    assert "cannot run yet: " in result.stdout
    result = modyn("run", "pipeline.yaml", cwd=pipeline.parent)
    assert result.returncode == 2
    assert "cannot run yet" in result.stderr


def test_schema_prints_json(tmp_path: Path) -> None:
    for arguments, title in (([], "pipeline"), (["--report"], "Report")):
        result = modyn("schema", *arguments, cwd=tmp_path)
        assert result.returncode == 0
        assert title in json.loads(result.stdout)["title"]


def test_broken_pipe_is_silent(tmp_path: Path) -> None:
    command = f"{sys.executable} -m modyn.client.cli schema | head -n 1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout == "{\n"
    assert result.stderr == ""


def test_commands_without_a_state_directory_say_what_to_do(tmp_path: Path) -> None:
    result = modyn("list", cwd=tmp_path)
    assert result.returncode == 2
    assert "there is no such state directory" in result.stderr
    assert list(tmp_path.iterdir()) == []
    result = modyn("stop", "1", cwd=tmp_path)
    assert result.returncode == 2
    assert "no server uses the state directory" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["storag"], "is not known"),
        (["supervisor"], "--storage ADDR"),
        (["storage", "--address", "0.0.0.0:0"], "--insecure"),
    ],
)
def test_serve_refuses_what_cannot_work(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = modyn("serve", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("-5", -5), ("1970-01-02", 86_400), ("1970-01-01T01:00:00Z", 3600), ("1970-01-01T01:00:00+01:00", 0)],
)
def test_parse_time(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


def test_parse_time_rejects_words() -> None:
    with pytest.raises(typer.BadParameter, match="ISO date"):
        parse_time("tomorrow")


@pytest.mark.parametrize(
    ("name", "folder"), [("digits", "digits"), ("../a b", "_a_b"), ("..", "pipeline"), ("ü-1.2", "ü-1.2")]
)
def test_folder_name_stays_inside_runs(name: str, folder: str) -> None:
    assert _folder_name(name) == folder

"""From a notebook and from the command line: replay, evaluate later, report, compare; one server for all."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from pyarrow import parquet

from modyn.client import Client, PipelineResult, compare, replay
from modyn.client.cli import app
from modyn.client.runfolder import RunFolder
from modyn.client.server import EmbeddedServer
from modyn.core.errors import ConflictError, InvalidInputError, JobFailedError, NotFoundError
from modyn.core.state import StateDirectory
from modyn.proto.supervisor_pb2 import PipelineEvent
from tests.client.test_run import PIPELINE, table

TRIGGER = {"id": "DataAmountTrigger", "num_samples": 150}
CHANGES = {"training.epochs_per_trigger": 2}


@dataclass(frozen=True)
class Runs:
    """Two runs that differ in their seed.

    Attributes:
        client: of the server that has them.
        address: of that server.
        pipeline: the file.
        results: of the runs.
    """

    client: Client
    address: str
    pipeline: Path
    results: list[PipelineResult]

    @property
    def ids(self) -> list[str]:
        return [result.id for result in self.results]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "data").mkdir()
    for start in range(0, 450, 50):
        parquet.write_table(table(start, 50), folder / "data" / f"{start:04d}.parquet")
    with EmbeddedServer(StateDirectory(folder / "state"), "a test") as server, Client.of_server(server) as client:
        results = replay(
            folder / "pipeline.yaml", trigger=TRIGGER, changes=CHANGES, seeds=[1, 2], server=client, quiet=True
        )
        yield Runs(client, server.address, folder / "pipeline.yaml", results)


@pytest.fixture
def command(runs: Runs, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command on that server, in this process, and answers what it prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        name, *rest = arguments
        command: Any = typer.main.get_command(app)
        chosen = command.commands[name]
        chosen.invoke(chosen.make_context(name, [*rest, "--server", runs.address]))
        return capsys.readouterr().out

    return run


def test_a_replay_answers_what_its_pipeline_did(runs: Runs) -> None:
    one, other = runs.results
    assert [len(result.report.triggers) for result in runs.results] == [3, 3]
    assert one.report.cost.samples_trained == 3 * 150 * 2
    assert one.triggers["model"].to_pylist() != other.triggers["model"].to_pylist(), "another seed"
    assert runs.client.result(one.id).report == one.report
    comparison = compare(runs.results)
    (group,) = comparison.groups
    assert group.seeds == (1, 2)
    shorter = replay(runs.pipeline, trigger=TRIGGER, changes=CHANGES | {"training.seed": 1}, name="shorter",
                     maximum_triggers=2, server=runs.client, quiet=True)  # fmt: skip
    assert shorter.report.pipeline.name == "shorter"
    assert shorter.report.cost.trainings_reused == 2
    with pytest.raises(InvalidInputError, match="num_samples"):
        replay(runs.pipeline, trigger={"id": "DataAmountTrigger"}, server=runs.client, quiet=True)


def test_stored_models_are_scored_later_on_what_is_asked_for(runs: Runs, command: Callable[..., str]) -> None:
    pipeline_id = runs.ids[0]
    printed = command("evaluate", pipeline_id, "--windows", "25s", "--metrics", "Accuracy,F1Score:num_classes=2")
    assert "25s Accuracy+F1Score:num_classes=2" in printed
    assert "F1" in printed
    assert "evaluation" not in printed, "only what was asked for"
    later = runs.client.result(pipeline_id)
    assert len(later.report.triggers) == 3
    scores = later.where(handler="25s Accuracy+F1Score:num_classes=2", metric="Accuracy")
    # The windows of 50 s of the pipeline are made of two of these, all with as many samples.
    halves = {w.start: w.scores["Accuracy"] for w in later.report.windows if w.handler == scores[0]}
    compared = 0
    for window in runs.results[0].report.windows:
        whole, parts = window.scores["Accuracy"], [halves[window.start], halves[window.start + 25]]
        for name, value in whole.baselines.items():
            found = [part.baselines[name] for part in parts]
            if value is not None and None not in found and window.start > 0:  # nothing is known of the first sample
                assert sum(v for v in found if v is not None) / 2 == pytest.approx(value)
                compared += 1
    assert compared > 0
    with pytest.raises(ConflictError, match="25s"):
        command("evaluate", pipeline_id, "--windows", "30s", "--name", scores[0])
    with pytest.raises(NotFoundError, match="evaluation"):
        command("evaluate", pipeline_id, "--handler", "nope")


def test_an_evaluation_of_which_no_model_can_be_scored_fails_and_says_why_once(
    runs: Runs, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second time as well
        with pytest.raises(JobFailedError, match="no model could be scored"):
            command("evaluate", runs.ids[1], "--windows", "25s", "--metrics", "MeanSquaredError", "--name", "odd")
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed:")]
        assert len(lines) == 1
        assert "metric MSE, the models of triggers 0, 1, 2 on 'd' failed: metric MeanSquaredError" in lines[0]
    printed = command("evaluate", runs.ids[1], "--windows", "25s", "--metrics", "Accuracy")
    assert "failed:" not in printed, "that was another handler"
    assert "Nothing was scored" not in printed


def test_a_file_says_it_all_and_distances_are_shown(
    runs: Runs, command: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "later.yaml"
    path.write_text(
        "evaluation:\n  handlers:\n  - {name: ageing, strategy: {type: OffsetEvalStrategy, offsets: [0, +50s]}}\n"
    )
    printed = command("evaluate", runs.ids[0], "--config", str(path))
    assert "ageing/d" in printed
    assert "+50s" in printed
    with pytest.raises(typer.BadParameter, match="leave --windows"):
        command("evaluate", runs.ids[0], "--config", str(path), "--windows", "1d")

    def interrupted(*arguments: object, **options: object) -> Iterator[PipelineEvent]:
        yield PipelineEvent(notice="one")
        raise KeyboardInterrupt

    said: list[str] = []
    monkeypatch.setattr(Client, "evaluate", interrupted)
    monkeypatch.setattr("modyn.client.display.LineDisplay.say", lambda _, line: said.append(line))
    with pytest.raises(KeyboardInterrupt):
        command("evaluate", runs.ids[0])
    assert said == ["notice: one", "what was scored stays; the same command goes on from there"]


def test_reports_and_comparisons_are_written_as_asked(runs: Runs, command: Callable[..., str], tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "data"
    printed = command("report", runs.ids[1], "--html", str(page), "--data", str(data), "--format", "json")
    assert "composite scores" in printed
    assert page.read_text().startswith("<!DOCTYPE html>")
    rows = json.loads((data / "window_scores.json").read_text())
    assert {row["handler"] for row in rows} >= {"evaluation"}
    folders: Sequence[Path] = [tmp_path / "one", tmp_path / "two"]
    for folder, result in zip(folders, runs.results, strict=True):
        RunFolder(folder).write_report(result.report, result.yaml)
    page, data = tmp_path / "compare.html", tmp_path / "compared"
    printed = command(
        *("compare", *map(str, folders), "--reference", str(folders[1]), "--html", str(page), "--data", str(data)),
        *("--metric", "Accuracy"),
    )
    assert "less the best" in printed
    assert f"less {runs.ids[1]}" in printed
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert parquet.read_table(data / "runs.parquet")["seed"].to_pylist() == [1, 2]
    with pytest.raises(InvalidInputError, match="holds no tables of a report"):
        command("report", runs.ids[0], "--data", str(data))


@pytest.mark.pandas
def test_the_notebook_of_the_documentation(runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On the server that is there; what is behind a `print` is what it prints."""
    monkeypatch.chdir(runs.pipeline.parent)
    page = Path(__file__).parents[2] / "docs" / "howto" / "notebooks.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 5
    known: dict[str, Any] = {"server": runs.client}
    for code in blocks[:-1]:
        exec(compile(code.replace("replay(", "replay(server=server, pipeline="), page.name, "exec"), known)
        printed = capsys.readouterr().out.splitlines()
        assert printed == re.findall(r"print\(.*\)  # (.+)", code)
    own = {"client": runs.client, "replay": replay}
    exec(compile(textwrap.dedent(blocks[-1].partition("as client:")[2]), page.name, "exec"), own)
    assert own["earlier"].id == own["again"].id  # type: ignore[attr-defined]
    assert (runs.pipeline.parent / "comparison.html").is_file()

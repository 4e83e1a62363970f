"""``simulate``, ``trigger`` and ``triggers`` as a user meets them, and the same from Python."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from typer.testing import CliRunner, Result

from modyn.client import Client, ReplayOptions
from modyn.client.cli import app
from modyn.client.runfolder import read_report
from modyn.client.server import READING_SERVICES
from modyn.core.errors import ConflictError, InvalidInputError, NotFoundError
from modyn.core.plugins.triggers import TRIGGERS
from modyn.proto.supervisor_pb2 import Pipeline
from modyn.supervisor.triggers.drift import DataDriftTrigger
from tests.client.processes import TIMEOUT_SECONDS

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "triggers_explained.md"

PIPELINE = """\
pipeline: {name: demo}
data:
  dataset_id: d
  source: {format: parquet, path: data, timestamp: timestamp, label: label, settle_seconds: 0}
model: {id: MLP, config: {in_features: 2, hidden: [8], num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 100}
training: {batch_size: 32}
evaluation: {handlers: [{strategy: {type: SlicingEvalStrategy, eval_every: 50s}}]}
"""

GUARDED = PIPELINE.replace("num_samples: 100", "num_samples: 100, guards: {minimum_samples: 150}")

APPENDED = PIPELINE.replace(PIPELINE[PIPELINE.index("  source:") : PIPELINE.index("model:")], "")

DRIFT = f"""\
trigger:
  id: {DataDriftTrigger.__name__}
  evaluation_interval_data_points: 50
  features: FEATURES
  windowing_strategy: {{id: AmountWindowingStrategy, amount_ref: 50, amount_cur: 50}}
  metrics: {{mmd: {{id: MMD, decision_criterion: {{id: HypothesisTestCriterion}}}}}}
"""


def rows(count: int, start: int = 0) -> pa.Table:
    random = np.random.default_rng(start)
    x0, x1 = random.normal(size=(2, count)).astype(np.float32)
    return pa.table(
        {"timestamp": np.arange(start, start + count), "label": (x0 > 0).astype(np.int64), "x0": x0, "x1": x1}
    )


def with_drift_trigger(features: str) -> str:
    before, _, after = PIPELINE.partition("trigger: {id: DataAmountTrigger, num_samples: 100}\n")
    return before + DRIFT.replace("FEATURES", features) + after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "guarded.yaml").write_text(GUARDED)
    (tmp_path / "data").mkdir()
    parquet.write_table(rows(450), tmp_path / "data" / "0.parquet")
    return tmp_path


def shown(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(result: Result, status: int) -> str:
    assert result.exit_code == status, result.stdout
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


def modyn_here(*arguments: str) -> Result:
    """Runs ``modyn-client`` in this process, which spares a second of imports."""
    return CliRunner().invoke(app, arguments)


def test_simulating_a_pipeline_shows_when_it_would_have_fired(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = modyn_here("simulate", "pipeline.yaml", "--start-replay-at", "20", "--output", "simulated")
    text = shown(result)
    assert "trigger 0 at" not in result.stderr, "firings stand in the table"
    assert "4 triggers on 430 samples; new samples per trigger: min 100, median 100, max 100" in text
    assert "30 samples came after the last one" in text
    assert "1970-01-01 00:06:59" in text
    report = read_report(folder / "simulated")
    assert report.run.simulated
    assert [(t.timestamp, t.new_samples, t.model) for t in report.triggers] == [
        (time, 100, None) for time in (119, 219, 319, 419)
    ]
    assert (report.cost.trainings, report.evaluations) == (0, [])
    assert list((folder / ".modyn" / "models").iterdir()) == []
    listing = shown(modyn_here("list"))
    assert "simulated" in listing
    assert "simulated" in shown(modyn_here("report", "1"))
    assert not (folder / "runs").exists()

    text = shown(modyn_here("simulate", "guarded.yaml", "--maximum-triggers", "1", "--limit", "1"))
    assert "1 held back by guards" in text
    why_a_trigger_fired(folder)


def why_a_trigger_fired(folder: Path) -> None:
    text = shown(modyn_here("triggers", "2", "--csv", "all.csv", "--json", "fired.json", "--plot", "why.svg"))
    [held, fired] = [line for line in text.splitlines() if "new samples" in line or "held back" in line][:2]
    assert "held back" in held
    assert "trigger 0" in fired
    assert "2 evaluations: 1 fired, 1 held back by guards" in text
    with (folder / "all.csv").open() as file:
        assert {row["fired"] for row in csv.DictReader(file)} == {"True", "False"}
    assert [e["decision"] for e in json.loads((folder / "fired.json").read_text())] == [False, True]
    assert (folder / "why.svg").read_text().startswith("<?xml")

    text = shown(modyn_here("triggers", "2", "--fired", "--csv", "fired.csv"))
    assert "trigger 0" in text
    with (folder / "fired.csv").open() as file:
        assert {row["fired"] for row in csv.DictReader(file)} == {"True"}
    text = shown(modyn_here("triggers", "1", "--limit", "1"))
    assert "3 earlier evaluations left out; --limit 4 shows all of them" in text
    assert "expected a name that ends in .svg or .png" in refused(modyn_here("triggers", "1", "--plot", "a.gif"), 2)
    assert "77" in refused(modyn_here("triggers", "77"), 2)
    assert "no server uses the state directory" in refused(modyn_here("trigger", "1"), 2)


def test_firing_by_hand(
    folder: Path, start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    process = start("run", "pipeline.yaml", "--live", "--start-key", "0")
    assert process.stderr is not None
    assert any("trigger 3: trained" in line for line in process.stderr)
    assert shown(modyn_here("trigger", "1")) == "4\n"
    # Its training may go on; then the next one waits for it and finds nothing new.
    assert "no new samples came since the last trigger" in refused(modyn_here("trigger", "1"), 1)
    assert "77" in refused(modyn_here("trigger", "77"), 2)
    assert "expected a number" in refused(modyn_here("trigger", "x"), 2)
    assert "asked for by hand" in shown(modyn_here("triggers", "1"))
    assert "in use by 'run demo'" in refused(modyn_here("simulate", "pipeline.yaml"), 1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, errors
    assert "5 fired in 5 evaluations" in output
    report = read_report(folder / "runs" / "demo")
    assert [(t.reason, t.new_samples, t.samples) for t in report.triggers[4:]] == [("asked for by hand", 50, 50)]
    assert report.triggers[4].model is not None
    assert [e.trigger for e in report.trigger_evaluations] == [0, 1, 2, 3, 4]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client.embedded(tmp_path / "state", services=READING_SERVICES) as client:
        client.register_dataset("d")
        client.append("d", "first", rows(450))
        yield client


def test_simulating_from_python(client: Client) -> None:
    report = client.simulate(APPENDED)
    assert [t.timestamp for t in report.triggers] == [99, 199, 299, 399]
    assert report.run.samples_seen == 450
    part = client.simulate(APPENDED, ReplayOptions(start=300, order="event"), maximum_triggers=1)
    assert [(t.timestamp, t.new_samples) for t in part.triggers] == [(399, 100)]
    assert [p.simulated for p in client.pipelines()] == [True, True]
    table = client.trigger_evaluations("1")
    assert table["trigger"].to_pylist() == [0, 1, 2, 3]
    assert table["num_samples"].to_pylist() == [100] * 4
    assert table["fired"].to_pylist() == [True] * 4
    with pytest.raises(NotFoundError, match="77"):
        client.trigger_evaluations("77")


def test_a_simulation_fires_when_the_run_would(client: Client, tmp_path: Path) -> None:
    """A rerun, and one in the order of arrival, too."""
    reports = [client.simulate(APPENDED, ReplayOptions(order=order)) for order in ("event", "event", "arrival")]
    parts: list[Any] = [[t.model_dump(exclude={"seconds"}) for t in report.triggers] for report in reports]
    assert parts[0] == parts[1] == parts[2]
    with Client.embedded(tmp_path / "other") as other:
        other.register_dataset("d")
        other.append("d", "first", rows(450))
        pipeline_id = other.submit(APPENDED)
        assert other.wait(pipeline_id).status == Pipeline.COMPLETED
        real = other.report(pipeline_id)
    assert not real.run.simulated
    same = ("index", "timestamp", "reason", "new_samples", "first_timestamp", "last_timestamp")
    for trained, simulated in zip(real.triggers, reports[0].triggers, strict=True):
        assert trained.model is not None
        assert [getattr(trained, name) for name in same] == [getattr(simulated, name) for name in same]


def test_a_trigger_of_columns_can_be_simulated_and_one_of_models_says_so(client: Client) -> None:
    drift = with_drift_trigger("columns").replace(PIPELINE[PIPELINE.index("  source:") : PIPELINE.index("model:")], "")
    report = client.simulate(drift)
    assert [t.index for t in report.triggers][:1] == [0]
    assert len(report.trigger_evaluations) == 9
    table = client.trigger_evaluations("1")
    assert set(table["finding"].to_pylist()) == {"mmd"}
    assert table["statistic"].null_count == 1, "there is nothing to compare the first interval with"
    with pytest.raises(InvalidInputError, match=r"DataDriftTrigger asks trained models .* cannot be simulated"):
        client.simulate(drift.replace("features: columns", "features: embeddings"))
    assert len(client.pipelines()) == 1


def test_what_is_wrong_with_a_simulation_is_an_error(client: Client) -> None:
    with pytest.raises(InvalidInputError, match="no samples in the replayed interval"):
        client.simulate(APPENDED, ReplayOptions(start=10_000))
    with pytest.raises(NotFoundError, match="77"):
        client.trigger("77")
    with pytest.raises(ConflictError, match="pipeline 1 is failed; only a running one can be triggered"):
        client.trigger("1")


def test_the_page_about_triggers_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.+)", code)


def test_the_guards_of_the_page_are_keys_of_every_trigger() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    trigger = TRIGGERS.parse(yaml.safe_load(text)["trigger"])
    assert trigger.guards is not None
    assert (trigger.guards.cooldown, trigger.guards.maximum_triggers, trigger.guards.per) == (21_600, 10, 604_800)

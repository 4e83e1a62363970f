"""``modyn-client run --baselines`` as a user meets it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modyn.client import Client, ReplayOptions
from modyn.client.baselines import BASELINES
from modyn.client.runfolder import read_report
from modyn.client.running import _run_baselines
from modyn.client.signals import StopOnSignal
from modyn.core.errors import ConflictError, InvalidInputError
from modyn.core.report import DownsamplingPart, Report, without_volatile
from tests.client.processes import TIMEOUT_SECONDS, modyn
from tests.client.test_run import assert_nothing_left, read_until
from tests.helpers.streams import DAY, START, drifting_table, project, write_daily_files

LOSS = {"strategy": "Loss", "ratio": 50, "sample_then_batch": True, "period": 0}
BATCH = 16
INFOBATCH = {"strategy": "InfoBatch", "ratio": 50}


def selecting(downsampling: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": "CoresetStrategy", "downsampling_config": downsampling, **options}


def growing(name: str) -> dict[str, Any]:
    """A dataset of one test's own."""
    source = {"format": "parquet", "path": "data", "timestamp": "timestamp", "label": "label", "settle_seconds": 0}
    return {"dataset_id": name, "source": source}


def section(report: Report) -> DownsamplingPart:
    assert report.downsampling is not None
    return report.downsampling


@pytest.mark.slow
def test_run_with_baselines_and_again(tmp_path: Path) -> None:
    project(tmp_path, drifting_table(8), selection_strategy=selecting(LOSS, warmup_triggers=1))
    first = modyn("run", "pipeline.yaml", "--baselines", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "baseline 1 of 2: as many samples, drawn uniformly" in first.stderr
    assert "pipeline 3 (drifting (baseline: fewer epochs)): completed" in first.stderr
    assert "Does downsampling pay?" in first.stdout
    report = read_report(tmp_path / "runs" / "drifting")
    part = section(report)
    assert [b.kind for b in part.baselines] == ["uniform", "fewer_epochs"]

    again = modyn("run", "pipeline.yaml", "--baselines", "--output", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    second = read_report(tmp_path / "again")
    assert second.cost.trainings_reused == second.cost.trainings
    assert [b.trainings_reused for b in section(second).baselines] == [second.cost.trainings] * 2
    assert without_volatile(second) == without_volatile(report)

    listing = modyn("list", cwd=tmp_path).stdout
    assert [line.count("baseline of 1") for line in listing.splitlines() if "drifting" in line] == [0, 1, 1, 0, 0, 0]
    shown = modyn("report", "1", cwd=tmp_path)
    assert "all samples, fewer epochs, pipeline 3" in shown.stdout, "by a later process"

    refused = modyn("simulate", "pipeline.yaml", "--baselines", cwd=tmp_path)
    assert (refused.returncode, "--baselines" in refused.stderr) == (2, True)

    warm = project(tmp_path, drifting_table(4), selection_strategy=selecting(LOSS, warmup_triggers=9))
    result = modyn("run", warm.name, "--baselines", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "no trigger of the pipeline downsampled" in result.stderr


@pytest.mark.parametrize(
    ("selection", "options", "says"),
    [
        ({"name": "NewDataStrategy"}, (), "--baselines compares a downsampling strategy"),
        (selecting(LOSS), ("--live",), "cannot go with --live"),
    ],
)
def test_what_cannot_be_compared_does_not_start(
    tmp_path: Path, selection: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    project(tmp_path, drifting_table(1), selection_strategy=selection)
    result = modyn("run", "pipeline.yaml", "--baselines", *options, cwd=tmp_path)
    assert result.returncode == 2
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / ".modyn").exists()


@pytest.mark.slow
def test_stopping_a_baseline_leaves_the_report_of_the_pipeline(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    training = {"epochs_per_trigger": 20, "batch_size": 1, "threads": 1}
    project(tmp_path, drifting_table(8), selection_strategy=selecting(LOSS), training=training)
    process = start("run", "pipeline.yaml", "--baselines")
    read_until(process, "baseline 1 of 2")
    read_until(process, "trigger 0 at")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "baseline 2" not in errors
    assert_nothing_left(process)
    report = read_report(tmp_path / "runs" / "drifting")
    assert report.pipeline.status == "completed"
    assert [(b.kind, b.status) for b in section(report).baselines] == [("uniform", "stopped")]
    assert "same number of passes (stopped)" in output


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("server") / "state") as client:
        yield client


def baselines_of(client: Client, path: Path, **options: Any) -> Report:
    """The report of a pipeline after both of its baselines."""
    pipeline_id = client.submit(path, **options)
    client.wait(pipeline_id)
    for kind in BASELINES:
        client.wait(client.submit_baseline(pipeline_id, kind, folder=path.parent))
    return client.report(pipeline_id)


def test_baselines_train_on_as_many_samples_and_are_reused(tmp_path: Path, client: Client) -> None:
    selection = selecting(LOSS, warmup_triggers=1)
    path = project(tmp_path, drifting_table(8), selection_strategy=selection)
    report = baselines_of(client, path)
    part = section(report)
    assert [(b.kind, b.status) for b in part.baselines] == [("uniform", "completed"), ("fewer_epochs", "completed")]
    assert (part.triggers, part.samples_trained * 2, len(report.triggers)) == (1, part.samples_offered, 2)
    assert report.triggers[0].downsampling is None, "warm-up"
    uniform, fewer = (baseline.samples_trained - report.cost.samples_trained for baseline in part.baselines)
    assert uniform == 0, "equal compute"
    assert 0 <= fewer < BATCH, "the last batch is a whole one"
    assert all(baseline.composite["daily"]["drifting"]["Accuracy"] is not None for baseline in part.baselines)
    again = baselines_of(client, path)
    assert again.cost.trainings_reused == 2
    assert [b.trainings_reused for b in section(again).baselines] == [2, 2]
    assert without_volatile(again) == without_volatile(report)
    assert section(again).train_seconds == part.train_seconds, "with the original cost"


def test_a_baseline_sees_the_samples_that_the_pipeline_saw(tmp_path: Path, client: Client) -> None:
    stream = drifting_table(8)
    selection = selecting(INFOBATCH)
    path = project(tmp_path, stream.slice(0, 280), data=growing("growing"), selection_strategy=selection)
    pipeline_id = client.submit(path, ReplayOptions(stop=START + 6 * DAY), maximum_triggers=2)
    client.wait(pipeline_id)
    write_daily_files(tmp_path / "data", stream.slice(280))
    baseline_id = client.submit_baseline(pipeline_id, "uniform", folder=tmp_path)
    with pytest.raises(ConflictError, match="a baseline is compared with one that completed"):
        client.submit_baseline(baseline_id, "uniform", folder=tmp_path)
    client.wait(baseline_id)
    report, baseline = client.report(pipeline_id), client.report(baseline_id)
    assert baseline.run == report.run
    part = section(report)
    assert 0.5 < part.samples_trained / part.samples_offered < 1
    epochs = 3 * len(report.triggers)
    assert abs(baseline.cost.samples_trained - report.cost.samples_trained) <= epochs, "a sample in each epoch"
    with pytest.raises(InvalidInputError, match="is a baseline itself"):
        client.submit_baseline(baseline_id, "uniform", folder=tmp_path)


def test_a_baseline_that_fails_stands_in_the_report(tmp_path: Path, client: Client) -> None:
    path = project(tmp_path, drifting_table(4), data=growing("failing"), selection_strategy=selecting(LOSS))
    pipeline_id = client.submit(path)
    client.wait(pipeline_id)
    failed = client.wait(client.submit_baseline(pipeline_id, "uniform", folder=tmp_path / "nowhere"))
    assert failed.HasField("error")
    [baseline] = section(client.report(pipeline_id)).baselines
    assert (baseline.status, baseline.error, baseline.trainings) == ("failed", failed.error.message, 0)


@pytest.mark.slow
def test_no_baseline_begins_after_a_signal(tmp_path: Path) -> None:
    with Client.embedded(tmp_path / "state") as client, StopOnSignal(lambda: None) as between:
        signal.raise_signal(signal.SIGINT)
        assert list(_run_baselines(client, "1", tmp_path, between, reuse=True)) == []
        assert between.received is not None
        assert between.received.exit_status == 130

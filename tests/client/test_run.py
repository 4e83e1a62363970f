"""``modyn-client run`` as a user meets it: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from modyn.client.runfolder import read_report
from modyn.core.report import without_volatile
from modyn.core.state import StateDirectory
from tests.client.processes import TIMEOUT_SECONDS, modyn
from tests.conftest import processes_of_session

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


def table(start: int, count: int) -> pa.Table:
    random = np.random.default_rng(start)
    x0, x1 = random.normal(size=(2, count)).astype(np.float32)
    return pa.table(
        {"timestamp": np.arange(start, start + count), "label": (x0 > 0).astype(np.int64), "x0": x0, "x1": x1}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "data").mkdir()
    for start in range(0, 450, 50):
        parquet.write_table(table(start, 50), tmp_path / "data" / f"{start:04d}.parquet")
    return tmp_path


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"timeout: {what}"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Reads the progress lines of a command up to one that contains a text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    pytest.fail(f"{text!r} never came; the output was:\n{''.join(lines)}")


def assert_nothing_left(process: subprocess.Popen[str]) -> None:
    assert processes_of_session(process.pid) == []
    children = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    assert not [line for line in children.splitlines() if "modyn.core.forkserver" in line and str(process.pid) in line]


def test_run_to_the_end_and_again(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("run", "pipeline.yaml")
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    assert_nothing_left(process)
    assert "composite scores" in output
    assert "results: runs/demo" in output
    for expected in ("trigger 3 at", "trained, 100 sample passes", "completed"):
        assert expected in errors
    first = read_report(folder / "runs" / "demo")
    assert [trigger.samples for trigger in first.triggers] == [100] * 4
    assert first.cost.trainings_reused == 0
    assert (folder / "runs" / "demo" / "windows.csv").read_text().count("\n") == 1 + len(first.windows)

    again = modyn("run", "pipeline.yaml", "--output", "again", cwd=folder)
    assert again.returncode == 0, again.stderr
    second = read_report(folder / "again")
    assert second.cost.trainings_reused == 4
    assert without_volatile(second) == without_volatile(first)
    looking_at_what_was_done(folder)
    a_false_start_does_not_replace_a_report(folder)


def a_false_start_does_not_replace_a_report(folder: Path) -> None:
    before = read_report(folder / "again")
    text = (
        (folder / "pipeline.yaml")
        .read_text()
        .replace("path: data", "path: nowhere")
        .replace("dataset_id: d", "dataset_id: e")
    )
    (folder / "wrong.yaml").write_text(text)
    result = modyn("run", "wrong.yaml", "--output", "again", cwd=folder)
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert read_report(folder / "again") == before


def looking_at_what_was_done(folder: Path) -> None:
    """``list``, ``report``, ``compare``, ``status``, ``watch`` and ``datasets`` without a server."""
    listing = modyn("list", cwd=folder)
    assert [line.split()[1] for line in listing.stdout.splitlines() if "demo" in line] == ["1", "2"]
    assert "completed" in modyn("status", "1", cwd=folder).stdout
    assert modyn("report", "1", "--output", "copy", cwd=folder).returncode == 0
    assert read_report(folder / "copy") == read_report(folder / "runs" / "demo")
    compared = modyn("compare", "1", "runs/demo", cwd=folder)
    assert "currently active" in compared.stdout, compared.stderr
    assert "450" in modyn("datasets", "describe", "d", cwd=folder).stdout
    unknown = modyn("report", "77", cwd=folder)
    assert unknown.returncode == 2
    assert "77" in unknown.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_signal_stops_and_reports(
    folder: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals, status: int
) -> None:
    process = start("run", "pipeline.yaml", "--live", "--start-key", "0")
    read_until(process, "trigger 3: trained")
    if number == signal.SIGINT:
        while_it_runs(folder, process.pid)
    process.send_signal(number)
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert_nothing_left(process)
    report = read_report(folder / "runs" / "demo")
    assert report.pipeline.status == "stopped"
    assert len(report.triggers) == 4
    assert report.windows
    assert "stopped" in output


def while_it_runs(folder: Path, pid: int) -> None:
    """Other commands join the running server; another run is refused by its name."""
    listing = modyn("list", cwd=folder)
    assert "running" in listing.stdout, listing.stderr
    assert "450" in modyn("datasets", "list", cwd=folder).stdout
    refused = modyn("run", "pipeline.yaml", "--output", "other", cwd=folder)
    assert refused.returncode == 1
    assert f"in use by 'run demo' (process {pid})" in refused.stderr
    assert not (folder / "other").exists()


def test_second_signal_gives_up_at_once(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    slow = PIPELINE.replace("batch_size: 32", "batch_size: 1, epochs_per_trigger: 1000000")
    (folder / "pipeline.yaml").write_text(slow)
    process = start("run", "pipeline.yaml")
    read_until(process, "trigger 0 at")
    process.send_signal(signal.SIGINT)
    read_until(process, "stopping the pipeline")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert_nothing_left(process)
    listing = modyn("list", cwd=folder)
    assert "interrupted" in listing.stdout or "stopped" in listing.stdout


def test_killed_run_leaves_no_process_and_the_next_one_works(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("run", "pipeline.yaml", "--live", "--start-key", "0")
    read_until(process, "trigger 1: trained")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.kill()
    process.communicate(timeout=TIMEOUT_SECONDS)
    for child in map(int, children.stdout.split()):
        wait_until(lambda: not is_alive(child), f"child process {child} ends")  # noqa: B023 - waited for at once
    assert "interrupted" in modyn("list", cwd=folder).stdout
    result = modyn("run", "pipeline.yaml", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert read_report(folder / "runs" / "demo").cost.trainings_reused >= 1


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_failing_pipeline_is_one_screen_with_its_report(folder: Path) -> None:
    bad = table(450, 50).set_column(1, "label", pa.array([7] * 50, pa.int64()))
    parquet.write_table(bad, folder / "data" / "0450.parquet")
    result = modyn("run", "pipeline.yaml", cwd=folder)
    assert result.returncode == 2, result.stderr
    error = result.stderr[result.stderr.index("error: ") :]
    assert "7" in error
    assert error.count("\n") < 45
    assert "Traceback" not in result.stderr
    report = read_report(folder / "runs" / "demo")
    assert report.pipeline.status == "failed"
    assert [trigger.error is None for trigger in report.triggers] == [True] * 4 + [False]
    outputs = list((folder / "runs" / "demo" / "jobs").iterdir())
    assert any("Traceback" in path.read_text() for path in outputs)  # what the failed job printed
    result = modyn("run", "pipeline.yaml", "--end-key", "450", cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_killed_training_job_is_a_failure_with_its_reason(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    (folder / "pipeline.yaml").write_text(
        PIPELINE.replace("batch_size: 32", "batch_size: 1, epochs_per_trigger: 1000000")
    )
    process = start("run", "pipeline.yaml")
    read_until(process, "trigger 0 at")
    wait_until(lambda: len(grandchildren(process.pid)) > 0, "a job starts")
    time.sleep(0.5)
    for job in grandchildren(process.pid):
        os.kill(job, signal.SIGKILL)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1, errors
    assert "killed by SIGKILL" in errors
    assert "Traceback" not in errors
    assert_nothing_left(process)


def grandchildren(pid: int) -> list[int]:
    found: list[int] = []
    for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split():
        jobs = subprocess.run(["pgrep", "-P", child], capture_output=True, text=True, check=False).stdout
        found += map(int, jobs.split())
    return found


def test_submit_and_watch_on_a_server(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    text = (folder / "pipeline.yaml").read_text().replace("path: data", f"path: {folder / 'data'}")
    (folder / "absolute.yaml").write_text(text)
    server = start("serve", "--address", "127.0.0.1:0", "--state", "served")
    state = StateDirectory(folder / "served")
    wait_until(lambda: (holder := state.holder()) is not None and holder.address is not None, "the server starts")
    submitted = modyn("submit", "absolute.yaml", "--state", "served", cwd=folder)
    assert submitted.returncode == 0, submitted.stderr
    holder = state.holder()
    assert holder is not None
    address = holder.address or ""
    watched = modyn("watch", submitted.stdout.strip(), "--server", address, cwd=folder)
    assert (watched.returncode, "completed" in watched.stdout) == (0, True), watched.stderr
    refused = modyn("run", "pipeline.yaml", "--server", address, cwd=folder)
    assert refused.returncode == 2
    assert "relative" in refused.stderr
    server.terminate()
    output, errors = server.communicate(timeout=TIMEOUT_SECONDS)
    assert (server.returncode, errors) == (0, "")
    assert f"at {address}" in output
    assert_nothing_left(server)

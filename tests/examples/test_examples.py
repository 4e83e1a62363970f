"""The examples do what their README says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from modyn.client.overrides import overridden, read_tree
from modyn.client.runfolder import read_report
from modyn.core.config.reader import load_pipeline_file, load_pipeline_text
from modyn.core.report import Report
from tests.client.processes import modyn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WEEK = 7 * 86_400


def prepare(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example / "prepare.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_digits_are_all_written_once_and_only_once(tmp_path: Path) -> None:
    first = prepare("digits", "--output", str(tmp_path))
    assert first.returncode == 0, first.stderr
    files = sorted(tmp_path.iterdir())
    assert len(files) == 90
    table = pa.concat_tables(parquet.read_table(path) for path in files)
    assert table.num_rows == 1797
    assert set(table["label"].to_pylist()) == set(range(10))
    assert {len(image) for image in table["image"].to_pylist()} == {64}
    timestamps = table["timestamp"].to_numpy()
    assert (np.diff(timestamps) > 0).all()
    assert (timestamps[-1] - timestamps[0]) // 86_400 == 89
    times = [path.stat().st_mtime_ns for path in files]
    files[3].unlink()
    second = prepare("digits", "--output", str(tmp_path))
    assert "1 written now" in second.stdout
    unchanged = [path.stat().st_mtime_ns for index, path in enumerate(files) if index != 3]
    assert unchanged == times[:3] + times[4:]


def test_elec2_is_split_into_weeks_without_the_price(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "elec2.parquet"
    result = prepare("elec2", str(source), "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    tables = [parquet.read_table(path) for path in sorted(tmp_path.iterdir())]
    whole = parquet.read_table(source)
    names = [name for name in whole.column_names if name not in ("date", "nswprice")]
    assert all(set(table.column_names) == set(names) for table in tables)
    assert pa.concat_tables(tables).select(names).equals(whole.select(names))
    for table in tables:
        timestamps = table["timestamp"].to_numpy()
        assert timestamps[-1] - timestamps[0] < WEEK
    assert ", 0 written now" in prepare("elec2", str(source), "--output", str(tmp_path)).stdout


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_elec2_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.parquet"
    if content is not None:
        path.write_bytes(content)
    result = prepare("elec2", str(path), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {path}")
    assert "Traceback" not in result.stderr
    parquet.write_table(pa.table({"timestamp": [1]}), path)
    assert "lacks day" in prepare("elec2", str(path)).stderr


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """Copies an example's pipeline, so that its data and state stay out of the tree."""

    def copy(name: str) -> Path:
        return Path(shutil.copy(EXAMPLES / name / "pipeline.yaml", tmp_path))

    return copy


PIPELINES = sorted(path.relative_to(EXAMPLES) for path in EXAMPLES.glob("*/*.yaml") if path.name != "policies.yaml")


@pytest.mark.parametrize("path", PIPELINES, ids=str)
def test_every_example_is_valid(path: Path) -> None:
    loaded = load_pipeline_file(EXAMPLES / path)
    loaded.require_runnable()
    assert loaded.notices == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PIPELINES if path.parts[0] == "elec2"], ids=str)
def test_every_trigger_on_elec2(path: Path, tmp_path: Path, shared_data: Path) -> None:
    prepare("elec2", str(shared_data / "elec2.parquet"), "--output", str(tmp_path / "data"))
    pipeline = Path(shutil.copy(EXAMPLES / path, tmp_path))
    report = run_folder(pipeline, "run")
    assert 10 <= len(report.triggers) <= 60
    fired = [evaluation for evaluation in report.trigger_evaluations if evaluation.trigger is not None]
    assert [evaluation.trigger for evaluation in fired] == [trigger.index for trigger in report.triggers]
    assert [evaluation.reason for evaluation in fired] == [trigger.reason for trigger in report.triggers]
    if len(report.trigger_evaluations) > len(report.triggers):  # else a list of firings says it all
        assert (tmp_path / "run" / "triggers.svg").is_file()


def run_folder(pipeline: Path, name: str, *arguments: str) -> Report:
    result = modyn("run", pipeline.name, "--output", name, *arguments, cwd=pipeline.parent)
    assert result.returncode == 0, result.stderr
    return read_report(pipeline.parent / name)


@pytest.mark.slow
def test_digits_run_as_the_readme_says(example: Callable[[str], Path]) -> None:
    pipeline = example("digits")
    prepare("digits", "--output", str(pipeline.parent / "data"))
    report = run_folder(pipeline, "all")
    once = run_folder(pipeline, "once", "--maximum-triggers", "1")
    assert len(report.triggers) >= 8
    assert active(report, "digits") > active(once, "digits") + 0.2


@pytest.mark.slow
def test_retraining_pays_on_elec2_but_the_last_label_is_better(
    example: Callable[[str], Path], shared_data: Path
) -> None:
    pipeline = example("elec2")
    prepare("elec2", str(shared_data / "elec2.parquet"), "--output", str(pipeline.parent / "data"))
    report = run_folder(pipeline, "all")
    once = run_folder(pipeline, "once", "--maximum-triggers", "1")
    assert len(report.triggers) >= 25
    assert active(report, "elec2") >= active(once, "elec2") + 0.02
    last_label = report.composite["weekly"]["elec2"]["Accuracy"].baselines["last_label"]
    assert last_label is not None
    assert last_label > active(report, "elec2")
    assert "must not be mistaken for skill" in (pipeline.parent / "all" / "report.md").read_text()


def active(report: Report, dataset: str) -> float:
    score = report.composite["weekly"][dataset]["Accuracy"].currently_active
    assert score is not None
    return score


@pytest.mark.parametrize("name", ["elec2", "rotated_mnist"])
def test_every_policy_makes_a_valid_pipeline(name: str) -> None:
    tree, _ = read_tree(EXAMPLES / name / "pipeline.yaml")
    policies = yaml.safe_load((EXAMPLES / name / "policies.yaml").read_text())
    assert len(policies) == 6
    for policy in policies.values():
        policy.pop("maximum_triggers", None)
        sections = {"selection_strategy" if key == "selection" else key: value for key, value in policy.items()}
        load_pipeline_text(overridden(tree, sections, {}), "policy").require_runnable()


def test_rotated_digits_are_a_stream_of_days(tmp_path: Path) -> None:
    labels = np.arange(400, dtype=np.uint8) % 10
    images = np.zeros((400, 28, 28), dtype=np.uint8)
    images[:, :5, 10] = labels[:, None] + 100  # something at the top
    np.savez(tmp_path / "digits.npz", images=images, labels=labels)
    result = prepare("rotated_mnist", str(tmp_path / "digits.npz"), "--output", str(tmp_path / "days"))
    assert result.returncode == 0, result.stderr
    tables = [parquet.read_table(path) for path in sorted((tmp_path / "days").iterdir())]
    assert [table.num_rows for table in tables] == [2] * 200
    assert sorted(pa.concat_tables(tables)["label"].to_pylist()) == sorted(labels.tolist())
    upright, turned = (np.frombuffer(tables[day]["image"][0].as_py(), np.uint8).reshape(28, 28) for day in (0, 120))
    assert upright[:14].any()
    assert not upright[14:].any()
    assert turned[14:].any()
    assert not turned[:14].any()
    bad = prepare("rotated_mnist", str(tmp_path / "none.npz"), "--output", str(tmp_path / "days"))
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: ")

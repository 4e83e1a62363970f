from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import pytest

from modyn.client import result_folder
from modyn.client.runfolder import RunFolder, evaluations_csv, read_report, windows_csv
from modyn.core.errors import InvalidInputError, ModynError
from tests.client.reports import DAY, drifting, report, window

FILES = {"report.json", "report.md", "pipeline.yaml", "windows.csv", "evaluations.csv", "tables"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_new_folder_gets_everything_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "demo"
    RunFolder(target).write_report(report(), "pipeline: {name: demo}\n")
    assert names(target) == FILES
    assert names(target.parent) == {"demo"}  # no leftovers beside it
    assert read_report(target) == report()
    assert (target / "pipeline.yaml").read_text() == "pipeline: {name: demo}\n"
    assert stat.S_IMODE(target.stat().st_mode) & 0o700 == 0o700


def test_the_page_comes_last_and_none_is_left_of_an_earlier_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_report(report(), "a: 1\n")
    folder.write_page(report(), "a: 1\n")
    assert names(tmp_path) == FILES | {"report.html"}
    assert "<svg" in (tmp_path / "report.html").read_text()
    folder.write_report(report(), "a: 2\n")
    assert names(tmp_path) == FILES


def test_earlier_report_is_replaced_and_files_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "demo"
    output = tmp_path / "training-1.log"
    output.write_text("boom")
    RunFolder(target).write_report(report(status="failed"), "a: 1\n", job_outputs=[output])
    assert (target / "jobs" / "training-1.log").read_text() == "boom"
    (target / "notes.txt").write_text("mine")
    RunFolder(target).write_report(report(status="completed"), "a: 2\n")
    assert names(target) == FILES | {"notes.txt"}
    assert read_report(target).pipeline.status == "completed"
    assert (target / "pipeline.yaml").read_text() == "a: 2\n"
    assert names(tmp_path) == {"demo", "training-1.log"}


def test_a_picture_is_there_only_if_there_is_something_to_draw(tmp_path: Path) -> None:
    target = tmp_path / "demo"
    RunFolder(target).write_report(report(looked=drifting()), "")
    assert names(target) == FILES | {"triggers.svg"}
    assert "](triggers.svg)" in (target / "report.md").read_text()
    assert read_report(target) == report(looked=drifting())
    RunFolder(target).write_report(report(), "")
    assert names(target) == FILES, "that of the earlier run is gone"
    RunFolder(target).write_report(report(looked=drifting(1)), "")
    assert names(target) == FILES, "nothing was measured"


def test_empty_folder_is_used(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_report(report(), "")
    assert names(tmp_path) == FILES


@pytest.mark.parametrize(("name", "content"), [("thesis.tex", "x"), ("report.json", "{}"), ("report.json", "no json")])
def test_folder_with_something_else_is_refused_untouched(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInputError, match="holds no report of this tool"):
        RunFolder(tmp_path).write_report(report(), "")
    assert names(tmp_path) == {name}
    assert (tmp_path / name).read_text() == content


def test_file_instead_of_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="a file is there"):
        RunFolder(tmp_path / "file").check()


def test_failing_write_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "demo"
    RunFolder(target).write_report(report(), "a: 1\n")

    def full_disk(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_folder, "fsync_file", full_disk)
    with pytest.raises(ModynError, match=r"No space left on device; nothing is lost, `modyn-client report 1 --output"):
        RunFolder(target).write_report(report(status="failed"), "a: 2\n")
    assert read_report(target).pipeline.status == "completed"
    assert names(tmp_path) == {"demo"}


def test_unreadable_report_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="no report that this version can read"):
        read_report(tmp_path)


def test_windows_csv_has_a_row_per_window_and_metric() -> None:
    document = report(windows=[window(1, 0.75, last_label=0.9), window(2, None)])
    rows = list(csv.DictReader(io.StringIO(windows_csv(document))))
    assert [(row["start"], row["end"], row["metric"]) for row in rows] == [
        (str(DAY), str(2 * DAY), "Accuracy"),
        (str(2 * DAY), str(3 * DAY), "Accuracy"),
    ]
    assert (rows[0]["currently_active"], rows[0]["baseline_last_label"]) == ("0.75", "0.9")
    assert (rows[1]["currently_active"], rows[1]["active_trigger"], rows[1]["baseline_last_label"]) == ("", "", "")


def test_evaluations_csv_has_a_row_per_model_window_and_metric() -> None:
    (row,) = csv.DictReader(io.StringIO(evaluations_csv(report())))
    assert (row["trigger"], row["samples"], row["metric"], row["value"]) == ("0", "10", "Accuracy", "0.75")

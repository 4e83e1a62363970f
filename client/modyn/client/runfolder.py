"""The folder of a run: its report as JSON, Markdown and CSV, and the pipeline with every default filled in."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from modyn.client.explanations import worth_showing
from modyn.client.markdown import TRIGGER_PLOT_FILE, report_markdown
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, fsync_file
from modyn.core.report import Report

REPORT_FILE = "report.json"
JOBS_FOLDER = "jobs"


class RunFolder:
    """Where a run's results go.

    Args:
        path: a folder that does not exist yet, is empty, or holds an earlier report; nothing else is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def check(self) -> None:
        """
        Raises:
            InvalidInputError: the folder holds something that is no report, or cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"--output {self.path}: a file is there; name a folder")
        existing = next((p for p in (self.path, *self.path.parents) if p.exists()), self.path)
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InvalidInputError(f"--output {self.path}: {existing} is not writable; name another folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not self.holds_report():
            raise InvalidInputError(
                f"--output {self.path}: the folder is not empty and holds no report of this tool; "
                "nothing in it was touched, name another folder"
            )

    def holds_report(self) -> bool:
        """Whether an earlier run left its report here."""
        try:
            document = json.loads((self.path / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and {"schema_version", "modyn_version", "pipeline"} <= document.keys()

    def write(self, report: Report, resolved_yaml: str, *, job_outputs: Sequence[Path] = ()) -> None:
        """Writes everything, so that a crash leaves no half-written file.

        Args:
            report: of the run.
            resolved_yaml: the pipeline with every default filled in.
            job_outputs: files with what failed jobs printed; copied.
        """
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self.path.parent))
        try:
            staging.chmod(0o777 & ~_umask())
            self._stage(staging, report, resolved_yaml, job_outputs)
            self._publish(staging)
        except OSError as error:
            raise ModynError(
                f"--output {self.path}: cannot be written: {error.strerror or error}; nothing is lost, "
                f"`modyn-client report {report.pipeline.id} --output DIR` writes it elsewhere"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _stage(self, folder: Path, report: Report, resolved_yaml: str, job_outputs: Sequence[Path]) -> None:
        plot = trigger_plot(report)
        files = {
            "pipeline.yaml": resolved_yaml.encode(),
            "windows.csv": windows_csv(report).encode(),
            "evaluations.csv": evaluations_csv(report).encode(),
            "report.md": report_markdown(report, has_plot=plot is not None).encode(),
            REPORT_FILE: (report.model_dump_json(indent=2) + "\n").encode(),
        }
        if plot is not None:
            files[TRIGGER_PLOT_FILE] = plot
        for name, content in files.items():
            (folder / name).write_bytes(content)
            fsync_file(folder / name)
        for source in job_outputs:
            (folder / JOBS_FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source, folder / JOBS_FOLDER / source.name)

    def _publish(self, staging: Path) -> None:
        if not self.path.exists():
            fsync_directory(staging)
            staging.rename(self.path)
            fsync_directory(self.path.parent)
            return
        # Files of others in the folder stay, so the folder itself cannot be exchanged; the report comes last.
        shutil.rmtree(self.path / JOBS_FOLDER, ignore_errors=True)
        (self.path / TRIGGER_PLOT_FILE).unlink(missing_ok=True)  # this run may have none
        for path in sorted(staging.iterdir(), key=lambda path: path.name == REPORT_FILE):
            path.replace(self.path / path.name)
        fsync_directory(self.path)


def read_report(folder: Path) -> Report:
    """The report in a run folder.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return Report.model_validate_json((folder / REPORT_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"{folder / REPORT_FILE}: no report that this version can read: {reason}") from error


def trigger_plot(report: Report) -> bytes | None:
    """The picture of the trigger's evaluations as SVG; None if it would show nothing."""
    if not worth_showing(report.trigger_evaluations):
        return None
    from modyn.client import trigger_plot  # it loads NumPy

    if not trigger_plot.worth_plotting(report.trigger_evaluations):
        return None
    return trigger_plot.draw(report.trigger_evaluations, "svg", title=f"{report.pipeline.name}: its trigger")


def windows_csv(report: Report) -> str:
    """One row per handler, dataset, window and metric."""
    baselines = sorted({name for w in report.windows for score in w.scores.values() for name in score.baselines})
    header = ["handler", "dataset", "start", "end", "anchor", "samples", "unlabelled", "active_trigger"]
    header += ["trained_trigger", "metric", "currently_active", "currently_trained"]
    rows = (
        [
            *(w.handler, w.dataset, w.start, w.end, w.anchor, w.samples, w.unlabelled),
            *(w.active_trigger, w.trained_trigger, metric, score.currently_active, score.currently_trained),
            *(score.baselines.get(name) for name in baselines),
        ]
        for w in report.windows
        for metric, score in w.scores.items()
    )
    return _csv([*header, *(f"baseline_{name}" for name in baselines)], rows)


def evaluations_csv(report: Report) -> str:
    """One row per model, window and metric."""
    header = ["handler", "dataset", "trigger", "start", "end", "samples", "metric", "value"]
    rows = (
        [e.handler, e.dataset, e.trigger, e.start, e.end, e.samples, metric, value]
        for e in report.evaluations
        for metric, value in e.metrics.items()
    )
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The folder of a run: its report as JSON, HTML, Markdown and tables, and the pipeline with every default filled in."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from modyn.client.explanations import worth_showing
from modyn.client.markdown import TRIGGER_PLOT_FILE, report_markdown
from modyn.client.result_folder import ResultFolder, write_text
from modyn.core.config.source import read_text
from modyn.core.errors import InvalidInputError
from modyn.core.report import Report

REPORT_FILE = "report.json"
PIPELINE_FILE = "pipeline.yaml"
HTML_FILE = "report.html"
JOBS_FOLDER = "jobs"
TABLES_FOLDER = "tables"


class RunFolder(ResultFolder):
    """Where a run's results go.

    Args:
        path: a folder that does not exist yet, is empty, or holds an earlier report; nothing else is overwritten.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, option="--output", marker=REPORT_FILE, is_ours=_is_report, kind="report")

    def write_report(self, report: Report, resolved_yaml: str, *, job_outputs: Sequence[Path] = ()) -> None:
        """Writes everything but the page, so that a crash leaves no half-written file.

        Args:
            report: of the run.
            resolved_yaml: the pipeline with every default filled in.
            job_outputs: files with what failed jobs printed; copied.
        """
        remedy = f"nothing is lost, `modyn-client report {report.pipeline.id} --output DIR` writes it elsewhere"
        self.write(
            lambda folder: _fill(folder, report, resolved_yaml, job_outputs),
            replaces=(JOBS_FOLDER, TRIGGER_PLOT_FILE, HTML_FILE),  # this run may have none
            remedy=remedy,
        )

    def write_page(self, report: Report, resolved_yaml: str) -> None:
        """Adds :data:`HTML_FILE`. Apart, as pictures take seconds: the rest is there by then, whatever they fail on.

        Args:
            report, resolved_yaml: as of :meth:`write_report`.
        """
        from modyn.client.html import report_html

        write_text(self.path / HTML_FILE, report_html(report, resolved_yaml))


def _is_report(document: object) -> bool:
    return isinstance(document, dict) and {"schema_version", "modyn_version", "pipeline"} <= document.keys()


def _fill(folder: Path, report: Report, resolved_yaml: str, job_outputs: Sequence[Path]) -> None:
    from modyn.client.report_tables import report_tables
    from modyn.client.table_files import write_tables

    plot = trigger_plot(report)
    files = {
        PIPELINE_FILE: resolved_yaml.encode(),
        "windows.csv": windows_csv(report).encode(),
        "evaluations.csv": evaluations_csv(report).encode(),
        "report.md": report_markdown(report, has_plot=plot is not None).encode(),
        REPORT_FILE: (report.model_dump_json(indent=2) + "\n").encode(),
    }
    if plot is not None:
        files[TRIGGER_PLOT_FILE] = plot
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / TABLES_FOLDER).mkdir()
    write_tables(folder / TABLES_FOLDER, report_tables(report), "parquet", "report")
    for source in job_outputs:
        (folder / JOBS_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(source, folder / JOBS_FOLDER / source.name)


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


def read_run(folder: Path) -> tuple[Report, str]:
    """The report in a run folder, and the pipeline with every default filled in.

    Raises:
        InvalidInputError: one of them cannot be read.
    """
    return read_report(folder), read_text(folder / PIPELINE_FILE)


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

"""``report`` and ``compare``: what pipelines did, what they cost and what they were worth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.connection import Target
    from modyn.core.report import Report


class Format(StrEnum):
    """Of the files of tables."""

    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"


Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write it as one HTML file that needs no network, with charts."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Write the same data as tables, and tables.json with what they mean."),
]
DataFormat = Annotated[Format, typer.Option("--format", metavar="parquet|csv|json", help="Of the files of `--data`.")]


def report(
    pipeline_id: Annotated[
        str, typer.Argument(metavar="ID", help="As shown by `list`, or the folder of a run.", show_default=False)
    ],
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Also write the run folder there.")
    ] = None,
    html: Html = None,
    data: Data = None,
    data_format: DataFormat = Format.PARQUET,
    debug: opt.Debug = False,
) -> None:
    """Show a pipeline's report, and write it as HTML, tables or a run folder on request."""
    from modyn.client.connection import Target
    from modyn.client.result_folder import write_text
    from modyn.client.runfolder import RunFolder
    from modyn.client.table_files import DataFolder
    from modyn.client.tables import print_report

    folder = None if output is None else RunFolder(output)
    tables = None if data is None else DataFolder(data, "report")
    for target in (folder, tables):
        if target is not None:
            target.check()
    document, resolved_yaml = _runs([pipeline_id], Target(server, state, catalog), what="report")[pipeline_id]
    if folder is not None:
        folder.write_report(document, resolved_yaml)
        folder.write_page(document, resolved_yaml)
    if tables is not None:
        from modyn.client.report_tables import report_tables

        tables.write_tables(report_tables(document), data_format.value)
    if html is not None:
        from modyn.client.html import report_html

        write_text(html, report_html(document, resolved_yaml))
    print_report(document)


def compare(
    pipeline_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Two or more ids, or folders of runs.", show_default=False)
    ],
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="ID", help="Also compare every run with this one, beside the best one."),
    ] = None,
    handler: Annotated[str | None, typer.Option("--handler", metavar="NAME", help="Only this handler.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Only this evaluation dataset.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Only this metric, as reports call it.")
    ] = None,
    html: Html = None,
    data: Data = None,
    data_format: DataFormat = Format.PARQUET,
    debug: opt.Debug = False,
) -> None:
    """Compare pipelines: cost, and scores on the windows in which every one of them has an active model.

    Differences to the best run are paired, window by window, with confidence intervals. Runs that equal each other but
    for their seed are also averaged.
    """
    if len(set(pipeline_ids)) < 2:
        raise typer.BadParameter("expected at least two different ids or run folders")
    if reference is not None and reference not in pipeline_ids:
        raise typer.BadParameter(f"--reference {reference}: expected one of {', '.join(pipeline_ids)}")
    from modyn.client.comparison import compare as compare_reports
    from modyn.client.comparison_text import print_comparison
    from modyn.client.connection import Target
    from modyn.client.table_files import DataFolder

    tables = None if data is None else DataFolder(data, "comparison")
    if tables is not None:
        tables.check()
    references = list(dict.fromkeys(pipeline_ids))
    runs = _runs(references, Target(server, state, catalog), what="compare")
    comparison = compare_reports(
        [runs[ref][0] for ref in references],
        yamls=[runs[ref][1] for ref in references],
        reference=None if reference is None else references.index(reference),
    ).only(handler=handler, dataset=dataset, metric=metric)
    if tables is not None:
        from modyn.client.comparison_tables import comparison_tables

        tables.write_tables(comparison_tables(comparison), data_format.value)
    if html is not None:
        comparison.to_html(html)
    print_comparison(comparison)


def _runs(references: list[str], target: Target, *, what: str) -> dict[str, tuple[Report, str]]:
    """Report and YAML of each, from its folder or the server."""
    from modyn.client.connection import connected
    from modyn.client.runfolder import read_run
    from modyn.core.errors import InvalidInputError

    found = {reference: read_run(Path(reference)) for reference in references if _is_run_folder(reference)}
    asked = [reference for reference in references if reference not in found]
    for reference in asked:
        if not reference.isdigit():
            raise InvalidInputError(
                f"{what} {reference!r}: expected the id of a pipeline, or a folder with a report.json"
            )
    if asked:
        with connected(target, what=what) as client:
            found |= {reference: client.report_and_yaml(reference) for reference in asked}
    return found


def _is_run_folder(reference: str) -> bool:
    return (Path(reference) / "report.json").is_file()

"""``validate`` and ``schema``: pipelines without running them."""

from __future__ import annotations

from typing import Annotated

import typer

from modyn.client import options as opt


def validate(pipeline: opt.PipelineFile, debug: opt.Debug = False) -> None:
    """Check a pipeline file: every problem at once, with the key, the value and what was expected."""
    from modyn.core.config.reader import load_pipeline_file

    loaded = load_pipeline_file(pipeline)
    for notice in loaded.notices:
        typer.echo(f"notice: {notice}")
    for planned in loaded.planned:
        typer.echo(f"cannot run yet: {planned}")
    typer.echo(f"{pipeline}: valid")


def schema(
    report: Annotated[bool, typer.Option("--report", help="Of report.json instead of the pipeline.")] = False,
    debug: opt.Debug = False,
) -> None:
    """Print the JSON Schema of the pipeline file, for editors and checks."""
    import json

    if report:
        from modyn.core.report import Report

        document = Report.model_json_schema()
    else:
        from modyn.core.config.reader import json_schema

        document = json_schema()
    typer.echo(json.dumps(document, indent=2))

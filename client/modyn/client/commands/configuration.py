"""``validate`` and ``schema``: pipelines without running them."""

from __future__ import annotations

from typing import Annotated

import typer

from modyn.client import options as opt


def validate(
    pipeline: opt.PipelineFile,
    *,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also run one batch of real data through parser, model, loss and metrics; ingests what sources have.",
        ),
    ] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Check a pipeline file: every problem at once, with the key, the value and what was expected.

    With `--deep` it is also tried, on the server of `--server` or a private one; nothing is trained.
    """
    from modyn.core.config.reader import load_pipeline_file

    loaded = load_pipeline_file(pipeline)
    for notice in loaded.notices:
        typer.echo(f"notice: {notice}")
    for planned in loaded.planned:
        typer.echo(f"cannot run yet: {planned}")
    if deep:
        config = loaded.require_runnable()
        from modyn.client.connection import Target
        from modyn.client.deep_validation import check_file

        check_file(pipeline, config.pipeline.name, Target(server, state, catalog))
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

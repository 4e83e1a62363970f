"""``evaluate``: score the stored models of a pipeline, any time later."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modyn.client import options as opt


class Models(StrEnum):
    """Which models are scored on a window."""

    COMPOSITE = "composite"
    ACTIVE = "active"
    TRAINING = "training"
    MATRIX = "matrix"


Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--windows",
        metavar="W",
        help="Windows to score on; may be repeated. `1w`: slices of a week. `1d[-2d;+2d]`, or `every=1d "
        "interval=[-2d; +2d]`: around every day. Both with `START..END` behind them: within that span. `between`: from "
        "trigger to trigger. `offsets=-inf,+1w,inf`: before and after each model's training data. `START..END,…`: "
        "these (Unix seconds or ISO dates; END may be left out). `{type: …}`: any window strategy, as in YAML. "
        "Default: those of the pipeline's handlers.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        metavar="M",
        help="Metrics, with commas between them; may be repeated. Options follow a colon: "
        "`Accuracy,F1Score:average=weighted:per_class=true`. `{name: …}`: as in YAML. Default: those of the pipeline.",
    ),
]


def evaluate(
    pipeline_id: opt.PipelineId,
    *,
    windows: Windows = None,
    metrics: Metrics = None,
    models: Annotated[
        Models | None,
        typer.Option(
            "--models",
            metavar="composite|active|training|matrix",
            help="The models that were active or trained at a window, only the active, only the trained, or every "
            "model on every window. Default: composite.",
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", metavar="NAME", help="Evaluation dataset; may be repeated. Default: those of the pipeline."
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slices", metavar="COLUMN", help="Also score by the values of this column; may be repeated."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What reports call it. Default: what the options say."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="A YAML file with an `evaluation` section, instead of the options above."
        ),
    ] = None,
    handler: Annotated[
        list[str] | None,
        typer.Option(
            "--handler", metavar="NAME", help="Only this handler of the pipeline or the file; may be repeated."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also score what was scored already.")] = False,
    no_reuse: Annotated[
        bool, typer.Option("--no-reuse", help="Run models again even where their predictions are stored.")
    ] = False,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Score the stored models of a pipeline that has ended: on other windows, with other metrics, on other data.

    Nothing is trained, and stored predictions are used where there are any. Without options, what is missing of the
    pipeline's own handlers is finished, those that are `manual` included. Results become part of the pipeline's report.
    After Ctrl-C, what was scored stays, and the same command goes on.
    """
    from modyn.client.connection import Target
    from modyn.client.evaluating import evaluate_pipeline
    from modyn.client.evaluation_section import Wanted

    wanted = Wanted(
        windows=windows or (),
        metrics=metrics or (),
        models=None if models is None else models.value,
        datasets=dataset or (),
        slices=slices or (),
        name=name,
    )
    if name is not None and not name.strip():
        raise typer.BadParameter("--name '': expected what reports should call it")
    if config is not None and wanted:
        raise typer.BadParameter("--config says all of it; leave --windows, --metrics and their like out")
    if wanted and handler:
        raise typer.BadParameter(
            "--handler names handlers that are there; leave --windows, --metrics and their like out"
        )
    evaluate_pipeline(
        pipeline_id,
        wanted,
        target=Target(server, state, catalog),
        config=config,
        handlers=handler or (),
        reuse=not no_reuse,
        again=again,
    )

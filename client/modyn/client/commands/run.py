"""``run`` and ``submit``: start a pipeline."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modyn.client import options as opt

if TYPE_CHECKING:
    from modyn.client.api import LiveOptions, ReplayOptions
    from modyn.core.config.pipeline import PipelineConfig


class Order(StrEnum):
    """In which order a replay shows samples."""

    EVENT = "event"
    ARRIVAL = "arrival"


ReplayOrder = Annotated[
    Order,
    typer.Option(
        "--order", metavar="event|arrival", help="Replay by event time, or in the order in which samples arrived."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", help="Folder for the results.", show_default="runs/NAME"),
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Afterwards train on as many samples without the downsampling strategy, drawn uniformly and in fewer "
        "epochs, and compare.",
    ),
]


def run(
    pipeline: opt.PipelineFile,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    output: Output = None,
    start_replay_at: opt.StartReplay = None,
    stop_replay_at: opt.StopReplay = None,
    maximum_triggers: opt.MaximumTriggers = None,
    order: ReplayOrder = Order.EVENT,
    start_key: opt.StartKey = None,
    end_key: opt.EndKey = None,
    live: opt.Live = False,
    no_reuse: opt.NoReuse = False,
    baselines: Baselines = False,
    catalog: opt.CatalogUrl = None,
    debug: opt.Debug = False,
) -> None:
    """Run a pipeline, show its progress, and write its report.

    Without `--server` a private server is started and stopped again; its state directory stays, so that `report`,
    `compare` and `list` work afterwards. Ctrl-C stops the pipeline and still writes the report of what was done;
    a second Ctrl-C gives up.
    """
    from modyn.client.head_start import jobs_begun

    with jobs_begun(wanted=server is None) as launcher:
        mode = _mode(
            live, start=start_replay_at, stop=stop_replay_at, order=order, start_key=start_key, end_key=end_key
        )
        if baselines and live:
            raise typer.BadParameter(
                "--baselines trains on the same samples again and cannot go with --live; replay them"
            )
        config = load_runnable(pipeline)
        if baselines:
            from modyn.client.baselines import check_has_downsampling

            check_has_downsampling(config)
        from modyn.client.connection import Target
        from modyn.client.running import run_pipeline

        run_pipeline(
            pipeline,
            config.pipeline.name,
            mode,
            target=Target(server, state, catalog),
            output=output or Path("runs") / _folder_name(config.pipeline.name),
            maximum_triggers=maximum_triggers,
            reuse=not no_reuse,
            baselines=baselines,
            launcher=launcher,
        )


def submit(
    pipeline: opt.PipelineFile,
    *,
    server: opt.ServerAddress = None,
    state: opt.State = opt.DEFAULT_STATE,
    start_replay_at: opt.StartReplay = None,
    stop_replay_at: opt.StopReplay = None,
    maximum_triggers: opt.MaximumTriggers = None,
    order: ReplayOrder = Order.EVENT,
    start_key: opt.StartKey = None,
    end_key: opt.EndKey = None,
    live: opt.Live = False,
    no_reuse: opt.NoReuse = False,
    debug: opt.Debug = False,
) -> None:
    """Hand a pipeline to a running server and print its id.

    Follow it with `watch`. The server is the one named by `--server`, or the one that uses the state directory.
    """
    mode = _mode(live, start=start_replay_at, stop=stop_replay_at, order=order, start_key=start_key, end_key=end_key)
    load_runnable(pipeline)
    from modyn.client.connection import Target, running_server

    with running_server(Target(server, state, None)) as client:
        typer.echo(client.submit(pipeline, mode, maximum_triggers=maximum_triggers, reuse=not no_reuse))


def _mode(
    live: bool, *, start: int | None, stop: int | None, order: Order, start_key: int | None, end_key: int | None
) -> ReplayOptions | LiveOptions:
    if not live:
        return replay_options(start=start, stop=stop, order=order, start_key=start_key, end_key=end_key)
    from modyn.client.api import LiveOptions

    replay_only = {"--start-replay-at": start, "--stop-replay-at": stop, "--end-key": end_key}
    given = [name for name, value in replay_only.items() if value is not None]
    if given or order is not Order.EVENT:
        raise typer.BadParameter(f"{', '.join(given) or '--order'} is for replays and cannot go with --live")
    return LiveOptions(start_key=start_key)


def replay_options(
    *, start: int | None, stop: int | None, order: Order, start_key: int | None, end_key: int | None
) -> ReplayOptions:
    """
    Raises:
        typer.BadParameter: the options contradict each other.
    """
    if start is not None and stop is not None and stop <= start:
        raise typer.BadParameter(f"--stop-replay-at {stop} must be later than --start-replay-at {start}")
    if end_key is not None and end_key <= (start_key or 0):
        raise typer.BadParameter(f"--end-key {end_key} must be larger than --start-key {start_key or 0}")
    from modyn.client.api import ReplayOptions

    return ReplayOptions(start=start, stop=stop, order=order.value, start_key=start_key, end_key=end_key)


def load_runnable(pipeline: Path) -> PipelineConfig:
    """The pipeline, or all that is wrong with it; before anything is started."""
    from modyn.core.config.reader import load_pipeline_file

    return load_pipeline_file(pipeline).require_runnable()


def _folder_name(name: str) -> str:
    """A pipeline's name as a folder name."""
    kept = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    return kept.lstrip(".") or "pipeline"

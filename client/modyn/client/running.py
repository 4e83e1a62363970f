"""``modyn-client run``: a pipeline from its file to its run folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from modyn.client.api import Client, LiveOptions, ReplayOptions, raise_for_status
from modyn.client.baselines import BASELINES
from modyn.client.connection import Target, start_patiently
from modyn.client.costs import failed_at_once
from modyn.client.display import Display, display_for
from modyn.client.runfolder import RunFolder
from modyn.client.server import EmbeddedServer
from modyn.client.signals import StopOnSignal
from modyn.client.tables import print_report
from modyn.core.errors import ModynError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.state import SERVICES, StateDirectory
from modyn.proto.supervisor_pb2 import Pipeline


def run_pipeline(
    path: Path,
    name: str,
    mode: ReplayOptions | LiveOptions,
    *,
    target: Target,
    output: Path,
    maximum_triggers: int | None,
    reuse: bool,
    baselines: bool = False,
    launcher: ForkServerLauncher | None = None,
) -> None:
    """Runs a pipeline to its end and writes the run folder; whatever happens, no process is left.

    Args:
        path: of the pipeline.
        name: of the pipeline.
        mode: what is replayed, or that it runs live.
        target: where.
        output: the run folder.
        maximum_triggers: stop after these.
        reuse: use stored results of the same inputs.
        baselines: afterwards run the two pipelines that its downsampling is compared with.
        launcher: of a private server's jobs, begun ahead.

    Raises:
        InvalidInputError: the user's input is at fault.
        ModynError: it failed; the report of what was done is written nevertheless.
        typer.Exit: it was stopped by a signal.
    """
    folder = RunFolder(output)
    folder.check()
    display = display_for(sys.stderr)
    if target.server is None:
        display.say(f"starting a private server on the state directory {target.state}")
    with serving(target, f"run {name}", launcher=launcher) as client:
        pipeline_id = client.submit(path, mode, maximum_triggers=maximum_triggers, reuse=reuse)
        runs = [follow(client, pipeline_id, display, stops=True)]
        between = StopOnSignal(lambda: None)  # while no pipeline runs: the report is still shown
        if baselines and _comparable(client, *runs[0], display):
            folder.write_report(*client.report_and_yaml(pipeline_id))  # whatever becomes of a baseline, this is there
            with between:
                runs += _run_baselines(client, pipeline_id, path.absolute().parent, between, reuse=reuse)
        report, resolved_yaml = client.report_and_yaml(pipeline_id)
        failed = next((ended for ended, _ in runs if ended.HasField("error")), None)
        jobs = [] if target.server is not None or failed is None else _job_outputs(target.state, failed.id)
        nothing_done = failed is not None and failed_at_once(report)
        if not (nothing_done and folder.holds_results()):  # a good report is not given up for that of a false start
            folder.write_report(report, resolved_yaml, job_outputs=jobs)
            print_report(report)
            typer.echo(f"results: {shown_path(folder.path)}")
            typer.echo(f"with charts: modyn-client report {pipeline_id} --html FILE")
    if failed is not None:
        if failed.HasField("baseline_of"):
            failed.error.message = f"{failed.name}: {failed.error.message}"
        raise_for_status(failed)
    for ended, stopper in runs:
        if stopper.received is not None and ended.status != Pipeline.COMPLETED:
            raise typer.Exit(stopper.received.exit_status)
    if between.received is not None:
        raise typer.Exit(between.received.exit_status)


def _comparable(client: Client, ended: Pipeline, stopper: StopOnSignal, display: Display) -> bool:
    """Whether baselines can be run; says why not."""
    if ended.status != Pipeline.COMPLETED or stopper.received is not None:
        display.say("no baseline is run: the pipeline was not completed")
    elif client.report(ended.id).downsampling is None:
        display.say("no baseline is run: no trigger of the pipeline downsampled its training set")
    else:
        return True
    return False


def _run_baselines(
    client: Client, pipeline_id: str, folder: Path, between: StopOnSignal, *, reuse: bool
) -> Iterator[tuple[Pipeline, StopOnSignal]]:
    """One after the other, until one is stopped; a failed one does not keep the next one from running."""
    for place, (kind, what) in enumerate(BASELINES.items(), start=1):
        if between.received is not None:
            return
        display = display_for(sys.stderr)
        display.say(f"baseline {place} of {len(BASELINES)}: {what}")
        baseline_id = client.submit_baseline(pipeline_id, kind, folder=folder, reuse=reuse)
        ended, stopper = follow(client, baseline_id, display, stops=True)
        yield ended, stopper
        if stopper.received is not None:
            return


def follow(client: Client, pipeline_id: str, display: Display, *, stops: bool) -> tuple[Pipeline, StopOnSignal]:
    """Shows a pipeline until it has ended.

    Args:
        client: connected to its server.
        pipeline_id: of the pipeline.
        display: where to show it.
        stops: the first Ctrl-C asks the pipeline to stop.
    """

    def stop() -> None:
        display.say("stopping the pipeline; press Ctrl-C again to give up at once")
        with suppress(ModynError):  # it may have ended meanwhile
            client.stop(pipeline_id, wait=False)

    stopper = StopOnSignal(stop)
    if not stops:
        with display:
            return _follow(client, pipeline_id, display), stopper
    with stopper, display:
        return _follow(client, pipeline_id, display), stopper


def _follow(client: Client, pipeline_id: str, display: Display) -> Pipeline:
    for event in client.watch(pipeline_id):
        display.handle(event)
    return client.status(pipeline_id)


@contextmanager
def serving(
    target: Target, what: str, *, services: Sequence[str] = SERVICES, launcher: ForkServerLauncher | None = None
) -> Iterator[Client]:
    """A client of the server that was named, or of a private one that lives as long as the command.

    Args:
        target: the options.
        what: how the private server calls itself.
        services: what the private server serves.
        launcher: of its jobs, begun ahead; by default one is started.
    """
    if target.server is not None:
        with Client(target.server) as client:
            yield client
        return
    server = EmbeddedServer(
        StateDirectory(target.state), what, services=services, catalog_url=target.catalog, launcher=launcher
    )
    start_patiently(server)
    with Client.of_server(server, owned=True) as client:
        yield client


def _job_outputs(state: Path, pipeline_id: str) -> list[Path]:
    """Non-empty files with what the pipeline's jobs printed."""
    folder = StateDirectory(state).path / "jobs" / pipeline_id
    return [path for path in sorted(folder.glob("*")) if path.is_file() and path.stat().st_size]


def shown_path(path: Path) -> Path:
    """Relative to the working directory if it is in there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

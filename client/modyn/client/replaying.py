"""A pipeline from a notebook: replay it, and have its results at hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any, Literal, NoReturn, overload

from modyn.client.api import Client, ReplayOptions, raise_for_status
from modyn.client.connection import Target
from modyn.client.display import display_for
from modyn.client.head_start import jobs_begun
from modyn.client.overrides import overridden, read_tree
from modyn.client.results import PipelineResult
from modyn.client.running import follow, serving
from modyn.client.signals import Interrupted
from modyn.proto.supervisor_pb2 import Pipeline

Section = Mapping[str, Any]


@overload
def replay(pipeline: Section | Path | str, *, seeds: None = None, **options: Any) -> PipelineResult: ...


@overload
def replay(pipeline: Section | Path | str, *, seeds: Sequence[int], **options: Any) -> list[PipelineResult]: ...


def replay(  # type: ignore[misc] # the keywords are spelled out once
    pipeline: Section | Path | str,
    *,
    trigger: Section | None = None,
    selection: Section | None = None,
    training: Section | None = None,
    model: Section | None = None,
    evaluation: Section | None = None,
    changes: Section | None = None,
    name: str | None = None,
    seeds: Sequence[int] | None = None,
    start: int | None = None,
    stop: int | None = None,
    order: Literal["event", "arrival"] = "event",
    maximum_triggers: int | None = None,
    reuse: bool = True,
    state: Path | str = ".modyn",
    server: Client | str | None = None,
    quiet: bool = False,
) -> PipelineResult | list[PipelineResult]:
    """Replays a pipeline over history, waits for it, and answers its results.

    Trainings and evaluations that were done before are reused, so calling it again is fast. Progress goes to standard
    error. Ctrl-C (the stop button of a notebook) stops the pipeline, which still evaluates what it trained.

    >>> from modyn.client import replay
    >>> weekly = replay("pipeline.yaml", trigger={"id": "TimeTrigger", "every": "1w"})  # doctest: +SKIP
    >>> weekly.plot()  # doctest: +SKIP

    Args:
        pipeline: a YAML file, YAML text (recognised by its line breaks), or sections by name.
        trigger, selection, training, model, evaluation: each replaces the section of its name (``selection``:
            ``selection_strategy``) as a whole; nothing of the old one stays.
        changes: single values by dotted key, such as ``{"training.batch_size": 64}``; made after that.
        name: of the pipeline, instead of the one in the file.
        seeds: replay it once with each of these as ``training.seed``.
        start, stop, order: as of :class:`modyn.client.ReplayOptions`.
        maximum_triggers, reuse: as of :meth:`modyn.client.Client.submit`.
        state: state directory of the private server that is started for the call, where no server is named.
        server: a client that is open, or the address of a server.
        quiet: show no progress.

    Returns:
        The result; with ``seeds`` one for each.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was done until then is there under the id that it names.
        InvalidInputError: something is wrong in the pipeline.
        ModynError: it failed.
    """
    tree, folder = read_tree(pipeline)
    sections = {
        "trigger": trigger,
        "selection_strategy": selection,
        "training": training,
        "model": model,
        "evaluation": evaluation,
    }
    common = {**(changes or {}), **({} if name is None else {"pipeline.name": name})}
    texts = [
        overridden(tree, sections, common if seed is None else {**common, "training.seed": seed})
        for seed in (seeds if seeds is not None else [None])
    ]
    mode = ReplayOptions(start=start, stop=stop, order=order)
    results = []
    with _client(server, Path(state)) as client:
        for text in texts:
            pipeline_id = client.submit(text, mode, maximum_triggers=maximum_triggers, reuse=reuse, folder=folder)
            ended, stopper = follow(client, pipeline_id, display_for(sys.stderr, quiet=quiet), stops=True)
            raise_for_status(ended)
            if stopper.received is not None and ended.status != Pipeline.COMPLETED:
                _go_on_ending(stopper.received, pipeline_id)
            results.append(client.result(pipeline_id))
    return results if seeds is not None else results[0]


def _go_on_ending(signal: Interrupted, pipeline_id: str) -> NoReturn:
    """What a signal means to a program; the pipeline has been stopped cleanly."""
    done = f"pipeline {pipeline_id} was stopped; Client.result({pipeline_id!r}) has what was done"
    raise KeyboardInterrupt(done) if signal.number == SIGINT else SystemExit(signal.exit_status)


@contextmanager
def _client(server: Client | str | None, state: Path) -> Iterator[Client]:
    if isinstance(server, Client):
        yield server
        return
    with (
        jobs_begun(wanted=server is None) as launcher,
        serving(Target(server, state, None), "a notebook", launcher=launcher) as client,
    ):
        yield client

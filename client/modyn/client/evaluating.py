"""``modyn-client evaluate``: from its options to the scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modyn.client.connection import Target, connected
from modyn.client.display import display_for
from modyn.client.evaluation_section import Wanted, evaluation_section
from modyn.client.signals import Interrupted
from modyn.client.tables import console, print_scores
from modyn.core.config.source import read_document, read_text
from modyn.core.errors import JobFailedError
from modyn.core.report import Report

SERVICES = ("storage", "evaluator", "supervisor")
"""What a private server needs to score stored models."""


def evaluate_pipeline(
    pipeline_id: str,
    wanted: Wanted,
    *,
    target: Target,
    config: Path | None,
    handlers: Sequence[str],
    reuse: bool,
    again: bool,
) -> None:
    """Scores stored models, shows progress, and then the scores.

    Args:
        pipeline_id: of a pipeline that has ended.
        wanted: what the options ask for; may be nothing.
        target: where.
        config: a file with an ``evaluation`` section instead.
        handlers: only these of the pipeline or the file.
        reuse: use stored predictions.
        again: also score what was scored already.

    Raises:
        InvalidInputError: an option cannot be understood.
        JobFailedError: no model could be scored.
        ModynError: as of :meth:`modyn.client.Client.evaluate`.
    """
    tree = None if config is None else read_document(read_text(config), str(config)).tree  # before a server starts
    display = display_for(sys.stderr)
    with connected(target, what=f"evaluate {pipeline_id}", services=SERVICES, announce=True, runs_jobs=True) as client:
        before, resolved_yaml = client.report_and_yaml(pipeline_id)
        section = evaluation_section(wanted, resolved_yaml) if wanted else tree
        asked = set(handlers) or _names(section)
        events = client.evaluate(pipeline_id, config or section, handlers, reuse=reuse, again=again)
        failures = 0
        with display:
            try:
                for event in events:
                    if event.WhichOneof("kind") != "pipeline":  # it has ended long ago
                        display.handle(event)
                    if event.evaluation.done:
                        failures += event.evaluation.failures
            except (KeyboardInterrupt, Interrupted):
                display.say("what was scored stays; the same command goes on from there")
                raise
        report = client.report(pipeline_id)
    _show(report, asked, before, failed=failures > 0)


def _names(section: Mapping[str, Any] | None) -> set[str]:
    """The handlers of a section; none: those of the pipeline."""
    if section is None:
        return set()
    inner = section.get("evaluation", section)
    handlers = inner.get("handlers") if isinstance(inner, Mapping) else None
    named = handlers if isinstance(handlers, list) else []  # the server says what is wrong
    return {str(handler["name"]) for handler in named if isinstance(handler, Mapping) and "name" in handler}


def _show(report: Report, asked: set[str], before: Report, *, failed: bool) -> None:
    """The scores of what was asked for; if nothing was named, those that are new, or all.

    Args:
        failed: whether something failed now.

    Raises:
        JobFailedError: no model could be scored.
    """
    scored = _scored(report)
    shown = asked & scored if asked else (scored - _scored(before)) or scored
    out = console()
    if shown:
        print_scores(out, _only(report, shown))
    for failure in report.failures if failed else ():
        out.print(f"failed: {failure}", soft_wrap=True, markup=False)
    models = {score.handler for score in report.evaluations if any(v is not None for v in score.metrics.values())}
    if failed and not models & (asked or scored):
        raise JobFailedError("no model could be scored; the lines above say why")
    if not shown and asked:
        out.print(f"Nothing was scored: no window of {', '.join(sorted(asked))} has samples with labels.", markup=False)
    elif not shown:
        out.print("Nothing was scored: the pipeline has no evaluation handler; name windows with --windows.")


def _scored(report: Report) -> set[str]:
    """Handlers that have scores, of models or of baselines."""
    composite = {name for name, datasets in report.composite.items() if any(datasets.values())}
    return composite | {part.handler for part in report.offsets}


def _only(report: Report, handlers: set[str]) -> Report:
    return report.model_copy(
        update={
            "composite": {name: part for name, part in report.composite.items() if name in handlers},
            "transfer": [part for part in report.transfer if part.handler in handlers],
            "offsets": [part for part in report.offsets if part.handler in handlers],
        }
    )

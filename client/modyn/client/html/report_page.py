"""What a report's page shows, in which order."""

from __future__ import annotations

from modyn.client.composites import whole_scores
from modyn.client.costs import cost_rows
from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.html.blocks import Block, Bullets, Cell, Facts, Page, Section, Source, Table, Words
from modyn.client.html.history import lineage_section, timeline_section, trigger_section, windows_section
from modyn.client.html.scores import score_sections
from modyn.client.options import format_time
from modyn.client.settings import evaluation_settings
from modyn.client.wording import best_baseline, interpretation, interval, number, readable, with_interval
from modyn.core.report import Report

TONES = {"completed": "good", "failed": "bad", "interrupted": "bad"}
"""How a status stands out; others are plain."""


def report_page(report: Report, resolved_yaml: str) -> Page:
    """The page of a report.

    Args:
        report: of a run.
        resolved_yaml: the pipeline with every default filled in.
    """
    pipeline, run = report.pipeline, report.run
    sections = [
        Section("summary", "Summary", _summary(report)),
        Section("problems", "What went wrong", _problems(report)),
        *score_sections(report),
        trigger_section(report),
        timeline_section(report),
        Section("downsampling", TITLE, _downsampling(report)),
        Section("cost", "Cost", _cost(report)),
        windows_section(report),
        lineage_section(report),
        Section("pipeline", "Pipeline", [Source(resolved_yaml, "The pipeline with every default filled in")]),
    ]
    simulated = ", simulated: only the trigger ran, nothing was trained" if run.simulated else ""
    return Page(
        title=pipeline.name,
        status=status_cell(report),
        subtitle=f"pipeline {pipeline.id} on {pipeline.dataset}, {run.mode} in order of "
        f"{'event time' if run.order == 'event' else 'arrival'}{simulated}",
        sections=sections,
        footer=footer(report.modyn_version),
    )


def status_cell(report: Report) -> Cell:
    """How the run ended."""
    return Cell(report.pipeline.status, badge=TONES.get(report.pipeline.status, "plain"))


def footer(version: str) -> str:
    return f"Written by modyn {version}. All times are UTC. The same data are in report.json and in its tables."


def _summary(report: Report) -> list[Block]:
    pipeline, run, cost = report.pipeline, report.run, report.cost
    blocks: list[Block] = [Words(pipeline.description)] if pipeline.description else []
    main = next(iter(whole_scores(report)), None)
    key_facts = [
        ("triggers", f"{len(report.triggers):,}", ""),
        ("trainings", f"{cost.trainings:,}", f"{cost.trainings_reused:,} reused" if cost.trainings_reused else ""),
        ("samples trained", f"{cost.samples_trained:,}", ""),
        ("training", f"{cost.train_seconds:.1f} s", ""),
        ("wall time", f"{cost.wall_seconds:.1f} s", ""),
    ]
    if main is not None:
        handler, dataset, metric, score = main
        value = with_interval(score.currently_active, score.interval)
        said = f"{metric} of the active models, {handler} on {dataset}: {value}. {interpretation(score)}"
        blocks.append(Words(said, "lead"))
        key_facts.insert(0, (f"{metric}, active", number(score.currently_active), interval(score.interval)))
        best = best_baseline(score)
        if best is not None:
            key_facts.insert(1, (f"{readable(best[0])}, no model", number(best[1]), ""))
    elif run.simulated:
        blocks.append(Words("Only the trigger ran: nothing was trained, so there is nothing to score.", "lead"))
    elif pipeline.error is None:
        blocks.append(
            Words("Nothing was evaluated; an evaluation section would say what the models are worth.", "lead")
        )
    blocks.append(Facts(key_facts))
    rows = [
        ("status", pipeline.status),
        *([("version", pipeline.version)] if pipeline.version else []),
        ("data", f"{run.samples_seen:,} samples"),
        ("from", format_time(run.first_timestamp)),
        ("to", format_time(run.last_timestamp)),
        ("seed", str(run.seed)),
        *_limits(report),
        *evaluation_settings(report),
    ]
    return [*blocks, Table("How it was run", ("", ""), rows, texts=frozenset({1}))]


def _limits(report: Report) -> list[tuple[str, str]]:
    run = report.run
    found = [
        ("replayed from", None if run.start is None else format_time(run.start)),
        ("replayed up to", None if run.stop is None else format_time(run.stop)),
        ("from key", None if run.start_key is None else f"{run.start_key:,}"),
        ("before key", None if run.end_key is None else f"{run.end_key:,}"),
        ("at most", None if run.maximum_triggers is None else f"{run.maximum_triggers:,} triggers"),
    ]
    return [(name, value) for name, value in found if value is not None]


def _problems(report: Report) -> list[Block]:
    blocks: list[Block] = []
    if report.pipeline.error is not None:
        blocks += [Words("The pipeline failed:", "bad"), Source(report.pipeline.error, "Why the pipeline failed")]
    if report.failures:
        blocks += [Words("Evaluations that failed; everything else was finished:", "bad"), Bullets(report.failures)]
    if report.pipeline.notices:
        blocks += [Words("Notices:"), Bullets(report.pipeline.notices)]
    return blocks


def _downsampling(report: Report) -> list[Block]:
    part = report.downsampling
    if part is None:
        return []
    blocks: list[Block] = [Words(part.verdict), Table("What it did and took", ("", ""), facts(part), frozenset({1}))]
    header, rows = comparison(report)
    if rows:
        blocks.append(Table("With as many passes: cost and currently active scores", header, rows))
    return blocks


def _cost(report: Report) -> list[Block]:
    caption = "Reused results count with their original cost; the part that earlier runs paid for is named"
    return [Table(caption, ("what", "cost"), cost_rows(report), frozenset({1}))]

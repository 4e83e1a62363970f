"""The sections on what happened: triggers and why they fired, where time went, windows, lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modyn.client.charts.looks import trigger_figure
from modyn.client.charts.series import MAX_POINTS
from modyn.client.charts.timeline import MOST_BARS, timeline_figure
from modyn.client.explanations import count as counts
from modyn.client.explanations import shown_table, worth_showing
from modyn.client.html.blocks import Block, Cell, Fold, Section, Table, Words
from modyn.client.html.drawing import picture
from modyn.client.options import format_time
from modyn.client.trigger_plot import MAX_PANELS, panels, worth_plotting
from modyn.client.wording import count, number, readable, with_interval
from modyn.core.report import Report, TriggerPart, WindowPart, WindowScore
from modyn.core.scores import ScoreName

MOST_ROWS = 200
"""Of a table; longer ones would make the page slow on a phone."""

DIGITS = 12
"""Of a digest; the whole of it is behind it."""

CERTIFICATIONS: Mapping[str | None, str | Cell] = {
    "certified": Cell("certified", "all samples have the role test: no training ever saw one", "good"),
    "cross_validation": Cell("cross-validation", "some of its samples may be trained on, too", "plain"),
    None: "–",
}


def trigger_section(report: Report) -> Section:
    """Why triggers fired, and which did."""
    return Section("triggers", "Triggers", list(_triggers(report)))


def _triggers(report: Report) -> Iterator[Block]:
    looked = report.trigger_evaluations
    if not report.triggers:
        yield Words("No trigger fired.")
    if worth_plotting(looked):
        found = panels(looked)
        notes = []
        if len(found) > MAX_PANELS:
            notes.append(f"{len(found) - MAX_PANELS:,} more findings are left out.")
        if max(len(panel.times) for panel in found) > MAX_POINTS:
            notes.append(f"Drawn from the peaks of {len(looked):,} evaluations.")
        yield picture(
            "trigger-statistic",
            "What the trigger measured against its threshold, and when it fired",
            lambda size: trigger_figure(report, size=size),
            description=str(counts(looked)),
            note=" ".join(notes),
        )
    if worth_showing(looked):
        yield Words(f"{counts(looked)}.", "muted")
        header, rows = shown_table(looked[-MOST_ROWS:])
        note = f"The last {MOST_ROWS:,} of {len(looked):,} evaluations; {_elsewhere(report)}."
        words = frozenset(
            i for i, name in enumerate(header) if name in ("data time", "finding", "vote", "outcome", "why")
        )
        table = Table("Evaluations of the trigger", header, rows, words, note if len(looked) > MOST_ROWS else "")
        yield Fold(f"Why it fired, or did not: {count(len(looked), 'evaluation')}", [table])
    if report.triggers:
        shown = report.triggers[:MOST_ROWS]
        header = ("trigger", "data clock", "reason", "new samples", "trained on", "passes", "loss", "training")
        table = Table(
            "Triggers in the order in which they fired",
            header,
            [_trigger_row(trigger) for trigger in shown],
            texts=frozenset({1, 2, 7}),
            note=_left_out(report, len(shown), len(report.triggers), "triggers"),
        )
        yield Fold(f"All {count(len(report.triggers), 'trigger')}", [table])


def _trigger_row(trigger: TriggerPart) -> tuple[str | Cell, ...]:
    unlabelled = f" ({trigger.unlabelled:,} without label)" if trigger.unlabelled else ""
    outcome: str | Cell = "new" if trigger.model is not None else "none"
    return (
        str(trigger.index),
        format_time(trigger.timestamp),
        trigger.reason,
        f"{trigger.new_samples:,}{unlabelled}",
        f"{trigger.samples:,}",
        f"{trigger.samples_trained:,}",
        number(trigger.final_loss),
        Cell("reused", "an earlier training of the same inputs", "plain") if trigger.reused else outcome,
    )


def timeline_section(report: Report) -> Section:
    """Where the time of each trigger went."""
    if not report.triggers or report.run.simulated:
        return Section("timeline", "Where the time went")
    together = -(-len(report.triggers) // MOST_BARS)
    figure = picture(
        "stages",
        "Seconds of each stage of each trigger; of a reused training, those it took originally",
        lambda size: timeline_figure(report, size=size),
        note=f"Each bar is the mean of {together} triggers." if together > 1 else "",
    )
    shown = report.triggers[:MOST_ROWS]
    rows = [
        (
            str(t.index),
            *(number(seconds, 3) for seconds in (t.seconds.select, t.seconds.start, t.seconds.train, t.seconds.store)),
            number(t.seconds.evaluate, 3),
            number(t.seconds.total, 3),
            number(t.first_batch_ms, 0),
            "yes" if t.reused else "",
        )
        for t in shown
    ]
    header = (
        "trigger",
        "select s",
        "start s",
        "train s",
        "store s",
        "evaluate s",
        "total s",
        "first batch ms",
        "reused",
    )
    note = _left_out(report, len(shown), len(report.triggers), "triggers")
    table = Table("Seconds of each stage", header, rows, frozenset({8}), note)
    return Section("timeline", "Where the time went", [figure, Fold("As a table", [table])])


def windows_section(report: Report) -> Section:
    """The windows of each handler and dataset with their first metric."""
    groups: dict[tuple[str, str], list[WindowPart]] = {}
    for window in report.windows:
        groups.setdefault((window.handler, window.dataset), []).append(window)
    blocks = []
    for (handler, dataset), windows in groups.items():
        shown = sorted(windows, key=lambda w: (w.start, w.end))[:MOST_ROWS]
        metric = next((name for w in windows for name in w.scores if ScoreName.parse(name).is_whole), None)
        note = _left_out(report, len(shown), len(windows), "windows")
        table = _windows_table(f"{handler} on {dataset}", shown, metric, note)
        blocks.append(Fold(f"{handler} on {dataset}: {count(len(windows), 'window')}", [table]))
    return Section("windows", "Windows", blocks)


def _windows_table(place: str, windows: list[WindowPart], metric: str | None, note: str) -> Table:
    scores = [None if metric is None else w.scores.get(metric) for w in windows]
    baselines = sorted({name for score in scores if score is not None for name in score.baselines})
    header = [
        *("from", "to (exclusive)", "samples", "without label", "active trigger"),
        *(f"{metric or 'score'}, active", "trained", *(f"{readable(name)} (no model)" for name in baselines)),
        *("scored on", "data digest"),
    ]
    rows: list[Sequence[str | Cell]] = [
        (
            format_time(window.start),
            format_time(window.end),
            f"{window.samples:,}",
            f"{window.unlabelled:,}",
            "–" if window.active_trigger is None else str(window.active_trigger),
            *_window_scores(score, baselines),
            CERTIFICATIONS[window.certification],
            _digest(window.data_digest),
        )
        for window, score in zip(windows, scores, strict=True)
    ]
    return Table(f"Windows of {place}", header, rows, frozenset({1, len(header) - 2, len(header) - 1}), note)


def _window_scores(score: WindowScore | None, baselines: list[str]) -> tuple[str, ...]:
    if score is None:
        return (number(None),) * (2 + len(baselines))
    active = with_interval(score.currently_active, score.interval)
    return active, number(score.currently_trained), *(number(score.baselines.get(name)) for name in baselines)


def lineage_section(report: Report) -> Section:
    """What every model was made from, and what scores depend on."""
    blocks: list[Block] = []
    if report.triggers:
        shown = report.triggers[:MOST_ROWS]
        rows = [
            (
                str(t.index),
                _digest(t.training_set),
                _digest(t.input_digest),
                _digest(t.model),
                format_time(t.live_from) if t.live_from is not None else "–",
            )
            for t in shown
        ]
        header = ("trigger", "training set", "inputs of the training", "model", "live from")
        note = _left_out(report, len(shown), len(report.triggers), "triggers")
        table = Table("Digests of what each model was made from", header, rows, frozenset({1, 2, 3, 4}), note)
        blocks.append(Fold(f"Models of {count(len(report.triggers), 'trigger')}", [table]))
    part = report.evaluation
    if part is not None and part.metrics:
        rows_of_metrics = [(m.name, m.dataset, _digest(m.digest)) for m in part.metrics]
        header_of_metrics = ("metric", "dataset", "digest")
        blocks.append(Table("Metrics", header_of_metrics, rows_of_metrics, frozenset({1, 2})))
    if not blocks:
        return Section("lineage", "Lineage")
    said = f"modyn {report.modyn_version}. Digests are shortened; report.json has the whole of each."
    return Section("lineage", "Lineage", [Words(said, "muted"), *blocks])


def _digest(digest: str | None) -> str | Cell:
    if digest is None:
        return "–"
    return Cell(digest[:DIGITS], digest) if len(digest) > DIGITS else digest


def _left_out(report: Report, shown: int, total: int, what: str) -> str:
    return f"The first {shown:,} of {total:,} {what}; {_elsewhere(report)}." if shown < total else ""


def _elsewhere(report: Report) -> str:
    return f"`modyn-client report {report.pipeline.id} --data DIR` writes all of them as tables"

"""What a comparison's page shows, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modyn.client.charts.composite import curves_figure
from modyn.client.charts.pareto import pareto_figure
from modyn.client.charts.style import letter
from modyn.client.compared_scores import COSTS, ComparedScore, total_seconds
from modyn.client.comparison import RUN_OPTIONS, Comparison
from modyn.client.costs import readable_bytes
from modyn.client.html.blocks import Block, Bullets, Cell, Fold, Heading, Page, Picture, Section, Source, Table, Words
from modyn.client.html.drawing import picture
from modyn.client.html.report_page import footer, status_cell
from modyn.client.html.scores import MOST_DETAILS
from modyn.client.html.yaml_differences import differences
from modyn.client.wording import count, interval, number, readable, signed, with_interval
from modyn.core.report import CostPart, DifferencePart
from modyn.core.scores import ScoreName
from modyn.evaluator.uncertainty import paired_interval

MOST_SCORES = 4
"""Scores with pictures: a page of many would take long to make and to load."""

MOST_KEYS = 15
"""In which pipelines differ; more are shown on request."""

OPEN_COSTS = ("train_seconds", "samples_trained")
"""What the first score is weighed against without asking."""

_RULE = (
    "Scores are compared only on the common windows: those in which every run has an active model and the metric has a "
    "value. Differences are taken window by window, so what is hard for all runs cancels out; their intervals come "
    "from a block bootstrap, as neighbouring windows resemble each other."
)


def comparison_page(comparison: Comparison, yamls: Sequence[str | None]) -> Page:
    """The page of a comparison.

    Args:
        comparison: of the runs.
        yamls: the pipeline of each with every default filled in; None where it is not at hand.
    """
    names = [name_of(comparison, run) for run in range(len(comparison.runs))]
    sections = [
        Section("summary", "Summary", list(_summary(comparison, names))),
        Section("runs", "Runs and what they cost", list(_runs(comparison, names))),
        Section("scores", "Scores", list(_scores(comparison, names))),
        Section("details", "Slices and classes", list(_details(comparison, names))),
        Section("pipelines", "Pipelines", list(_pipelines(comparison, yamls, names))),
    ]
    titles = list(dict.fromkeys(run.report.pipeline.name for run in comparison.runs))
    versions = sorted({run.report.modyn_version for run in comparison.runs})
    return Page(
        title=" · ".join(titles) if len(titles) <= 3 else f"{len(comparison.runs)} runs compared",
        subtitle=f"{count(len(comparison.runs), 'run')} on {', '.join(_datasets(comparison))}",
        sections=sections,
        footer=footer(", ".join(versions)),
    )


def name_of(comparison: Comparison, run: int) -> str:
    """Letter, id and name of a run."""
    return f"{letter(run)}: {comparison.runs[run].name}"


def _datasets(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(report.pipeline.dataset for report in comparison.reports))


def _summary(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    scores = comparison.whole_scores
    if not scores:
        yield Words("The runs share no handler, dataset and metric, so their scores cannot be compared.", "lead")
    elif not scores[0].num_common:
        yield Words(f"{scores[0].name}: there is no window in which every run has an active model.", "lead")
    else:
        yield Words(verdict(scores[0], names), "lead")
    yield Words(_RULE, "muted")
    if comparison.notices:
        yield Words("What speaks against the comparison:", "bad")
        yield Bullets(comparison.notices)


def verdict(score: ComparedScore, names: Sequence[str]) -> str:
    """Which run is best, and of which others that cannot be said with confidence.

    Args:
        score: with common windows.
        names: of the runs.
    """
    assert score.best is not None
    best = score.best
    value = with_interval(score.common[best], score.intervals[best])
    handler, dataset, metric = score.where
    windows = count(score.num_common, "common window")
    said = f"{names[best]} has the best {metric}, {value}, on {windows} of {handler} on {dataset}."
    others = [(names[run], difference) for run, difference in enumerate(score.to_best) if difference is not None]
    unsure = [name for name, difference in others if _holds_zero(difference)]
    unknown = [name for name, difference in others if difference.interval is None]
    if unsure:
        said += f" Not clearly worse, as the interval of the difference holds zero: {'; '.join(unsure)}."
    if unknown:
        said += f" The common windows do not say whether chance explains the lead over: {'; '.join(unknown)}."
    if not unsure and not unknown and len(names) > 1:
        said += " All others are worse by more than chance explains."
    known = {name: float(v.mean()) for name, v in score.baselines.items() if len(v) and not (v != v).any()}  # noqa: PLR0124 - NaN
    if known:
        pick = max if score.greater_is_better else min
        name = pick(known, key=lambda key: known[key])
        mean = score.common[best]
        assert mean is not None
        ahead = mean > known[name] if score.greater_is_better else mean < known[name]
        paired = paired_interval(score.values[best], score.baselines[name], level=score.level) if ahead else None
        unclear = paired is not None and paired.low <= 0 <= paired.high
        verb = "no better" if not ahead else "not clearly better" if unclear else "better"
        said += f" It is {verb} than {readable(name)}, a rule without any model: {known[name]:.4f} on these windows."
    return said


def _holds_zero(difference: DifferencePart) -> bool:
    part = difference.interval
    return part is not None and part.low <= 0 <= part.high


def _runs(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    header = [
        *("run", "status", "seed", "triggers", "trainings", "samples trained"),
        *("train s", "trigger s", "select s", "total s", "models stored"),
    ]
    rows: list[Sequence[str | Cell]] = [
        (
            names[position],
            status_cell(run.report),
            str(run.report.run.seed),
            f"{len(run.report.triggers):,}",
            f"{run.report.cost.trainings:,}{_reused(run.report.cost)}",
            f"{run.report.cost.samples_trained:,}",
            f"{run.report.cost.train_seconds:.2f}",
            f"{run.report.cost.trigger_seconds:.2f}",
            f"{run.report.cost.select_seconds:.2f}",
            f"{total_seconds(run.report.cost):.2f}",
            readable_bytes(run.report.cost.model_bytes),
        )
        for position, run in enumerate(comparison.runs)
    ]
    yield Table("What the models cost; reused trainings count with their original cost", header, rows, frozenset({1}))
    header = ["run", "evaluate s", "samples scored", "of them reused", "read from storage", "GPU s", "wall s"]
    yield Table(
        "What evaluating them took, and the whole run",
        header,
        [
            (
                names[position],
                f"{cost.evaluate_seconds:.2f}",
                f"{cost.samples_scored:,}",
                f"{cost.samples_scored_reused:,}",
                readable_bytes(cost.bytes_read),
                f"{cost.gpu_seconds:.1f}",
                f"{cost.wall_seconds:.1f}",
            )
            for position, cost in enumerate(report.cost for report in comparison.reports)
        ],
    )


def _reused(cost: CostPart) -> str:
    return f" ({cost.trainings_reused:,} reused)" if cost.trainings_reused else ""


def _scores(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    for position, score in enumerate(comparison.whole_scores):
        yield Heading(score.name)
        yield _score_table(comparison, score, names)
        yield from _seeds(score, names)
        if position < MOST_SCORES and score.num_common:
            shown = list(_pictures(comparison, score, position))
            open_ones = 1 + len(OPEN_COSTS) if position == 0 else 0
            yield from shown[:open_ones]
            for block in shown[open_ones:]:
                yield Fold(block.caption, [block], prints=position == 0)
    if len(comparison.whole_scores) > MOST_SCORES:
        yield Words(f"Only the first {MOST_SCORES} scores are drawn; the tables have all.", "muted")


def _pictures(comparison: Comparison, score: ComparedScore, position: int) -> Iterator[Picture]:
    runs = [run.name for run in comparison.runs]
    yield picture(
        f"curves-{position}",
        f"{score.name} of the active models over data time, on {count(score.num_common, 'common window')}",
        lambda size: curves_figure(score, runs, size=size),
        description="; ".join(f"{name}: mean {number(mean)}" for name, mean in zip(runs, score.common, strict=True)),
    )
    for cost, (description, _) in COSTS.items():
        points = comparison.points(score.where, cost)
        front = ", ".join(runs[point.run] for point in points if point.optimal)
        yield picture(
            f"pareto-{position}-{cost.replace('_', '-')}",
            f"{score.name} against {description}",
            lambda size, cost=cost: pareto_figure(comparison, where=score.where, cost=cost, size=size),  # type: ignore[misc]
            description=f"Beaten by no other run in both: {front}.",
            note=f"No other run is both cheaper and better than {front}.",
        )


def _score_table(comparison: Comparison, score: ComparedScore, names: Sequence[str]) -> Table:
    better = "more is better" if score.greater_is_better else "less is better"
    header = ["run", "own windows", "common windows", "time-weighted", "less the best"]
    reference = comparison.reference
    if reference is not None:
        header.append(f"less {names[reference]}")
    to_reference = None if reference is None else score.differences(reference)
    rows: list[Sequence[str | Cell]] = [
        (
            name,
            number(score.composite[run]),
            with_interval(score.common[run], score.intervals[run]),
            number(score.common_time_weighted[run]),
            Cell("best", badge="good") if run == score.best else _difference(score.to_best[run]),
            *([] if to_reference is None else [_difference(to_reference[run])]),
        )
        for run, name in enumerate(names)
    ]
    for name, values in score.baselines.items():
        mean = float(values.mean()) if len(values) else None
        if mean is not None and mean == mean:  # noqa: PLR0124 - not NaN
            empty = ("–",) * (len(header) - 3)
            rows.append((f"{readable(name)} (no model)", "–", number(mean), *empty))
    caption = f"{score.name} on {count(score.num_common, 'common window')}, {score.level:.4g} intervals; {better}"
    return Table(caption, header, rows)


def _difference(difference: DifferencePart | None) -> str:
    return number(None) if difference is None else f"{signed(difference.mean)} {interval(difference.interval)}".rstrip()


def _seeds(score: ComparedScore, names: Sequence[str]) -> Iterator[Block]:
    rows = [
        (
            ", ".join(names[run] for run in found.group.runs),
            f"{len(found.values)}",
            with_interval(found.mean, found.interval),
            f"{number(min(found.values))} to {number(max(found.values))}",
        )
        for found in score.over_seeds
    ]
    if rows:
        header = ("runs that differ in their seed alone", "seeds", "mean over seeds", "from, to")
        yield Table("Over seeds, with Student's t intervals of the mean", header, rows)


def _details(comparison: Comparison, names: Sequence[str]) -> Iterator[Block]:
    found = [score for score in comparison.scores if not ScoreName.parse(score.where[2]).is_whole]
    if not found:
        return
    letters = [letter(run) for run in range(len(names))]
    rows = [
        (score.name, *(number(mean) for mean in score.common), f"{score.num_common:,}")
        for score in found[:MOST_DETAILS]
    ]
    note = f"{len(rows):,} of {len(found):,} scores; the tables have all." if len(found) > len(rows) else ""
    table = Table("Means over the common windows", ("score", *letters, "common windows"), rows, note=note)
    yield Fold(f"{count(len(found), 'score')} of slices and single classes", [table])


def _pipelines(comparison: Comparison, yamls: Sequence[str | None], names: Sequence[str]) -> Iterator[Block]:
    options = _differing_options(comparison)
    if options:
        yield Table(
            "Options in which the runs differ", ("option", *names), options, frozenset(range(1, len(names) + 1))
        )
    known = [(name, yaml) for name, yaml in zip(names, yamls, strict=True) if yaml is not None]
    found = differences([yaml for _, yaml in known])
    if len(known) > 1:
        header = ("key", *(name for name, _ in known))
        if found:
            table = Table("Keys in which the pipelines differ", header, found, frozenset(range(1, len(header))))
            yield table if len(found) <= MOST_KEYS else Fold(f"Pipelines differ in {len(found):,} keys", [table])
        else:
            yield Words("The pipelines do not differ.")
    for name, yaml in known:
        yield Fold(f"Pipeline of {name}", [Source(yaml, f"Pipeline of {name} with every default filled in")])


def _differing_options(comparison: Comparison) -> list[tuple[str, ...]]:
    """How the pipelines were run, where that is not alike: a part of the data, fewer triggers, another order."""
    rows = []
    for option in RUN_OPTIONS:
        values = [getattr(report.run, option) for report in comparison.reports]
        if len(set(values)) > 1:
            rows.append((readable(option), *("–" if value is None else str(value) for value in values)))
    return rows

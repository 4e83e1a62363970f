"""A comparison on the terminal: a row per run, readable in 80 columns."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modyn.client.compared_scores import ComparedScore, total_seconds
from modyn.client.comparison import Comparison
from modyn.client.costs import readable_bytes
from modyn.client.options import amount
from modyn.client.tables import console
from modyn.client.wording import interval, number, readable, signed
from modyn.core.report import DifferencePart


def print_comparison(comparison: Comparison, out: Console | None = None) -> None:
    """Shows costs, then each score on the windows that all runs have in common."""
    out = out or console()
    out.print("what the models cost (reused trainings with their original cost)")
    out.print(_cost_of_training(comparison))
    out.print("what evaluating them took, what was read and is stored")
    out.print(_cost_of_evaluation(comparison))
    for score in comparison.whole_scores:
        kind = "higher is better" if score.greater_is_better else "lower is better"
        common = amount(score.num_common, "common window")
        out.print(escape(f"{score.name}, currently active, on {common} ({kind})"), soft_wrap=True)
        out.print(_score_table(comparison, score))
        for line in _remarks(comparison, score):
            out.print(escape(line), soft_wrap=True)
    detailed = len(comparison.scores) - len(comparison.whole_scores)
    if detailed:
        out.print(f"{amount(detailed, 'score')} of slices and single classes: --html FILE or --data DIR has them")
    if not comparison.scores:
        out.print("The runs share no handler, dataset and metric, so their scores cannot be compared.", soft_wrap=True)
    for notice in comparison.notices:
        out.print(escape(f"notice: {notice}"), soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _cost_of_training(comparison: Comparison) -> Table:
    table = _table("trainings", "samples", "train s", "trigger s", "select s", "total s")
    for run in comparison.runs:
        cost, status = run.report.cost, run.report.pipeline.status
        table.add_row(
            escape(run.name) + ("" if status == "completed" else f" ({status})"),
            f"{cost.trainings:,}" + (f" ({cost.trainings_reused:,} reused)" if cost.trainings_reused else ""),
            f"{cost.samples_trained:,}",
            f"{cost.train_seconds:.2f}",
            f"{cost.trigger_seconds:.2f}",
            f"{cost.select_seconds:.2f}",
            f"{total_seconds(cost):.2f}",
        )
    return table


def _cost_of_evaluation(comparison: Comparison) -> Table:
    gpu = any(run.report.cost.gpu_seconds for run in comparison.runs)
    table = _table("evaluate s", "scored", "reused", "bytes read", "models", *(("GPU s",) if gpu else ()))
    for run in comparison.runs:
        cost = run.report.cost
        table.add_row(
            escape(run.name),
            f"{cost.evaluate_seconds:.2f}",
            f"{cost.samples_scored:,}",
            f"{cost.samples_scored_reused:,}",
            readable_bytes(cost.bytes_read),
            readable_bytes(cost.model_bytes),
            *((f"{cost.gpu_seconds:.1f}",) if gpu else ()),
        )
    return table


def _score_table(comparison: Comparison, score: ComparedScore) -> Table:
    reference = comparison.reference
    table = _table(
        *("own windows", f"common [{score.level:.0%}]", "less the best"),
        *(() if reference is None else (f"less {comparison.runs[reference].report.pipeline.id}",)),
    )
    to_reference = None if reference is None or not score.num_common else score.differences(reference)
    for index, run in enumerate(comparison.runs):
        table.add_row(
            escape(run.name),
            number(score.composite[index]),
            _two_lines(number(score.common[index]), interval(score.intervals[index])),
            "best" if index == score.best else _difference(score.to_best[index]),
            *(() if reference is None else (_difference(to_reference[index]) if to_reference else "–",)),
        )
    return table


def _difference(difference: DifferencePart | None) -> str:
    return "–" if difference is None else _two_lines(signed(difference.mean), interval(difference.interval))


def _two_lines(value: str, of_it: str) -> str:
    return f"{value}\n{of_it}" if of_it else value


def _remarks(comparison: Comparison, score: ComparedScore) -> list[str]:
    if not score.num_common:
        return ["There is no window in which every run has an active model."]
    lines = []
    known = {name: values.mean() for name, values in score.baselines.items() if not np.isnan(values).any()}
    if known:
        said = ", ".join(f"{readable(name)} {number(float(value))}" for name, value in known.items())
        lines.append(f"Without any model, on the same windows: {said}.")
    for cost, what in (("train_seconds", "seconds trained"), ("samples_trained", "samples trained")):
        optimal = [comparison.runs[point.run].name for point in comparison.points(score.where, cost) if point.optimal]
        lines.append(f"Not beaten in both score and {what}: {', '.join(optimal)}.")
    for group in score.over_seeds:
        names = ", ".join(comparison.runs[run].report.pipeline.id for run in group.group.runs)
        mean = f"{number(group.mean)} {interval(group.interval)}".strip()
        lines.append(f"Mean over {len(group.values)} seeds (runs {names}): {mean}.")
    return lines

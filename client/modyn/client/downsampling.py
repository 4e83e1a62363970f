"""Whether downsampling paid: the numbers and the comparison, for files and terminals."""

from __future__ import annotations

from collections.abc import Iterable

from modyn.client.explanations import MISSING
from modyn.core.report import BaselineKind, DownsamplingPart, Report

TITLE = "Does downsampling pay?"

_ROWS: dict[BaselineKind, str] = {
    "uniform": "uniform sample, same number of passes",
    "fewer_epochs": "all samples, fewer epochs",
}


def facts(part: DownsamplingPart) -> list[tuple[str, str]]:
    """What downsampling did and took, one number a line."""
    share = f" ({part.samples_trained / part.samples_offered:.1%})" if part.samples_offered else ""
    reused = f", {part.scores_reused:,} scores reused" if part.scores_reused else ""
    rows = [
        ("strategy", ", ".join(part.strategies)),
        ("trained", f"{part.samples_trained:,} of {part.samples_offered:,} passes{share}"),
        ("scored", f"{part.samples_scored:,} samples{reused}"),
        ("training", f"{part.train_seconds:.2f} s, scoring and choosing included"),
        ("scoring", f"{part.score_seconds:.2f} s"),
        ("choosing", f"{part.choose_seconds:.2f} s"),
    ]
    if part.auxiliary_samples or part.auxiliary_seconds:
        rows.append(("auxiliary models", f"{part.auxiliary_seconds:.2f} s, {part.auxiliary_samples:,} passes"))
    rows.append(("saved (estimate)", f"{part.seconds_saved:.2f} s of training"))
    rows.append(("net (estimate)", f"{part.seconds_net:+.2f} s"))
    return rows


def comparison(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The pipeline beside its baselines: a header and rows; no rows without baselines."""
    part = report.downsampling
    if part is None or not part.baselines:
        return (), []
    where = [
        (handler, dataset, metric)
        for handler, datasets in report.composite.items()
        for dataset, metrics in datasets.items()
        for metric in metrics
    ]
    header = ("", "samples trained", "train s", "total s", *_score_names(where))
    cost = report.cost
    own = (_score(report.composite[h][d][m].currently_active) for h, d, m in where)
    name = f"this pipeline ({', '.join(part.strategies)})"
    rows = [_row(name, cost.samples_trained, cost.train_seconds, part.total_seconds, own)]
    for baseline in part.baselines:
        scores = (_score(baseline.composite.get(h, {}).get(d, {}).get(m)) for h, d, m in where)
        status = "" if baseline.status == "completed" else f" ({baseline.status})"
        name = f"{_ROWS[baseline.kind]}{status}, pipeline {baseline.id}"
        rows.append(_row(name, baseline.samples_trained, baseline.train_seconds, baseline.total_seconds, scores))
    return header, rows


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}"


def _score_names(where: list[tuple[str, str, str]]) -> list[str]:
    """The metric alone where there is but one handler and dataset."""
    if len({(handler, dataset) for handler, dataset, _ in where}) == 1:
        return [metric for *_, metric in where]
    return ["/".join(parts) for parts in where]


def _row(name: str, samples: int, train: float, total: float, scores: Iterable[str]) -> tuple[str, ...]:
    return name, f"{samples:,}", f"{train:.2f}", f"{total:.2f}", *scores

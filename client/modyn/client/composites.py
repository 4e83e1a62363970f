"""Walking through the composite scores of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modyn.core.report import CompositeScore, Report
from modyn.core.scores import ScoreName

_CERTIFIED = "*Certified*: scored on samples of role test alone, which no training ever saw."
_MIXED = "*Cross-validation*: some samples it was scored on may have been trained on, by this or a later model."


def composite_scores(report: Report) -> Iterator[tuple[str, str, str, CompositeScore]]:
    """All composite scores with handler, dataset and score name; first those of the pipeline's own handlers."""
    handlers = [handler.name for handler in report.evaluation.handlers] if report.evaluation is not None else []
    place = {name: number for number, name in enumerate(handlers)}
    for handler, datasets in sorted(report.composite.items(), key=lambda item: place.get(item[0], len(place))):
        for dataset, metrics in datasets.items():
            for metric, score in metrics.items():
                yield handler, dataset, metric, score


def whole_scores(report: Report) -> Iterator[tuple[str, str, str, CompositeScore]]:
    """Those of all samples and classes."""
    return (item for item in composite_scores(report) if ScoreName.parse(item[2]).is_whole)


def detailed_scores(metrics: Mapping[str, CompositeScore]) -> list[tuple[ScoreName, CompositeScore]]:
    """Those of slices and single classes, of one handler and dataset, sorted."""
    named = ((ScoreName.parse(name), score) for name, score in metrics.items())
    found = [(name, score) for name, score in named if not name.is_whole]
    return sorted(found, key=lambda item: _order(item[0]))


def _order(name: ScoreName) -> tuple[str, str, bool, int]:
    """Classes by number, behind all of them together."""
    return name.metric, name.slice, name.label is not None, name.label or 0


def is_certified(report: Report, handler: str, dataset: str) -> bool | None:
    """Whether all windows of a handler and dataset were scored on test samples alone; None: that is not known."""
    marks = {w.certification for w in report.windows if (w.handler, w.dataset) == (handler, dataset) and w.samples}
    if not marks or marks == {None}:
        return None
    return marks == {"certified"}


def certification(report: Report, handler: str, dataset: str) -> str:
    """:func:`is_certified` in words; empty if it is not known."""
    return {True: _CERTIFIED, False: _MIXED, None: ""}[is_certified(report, handler, dataset)]

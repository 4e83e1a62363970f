"""Several runs side by side, compared only where all of them can be."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from modyn.client.compared_scores import (
    COSTS,
    DEFAULT_LEVEL,
    ComparedScore,
    ParetoPoint,
    SeedGroup,
    Where,
)
from modyn.client.composites import composite_scores
from modyn.core.config.source import read_document
from modyn.core.errors import InvalidInputError
from modyn.core.report import Report, WindowPart
from modyn.core.scores import ScoreName

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RUN_OPTIONS = ("mode", "order", "simulated", "start", "stop", "start_key", "end_key", "maximum_triggers")
"""Of a run, what decides beside its pipeline what is trained and scored."""

_SETTINGS = ("training_latency", "labels", "label_delay")
"""Of an evaluation, what decides which model is scored on what."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One of the runs.

    Attributes:
        report: of the run.
        yaml: the pipeline with every default filled in; None if it is not at hand.
    """

    report: Report
    yaml: str | None = None

    @property
    def name(self) -> str:
        """Short, and different from those of other runs of one server: id and name of the pipeline."""
        return f"{self.report.pipeline.id} {self.report.pipeline.name}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs side by side; made by :func:`compare`.

    Attributes:
        runs: in the order in which they were given.
        scores: of every handler, dataset and metric that all of them have.
        groups: runs that equal each other but for their seed.
        level: of all intervals.
        reference: the run that others are compared with beside the best one, if one was chosen.
        notices: what speaks against a comparison, such as windows with other data.
    """

    runs: list[ComparedRun]
    scores: list[ComparedScore]
    groups: list[SeedGroup]
    level: float = DEFAULT_LEVEL
    reference: int | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def reports(self) -> list[Report]:
        return [run.report for run in self.runs]

    @property
    def whole_scores(self) -> list[ComparedScore]:
        """Scores of all samples and classes, without those of slices and single classes."""
        return [score for score in self.scores if ScoreName.parse(score.where[2]).is_whole]

    def score(self, where: Where | None = None) -> ComparedScore:
        """One of :attr:`scores`; by default the first.

        Raises:
            InvalidInputError: the runs do not share it.
        """
        found = next((score for score in self.scores if where is None or score.where == where), None)
        if found is None:
            known = ", ".join(score.name for score in self.scores) or "nothing"
            asked = "any handler, dataset and metric" if where is None else "/".join(where)
            raise InvalidInputError(f"compare: the runs do not share {asked}; they share {known}")
        return found

    def only(self, *, handler: str | None = None, dataset: str | None = None, metric: str | None = None) -> Comparison:
        """The comparison of some scores; None: whatever it is.

        Args:
            metric: result name of a metric, with its slices and classes; or a score name.

        Raises:
            InvalidInputError: the runs share no such score.
        """
        if handler is dataset is metric is None:
            return self
        kept = [
            score
            for score in self.scores
            if handler in (None, score.where[0])
            and dataset in (None, score.where[1])
            and metric in (None, score.where[2], ScoreName.parse(score.where[2]).metric)
        ]
        if not kept:
            asked = "/".join(name or "*" for name in (handler, dataset, metric))
            known = ", ".join(score.name for score in self.whole_scores) or "nothing"
            raise InvalidInputError(f"compare: the runs do not share {asked}; they share {known}")
        return replace(self, scores=kept)

    def costs(self, cost: str) -> list[float]:
        """What each run cost.

        Args:
            cost: one of :data:`COSTS`.

        Raises:
            InvalidInputError: there is no such cost.
        """
        if cost not in COSTS:
            raise InvalidInputError(f"cost {cost!r} is not known; expected one of {', '.join(COSTS)}")
        return [COSTS[cost][1](run.report.cost) for run in self.runs]

    def points(self, where: Where | None = None, cost: str = "train_seconds") -> list[ParetoPoint]:
        """The runs as points of cost and score; none without common windows.

        Args:
            where: as of :meth:`score`.
            cost: as of :meth:`costs`.
        """
        score, costs = self.score(where), self.costs(cost)
        optimal = score.is_optimal(costs)
        return [
            ParetoPoint(run, costs[run], mean, optimal[run])
            for run, mean in enumerate(score.common)
            if mean is not None
        ]

    def plot(self, kind: str = "pareto", *, where: Where | None = None, cost: str = "train_seconds") -> Figure:
        """A Matplotlib figure.

        Args:
            kind: ``pareto`` (score against cost) or ``composite`` (the curves of all runs).
            where: as of :meth:`score`.
            cost: as of :meth:`costs`; of ``pareto`` only.

        Raises:
            InvalidInputError: there is no such kind, score or cost.
        """
        from modyn.client import charts

        chosen = self.score(where).where
        if kind == "composite":
            return charts.composite_figure(self.reports, chosen)
        if kind != "pareto":
            raise InvalidInputError(f"plot {kind!r}: a comparison has pareto and composite")
        self.costs(cost)
        return charts.pareto_figure(self, where=chosen, cost=cost)

    def to_html(self, path: Path | str) -> None:
        """Writes the comparison as one HTML file that needs no network.

        Raises:
            ModynError: the file cannot be written.
        """
        from modyn.client.html import comparison_html
        from modyn.client.result_folder import write_text

        write_text(Path(path), comparison_html(self, [run.yaml for run in self.runs]))

    def _repr_html_(self) -> str:
        from modyn.client.notebook_html import comparison_summary

        return comparison_summary(self)


def compare(
    reports: Sequence[Report],
    level: float = DEFAULT_LEVEL,
    *,
    yamls: Sequence[str | None] | None = None,
    reference: int | None = None,
) -> Comparison:
    """Compares runs on the windows in which every one of them has an active model.

    Args:
        reports: two or more.
        level: of confidence intervals, between 0.5 and 1.
        yamls: their pipelines with every default filled in; runs with one are grouped by it over seeds.
        reference: position of a run that others are to be compared with, beside the best one.

    Raises:
        InvalidInputError: there are fewer than two runs.
    """
    if len(reports) < 2:
        raise InvalidInputError(f"compare: {len(reports)} run; expected at least two")
    runs = [ComparedRun(report, yaml) for report, yaml in zip(reports, yamls or [None] * len(reports), strict=True)]
    groups = _seed_groups(runs)
    tables = [{(h, d, m): score for h, d, m, score in composite_scores(report)} for report in reports]
    shared = [where for where in tables[0] if all(where in table for table in tables)]
    windows = [_by_place(report) for report in reports]
    scores = [
        _compared(
            where,
            windows,
            greater_is_better=tables[0][where].greater_is_better,
            composite=[table[where].currently_active for table in tables],
            level=level,
            groups=groups,
            bounds=tables[0][where].bounds,
        )
        for where in shared
    ]
    return Comparison(runs, scores, groups, level, reference, _notices(reports))


_Windows: TypeAlias = dict[tuple[str, str], dict[tuple[int, int, int], WindowPart]]
"""By handler and dataset, then by start, end and anchor."""


def _by_place(report: Report) -> _Windows:
    found: _Windows = defaultdict(dict)
    for window in report.windows:
        found[window.handler, window.dataset][window.start, window.end, window.anchor] = window
    return found


def _compared(
    where: Where,
    windows: Sequence[_Windows],
    *,
    greater_is_better: bool,
    composite: list[float | None],
    level: float,
    groups: Sequence[SeedGroup],
    bounds: tuple[float, float] | None,
) -> ComparedScore:
    handler, dataset, metric = where
    of_runs = [found.get((handler, dataset), {}) for found in windows]
    scored = [{place: v for place, w in found.items() if (v := _active(w, metric)) is not None} for found in of_runs]
    places = sorted(set.intersection(*(set(found) for found in scored)))
    values = np.array([[found[place] for place in places] for found in scored], dtype=np.float64)
    first = [of_runs[0][place].scores[metric].baselines for place in places]
    names = dict.fromkeys(name for baselines in first for name in baselines)
    baselines = {name: np.array([b.get(name) for b in first], dtype=np.float64) for name in names}
    spans = np.array([place[:2] for place in places], dtype=np.int64).reshape(-1, 2)
    values = values.reshape(len(windows), len(places))
    return ComparedScore(where, greater_is_better, composite, spans, values, baselines, level, groups, bounds)


def _active(window: WindowPart, metric: str) -> float | None:
    score = window.scores.get(metric)
    return None if score is None else score.currently_active


def _seed_groups(runs: Sequence[ComparedRun]) -> list[SeedGroup]:
    """Runs with equal pipelines and options but for names and seeds; of runs with one seed, the first counts."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for position, run in enumerate(runs):
        if run.yaml is not None:
            found[_identity(run.yaml, run.report)].setdefault(run.report.run.seed, position)
    return [SeedGroup(tuple(group.values()), tuple(group)) for group in found.values() if len(group) > 1]


def _identity(yaml: str, report: Report) -> str:
    tree: dict[str, Any] = dict(read_document(yaml, f"pipeline {report.pipeline.id}").tree)
    tree.pop("pipeline", None)
    tree["training"] = {key: value for key, value in (tree.get("training") or {}).items() if key != "seed"}
    return json.dumps([tree, report.run.model_dump(include=set(RUN_OPTIONS))], sort_keys=True)


def _notices(reports: Sequence[Report]) -> list[str]:
    """What a reader of the comparison has to know."""
    notices = [
        f"pipeline {report.pipeline.id} {report.pipeline.name} is {report.pipeline.status}: its report is not complete"
        for report in reports
        if report.pipeline.status != "completed"
    ]
    return notices + _different_settings(reports) + _different_metrics(reports) + _different_data(reports)


def _different_settings(reports: Sequence[Report]) -> list[str]:
    """Of the section in the YAML, or of handlers of one name, which may have been added with others."""
    found: dict[str, dict[str, dict[str, str]]] = {key: defaultdict(dict) for key in _SETTINGS}
    for report in reports:
        part = report.evaluation
        for key in _SETTINGS if part is not None else ():
            found[key][""][str(getattr(part, key))] = report.pipeline.id
            for handler in part.handlers if part is not None else ():
                if handler.training_latency is not None:
                    found[key][handler.name][str(getattr(handler, key))] = report.pipeline.id
    notices: list[str] = []
    for key, by_handler in found.items():
        different = next((values for values in by_handler.values() if len(values) > 1), None)
        if different is not None:
            said = ", ".join(f"{value} (pipeline {pipeline})" for value, pipeline in different.items())
            notices.append(f"the runs were evaluated with different evaluation.{key}: {said}")
    return notices


def _different_metrics(reports: Sequence[Report]) -> list[str]:
    digests: dict[tuple[str, str], set[frozenset[str]]] = defaultdict(set)
    for report in reports:
        of_run: dict[tuple[str, str], set[str]] = defaultdict(set)  # handlers of one run may have different ones
        for metric in report.evaluation.metrics if report.evaluation is not None else ():
            of_run[metric.dataset, metric.name].add(metric.digest)
        for key, own in of_run.items():
            digests[key].add(frozenset(own))
    return [
        f"{metric} on {dataset} is not configured alike in all runs, or its code differs: its values mean different "
        "things"
        for (dataset, metric), found in digests.items()
        if len(found) > 1
    ]


def _different_data(reports: Sequence[Report]) -> list[str]:
    digests: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    for report in reports:
        # A handler may stand in only one run, yet its windows be those of another.
        for window in report.windows:
            if window.data_digest is not None:
                digests[window.dataset, window.start, window.end].add(window.data_digest)
    datasets: dict[str, int] = defaultdict(int)
    for (dataset, _, _), found in digests.items():
        datasets[dataset] += len(found) > 1
    return [
        f"{count:,} windows of {dataset} were scored on different samples or labels in different runs, such as before "
        "and after labels were set"
        for dataset, count in datasets.items()
        if count
    ]

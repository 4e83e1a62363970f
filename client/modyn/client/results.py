"""Results of runs for programs and notebooks: tables, pictures, comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa

from modyn.client.compared_scores import DEFAULT_LEVEL, Where
from modyn.client.comparison import Comparison
from modyn.client.comparison import compare as compare_reports
from modyn.client.composites import composite_scores
from modyn.client.report_tables import TABLES, report_tables
from modyn.client.result_folder import write_text
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.core.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "PipelineResult", "compare", "report_tables"]

Kind: TypeAlias = Literal["composite", "heatmap", "trigger", "timeline", "confusion", "offsets"]

KINDS: tuple[Kind, ...] = ("composite", "heatmap", "trigger", "timeline", "confusion", "offsets")
"""What :meth:`PipelineResult.plot` draws."""


@dataclass(frozen=True, eq=False)
class PipelineResult:
    """What a pipeline did, what it cost and what it was worth.

    A notebook shows a summary of it. Tables are Arrow tables whose fields say what they mean; all of them are described
    in the reference page on tables.

    Attributes:
        report: the whole report, as in ``report.json``.
        yaml: the pipeline with every default filled in.
    """

    report: Report
    yaml: str
    _tables: dict[str, pa.Table] = field(default_factory=dict, init=False, repr=False)

    @property
    def id(self) -> str:
        """Of the pipeline."""
        return self.report.pipeline.id

    @property
    def status(self) -> str:
        """How the pipeline ended: completed, stopped, failed or interrupted."""
        return self.report.pipeline.status

    def table(self, name: str) -> pa.Table:
        """One of the tables by name, such as ``window_scores``.

        Raises:
            InvalidInputError: there is no such table.
        """
        if name not in TABLES:
            raise InvalidInputError(f"table {name!r} is not known; expected one of {', '.join(TABLES)}")
        if name not in self._tables:
            self._tables[name] = TABLES[name].of(self.report)
        return self._tables[name]

    @property
    def scores(self) -> pa.Table:
        """A row per model, window and score: the model × window matrix, as far as it was evaluated."""
        return self.table("scores")

    @property
    def windows(self) -> pa.Table:
        """A row per window and score: the composite curves, and predictions without a model beside them."""
        return self.table("window_scores")

    @property
    def composite(self) -> pa.Table:
        """A row per composite score, with its confidence interval."""
        return self.table("composite")

    @property
    def triggers(self) -> pa.Table:
        """A row per trigger: when and why it fired, its training, where its time went."""
        return self.table("triggers")

    @property
    def cost(self) -> pa.Table:
        """One row: what the run cost."""
        return self.table("costs")

    def to_pandas(self, name: str) -> Any:
        """A table as a pandas data frame.

        Args:
            name: as of :meth:`table`.

        Raises:
            NotAvailableError: pandas is not installed.
            InvalidInputError: there is no such table.
        """
        table = self.table(name)
        try:
            import pandas  # noqa: F401 - only to say it better than Arrow does
        except ImportError as error:
            raise NotAvailableError(
                "to_pandas: pandas is not installed; install it with `pip install pandas`, or use the Arrow table "
                f"`.table({name!r})`"
            ) from error
        return table.to_pandas()

    def where(self, *, handler: str | None = None, dataset: str | None = None, metric: str | None = None) -> Where:
        """The first composite score that fits, as handler, dataset and score name.

        Raises:
            InvalidInputError: there is none.
        """
        known = [found[:3] for found in composite_scores(self.report)]
        for where in known:
            if all(asked in (None, name) for asked, name in zip((handler, dataset, metric), where, strict=True)):
                return where
        asked_for = "/".join(name or "*" for name in (handler, dataset, metric))
        there = ", ".join("/".join(where) for where in known) or "none, as nothing was evaluated"
        raise InvalidInputError(f"pipeline {self.id} has no score {asked_for}; it has {there}")

    def plot(
        self,
        kind: Kind = "composite",
        *,
        handler: str | None = None,
        dataset: str | None = None,
        metric: str | None = None,
    ) -> Figure:
        """A Matplotlib figure.

        Args:
            kind: ``composite`` (the score over time, with baselines and triggers), ``heatmap`` (models × windows),
                ``trigger`` (statistics against thresholds), ``timeline`` (where the time of each trigger went),
                ``confusion`` (labels against predictions), or ``offsets`` (before and after training).
            handler, dataset, metric: which score, as of :meth:`where`; not of ``trigger`` and ``timeline``.

        Raises:
            InvalidInputError: there is no such kind or score.
        """
        from modyn.client import charts

        chosen = {"handler": handler, "dataset": dataset, "metric": metric}
        match kind:
            case "composite":
                return charts.composite_figure(self.report, self.where(**chosen))
            case "heatmap":
                return charts.heatmap_figure(self.report, self.where(**chosen))
            case "trigger":
                return charts.trigger_figure(self.report)
            case "timeline":
                return charts.timeline_figure(self.report)
            case "confusion":
                return charts.confusion_figure(self._parts("confusion", handler, dataset, None)[0])
            case "offsets":
                parts = self._parts("offsets", handler, dataset, metric)
                same = attrgetter("handler", "dataset", "metric")
                return charts.offsets_figure([part for part in parts if same(part) == same(parts[0])])
        raise InvalidInputError(f"plot {kind!r}: expected one of {', '.join(KINDS)}")

    def _parts(self, name: str, handler: str | None, dataset: str | None, metric: str | None) -> list[Any]:
        found = [
            part
            for part in getattr(self.report, name)
            if handler in (None, part.handler)
            and dataset in (None, part.dataset)
            and metric in (None, getattr(part, "metric", None))
        ]
        if not found:
            raise InvalidInputError(f"plot {name!r}: pipeline {self.id} has no {name} of what was asked for")
        return found

    def to_html(self, path: Path | str) -> None:
        """Writes the report as one HTML file that needs no network.

        Raises:
            ModynError: the file cannot be written.
        """
        from modyn.client.html import report_html

        write_text(Path(path), report_html(self.report, self.yaml))

    def compare(self, *others: PipelineResult, level: float = DEFAULT_LEVEL) -> Comparison:
        """This result beside others; see :func:`compare`."""
        return compare([self, *others], level=level)

    def _repr_html_(self) -> str:
        from modyn.client.notebook_html import result_summary

        return result_summary(self.report)


def compare(
    results: Sequence[PipelineResult], *, level: float = DEFAULT_LEVEL, reference: int | None = None
) -> Comparison:
    """Compares results on the windows in which every one of them has an active model.

    Args:
        results: two or more.
        level: of confidence intervals.
        reference: position of a result that others are to be compared with, beside the best one.

    Raises:
        InvalidInputError: there are fewer than two.
    """
    reports, yamls = [result.report for result in results], [result.yaml for result in results]
    return compare_reports(reports, level, yamls=yamls, reference=reference)

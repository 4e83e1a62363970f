"""Reports and comparisons as HTML: one file each, without scripts, readable offline, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Sequence

from modyn.client.comparison import Comparison
from modyn.client.html.comparison_page import comparison_page
from modyn.client.html.page import render
from modyn.client.html.report_page import report_page
from modyn.core.report import Report

__all__ = ["comparison_html", "report_html"]


def report_html(report: Report, resolved_yaml: str) -> str:
    """A report as one HTML document.

    Args:
        report: of a run.
        resolved_yaml: the pipeline with every default filled in.
    """
    return render(report_page(report, resolved_yaml))


def comparison_html(comparison: Comparison, yamls: Sequence[str | None]) -> str:
    """A comparison as one HTML document.

    Args:
        comparison: of the runs.
        yamls: the pipeline of each run with every default filled in; None where it is not at hand.
    """
    return render(comparison_page(comparison, yamls))

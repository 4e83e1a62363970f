"""How a pipeline was evaluated, in words."""

from __future__ import annotations

from modyn.core.durations import format_duration
from modyn.core.report import Report

_LATENCIES = {
    "zero": "a model counts as active at once",
    "measured": "a model counts as active once its training would have ended, as long as that took",
    "modelled": "a model counts as active once its training would have ended, by the rule of the YAML",
}

_LABELS = {"newest": "the newest labels", "known": "the labels that were known at the end of each window"}


def evaluation_settings(report: Report) -> list[tuple[str, str]]:
    """Training latency, labels and confidence level; nothing without an evaluation."""
    part = report.evaluation
    if part is None:
        return []
    latency = _LATENCIES.get(part.training_latency, "")
    labels = _LABELS.get(part.labels, part.labels)
    if part.label_delay is not None:
        labels += f"; labels are known {format_duration(part.label_delay)} after their samples"
    rows = [
        ("training latency", f"{part.training_latency}: {latency}" if latency else part.training_latency),
        ("scored with", labels),
    ]
    if part.confidence is not None:
        rows.append(("intervals", f"{part.confidence:.4g} confidence, block bootstrap over windows"))
    return rows

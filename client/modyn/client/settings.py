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
    """Training latency, labels and confidence level; nothing without an evaluation. Of handlers that were added with
    other settings, what differs."""
    part = report.evaluation
    if part is None:
        return []
    rows = [
        ("training latency", _latency(part.training_latency)),
        ("scored with", _labels(part.labels, part.label_delay)),
    ]
    if part.confidence is not None:
        rows.append(("intervals", _intervals(part.confidence)))
    for handler in part.handlers:
        if handler.training_latency is None or handler.labels is None:  # of an earlier report
            continue
        own = []
        if handler.training_latency != part.training_latency:
            own.append(_latency(handler.training_latency))
        if (handler.labels, handler.label_delay) != (part.labels, part.label_delay):
            own.append("scored with " + _labels(handler.labels, handler.label_delay))
        if handler.confidence != part.confidence:
            own.append("no intervals" if handler.confidence is None else _intervals(handler.confidence))
        if own:
            rows.append((f"but {handler.name}", "; ".join(own)))
    return rows


def _latency(latency: str) -> str:
    said = _LATENCIES.get(latency)
    return latency if said is None else f"{latency}: {said}"


def _labels(labels: str, delay: int | None) -> str:
    said = _LABELS.get(labels, labels)
    return said if delay is None else f"{said}; labels are known {format_duration(delay)} after their samples"


def _intervals(confidence: float) -> str:
    return f"{confidence:.4g} confidence, block bootstrap over windows"

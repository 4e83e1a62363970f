"""Windows and metrics as people write them on the command line, as entries of an ``evaluation`` section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from modyn.client.options import parse_time
from modyn.core.config.source import dotted, read_document
from modyn.core.errors import InvalidInputError

WINDOWS_EXPECTED = (
    "expected 1w (slices of a week), 1d[-2d;+2d] (around every day), between (from trigger to trigger), "
    "offsets=-inf,+1w (before and after each model's training data), START..END (Unix seconds or ISO dates; END may be "
    "left out), or a mapping such as {type: SlicingEvalStrategy, eval_every: 1w}"
)

METRICS_EXPECTED = (
    "expected a name such as Accuracy or module:attribute, with options behind it such as F1Score:average=weighted, or "
    "a mapping such as {name: Accuracy, topn: 5}; several are separated by commas"
)

_DURATION = r"\d+[smhdwy]"
_SLICES = re.compile(rf"({_DURATION})(?:\s+(\S+))?")
_AROUND = re.compile(rf"({_DURATION})\s*([\[(][^\])]*[\])])(?:\s+(\S+))?")
_NAMED = re.compile(r"every\s*=\s*(\S+)\s+interval\s*=\s*([\[(][^\])]*[\])])(?:\s+(\S+))?")
_METRIC_NAME = re.compile(r"[\w.-]+(:[\w.]+)?")
_OFFSETS = re.compile(r"offsets\s*=\s*(.*)")


def window_strategy(text: str) -> dict[str, Any]:
    """The ``strategy`` of a handler from its short form.

    >>> window_strategy("1w")
    {'type': 'SlicingEvalStrategy', 'eval_every': '1w'}
    >>> window_strategy("1d[-2d;+2d] 0..86400")["end_timestamp"]
    86399
    >>> window_strategy("offsets=-inf,+1w")
    {'type': 'OffsetEvalStrategy', 'offsets': ['-inf', '+1w']}
    >>> window_strategy("1996-05-07..1996-06-01,1996-07-01..")
    {'type': 'StaticEvalStrategy', 'intervals': [[831427200, 833587200], [836179200, None]]}

    Raises:
        InvalidInputError: it is none.
    """
    text = text.strip()
    if text.startswith("{"):
        return _mapping(text, f"--windows {text!r}", WINDOWS_EXPECTED)
    if text == "between":
        return {"type": "BetweenTwoTriggersEvalStrategy"}
    if found := _OFFSETS.fullmatch(text):
        offsets = [offset.strip() for offset in found[1].split(",") if offset.strip()]
        return {"type": "OffsetEvalStrategy", "offsets": offsets}
    if found := _AROUND.fullmatch(text) or _NAMED.fullmatch(text):
        every, interval, span = found.groups()
        start, end = _span(span, text) if span else (None, None)
        ends = {"start_timestamp": start, "end_timestamp": None if end is None else end - 1}  # inclusive
        return {"type": "PeriodicEvalStrategy", "every": every, "interval": interval, **_given(ends)}
    if found := _SLICES.fullmatch(text):
        every, span = found.groups()
        start, end = _span(span, text) if span else (None, None)
        ends = {"eval_start_from": start, "eval_end_at": end}
        return {"type": "SlicingEvalStrategy", "eval_every": every, **_given(ends)}
    if ".." in text:
        return {"type": "StaticEvalStrategy", "intervals": [_interval(part, text) for part in text.split(",")]}
    raise InvalidInputError(f"--windows {text!r}: {WINDOWS_EXPECTED}")


def metrics(texts: Sequence[str]) -> list[dict[str, Any]]:
    """The ``metrics`` of a dataset from their short forms, each one or several with commas between them.

    >>> metrics(["Accuracy,RocAuc", "F1Score:average=weighted:num_classes=10"])
    [{'name': 'Accuracy'}, {'name': 'RocAuc'}, {'name': 'F1Score', 'average': 'weighted', 'num_classes': 10}]

    Raises:
        InvalidInputError: one is none.
    """
    return [_metric(part) for text in texts for part in _split(text)]


def _metric(text: str) -> dict[str, Any]:
    where = f"--metrics {text!r}"
    if text.startswith("{"):
        return _mapping(text, where, METRICS_EXPECTED)
    parts = text.split(":")
    options = [part.partition("=") for part in parts if "=" in part]
    name = ":".join(part for part in parts if "=" not in part)
    first = next((place for place, part in enumerate(parts) if "=" in part), len(parts))
    misplaced = any("=" not in part for part in parts[first:])
    if misplaced or not _METRIC_NAME.fullmatch(name) or not all(key.strip() and value for key, _, value in options):
        raise InvalidInputError(f"{where}: {METRICS_EXPECTED}")
    keys = [key.strip() for key, _, _ in options]
    for key in keys:
        if keys.count(key) > 1:
            raise InvalidInputError(f"{where}: option {key!r} is given twice; keep one")
    return {"name": name} | {key.strip(): _scalar(value, where) for key, _, value in options}


def _split(text: str) -> Iterator[str]:
    """At commas that are in no bracket."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()


def _mapping(text: str, where: str, expected: str) -> dict[str, Any]:
    try:
        document = read_document(text, where)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error.message}; {expected}") from error
    for location, problem in document.problems:  # such as a key that is given twice
        raise InvalidInputError(f"{where}: {dotted(location)}: {problem}; {expected}")
    return dict(document.tree)


def _scalar(text: str, where: str) -> Any:
    """A value as it would be read in YAML."""
    return read_document(f"value: {text.strip()}", where).tree["value"]


def _interval(text: str, whole: str) -> list[int | None]:
    start, end = _span(text.strip(), whole)
    if start is None:
        raise InvalidInputError(f"--windows {whole!r}: {text.strip()!r} has no start; {WINDOWS_EXPECTED}")
    return [start, end]


def _span(text: str, whole: str) -> tuple[int | None, int | None]:
    start, mark, end = text.partition("..")
    if not mark or not (start or end):
        raise InvalidInputError(f"--windows {whole!r}: {text!r} is no START..END; {WINDOWS_EXPECTED}")
    try:
        return parse_time(start) if start else None, parse_time(end) if end else None
    except typer.BadParameter as error:
        raise InvalidInputError(f"--windows {whole!r}: {error.message}") from error


def _given(values: Mapping[str, int | None]) -> dict[str, int]:
    return {key: value for key, value in values.items() if value is not None}

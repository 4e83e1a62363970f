"""Why a trigger fired or did not: its evaluations as tables for people and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from modyn.client.options import amount, format_time
from modyn.core.report import FindingPart, TriggerEvaluationPart

if TYPE_CHECKING:
    import pyarrow as pa

Evaluations = Sequence[TriggerEvaluationPart]

HELD_BACK = "held back"
"""How the reason of a firing begins that a guard did not let through."""

COLUMNS = (
    "evaluation",
    "trigger",
    "first_timestamp",
    "last_timestamp",
    "num_samples",
    "fired",
    "reason",
    "seconds",
    "finding",
    "statistic",
    "threshold",
    "p_value",
    "finding_decision",
    "note",
)
"""Of :func:`evaluation_table` and :func:`evaluations_csv`."""

MISSING = "–"

SHOWN_COLUMNS = (
    "#",
    "data time",
    "samples",
    "finding",
    "statistic",
    "threshold",
    "p",
    "vote",
    "outcome",
    "why",
)
"""Of :func:`shown_table`, as far as they say something."""


@dataclass(frozen=True)
class Counts:
    """What became of a trigger's evaluations.

    Attributes:
        evaluations: all of them.
        fired: that fired.
        held_back: firings that a guard did not let through.
        not_measurable: in which there was nothing to measure.
        undecided: in which all that was measured could be compared with nothing, such as windows too short for a test.
        seconds: spent on them.
    """

    evaluations: int
    fired: int
    held_back: int
    not_measurable: int
    undecided: int
    seconds: float

    def __str__(self) -> str:
        parts = [f"{self.fired:,} fired"]
        if self.held_back:
            parts.append(f"{self.held_back:,} held back by guards")
        if self.not_measurable:
            parts.append(f"{self.not_measurable:,} had nothing to measure")
        if self.undecided:
            parts.append(f"{self.undecided:,} could not decide (`modyn-client triggers` says why)")
        return f"{amount(self.evaluations, 'evaluation')}: {', '.join(parts)}"


def count(evaluations: Evaluations) -> Counts:
    """How many evaluations there were, and of which kind."""
    return Counts(
        evaluations=len(evaluations),
        fired=sum(e.decision for e in evaluations),
        held_back=sum(is_held_back(e) for e in evaluations),
        not_measurable=sum(bool(e.findings) and all(f.statistic is None for f in e.findings) for e in evaluations),
        undecided=sum(map(_is_undecided, evaluations)),
        seconds=sum(e.seconds for e in evaluations),
    )


def _is_undecided(evaluation: TriggerEvaluationPart) -> bool:
    measured = [finding for finding in evaluation.findings if finding.statistic is not None]
    undecided = all(finding.threshold is None and finding.p_value is None for finding in measured)
    return bool(measured) and undecided and not evaluation.decision


def is_held_back(evaluation: TriggerEvaluationPart) -> bool:
    """Whether it would have fired without a guard."""
    return not evaluation.decision and evaluation.reason.startswith(HELD_BACK)


def worth_showing(evaluations: Evaluations) -> bool:
    """Whether there is more to see than firings of a trigger that looks only when it fires."""
    return any(not e.decision or any(f.name for f in e.findings) for e in evaluations)


def evaluation_table(evaluations: Evaluations) -> pa.Table:
    """All evaluations, one row per finding; see :meth:`modyn.client.Client.trigger_evaluations`."""
    import pyarrow as pa

    types = [pa.int64()] * 5 + [pa.bool_(), pa.string(), pa.float64(), pa.string()]
    types += [pa.float64()] * 3 + [pa.bool_(), pa.string()]
    schema = pa.schema(zip(COLUMNS, types, strict=True))
    columns = list(zip(*flat_rows(evaluations), strict=True)) or [()] * len(COLUMNS)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def evaluations_csv(evaluations: Evaluations) -> str:
    """:func:`evaluation_table` as CSV; missing values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(flat_rows(evaluations))
    return text.getvalue()


def evaluations_json(evaluations: Evaluations) -> str:
    """A JSON array, as ``trigger_evaluations`` of ``report.json``."""
    return json.dumps([e.model_dump(mode="json") for e in evaluations], indent=2) + "\n"


def shown_table(
    evaluations: Evaluations, *, without: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A table for people: its header and rows, out of :data:`SHOWN_COLUMNS`.

    A row for each finding; what belongs to the evaluation stands in its first one. Columns without any content are
    left out, and so are those of ``without``.
    """
    rows = list(_shown_rows(evaluations))
    kept = [
        name not in without and any(row[index] not in ("", MISSING) for row in rows)
        for index, name in enumerate(SHOWN_COLUMNS)
    ]
    return tuple(compress(SHOWN_COLUMNS, kept)), [tuple(compress(row, kept)) for row in rows]


def _shown_rows(evaluations: Evaluations) -> Iterator[tuple[str, ...]]:
    for e in evaluations:
        shared = (str(e.number), _span(e.first_timestamp, e.last_timestamp), f"{e.num_samples:,}")
        outcome = _outcome(e)
        findings: list[FindingPart | None] = [*e.findings] or [None]
        for index, finding in enumerate(findings):
            note = "" if finding is None else finding.note
            why = e.reason + (f" ({note})" if note and note != e.reason else "") if index == 0 else note
            yield (
                *(shared if index == 0 else ("",) * len(shared)),
                *_finding_cells(finding),
                outcome if index == 0 else "",
                why,
            )


def flat_rows(evaluations: Evaluations) -> Iterator[tuple[object, ...]]:
    """The rows of :func:`evaluation_table`, in the order of :data:`COLUMNS`."""
    for e in evaluations:
        shared = (
            *(e.number, e.trigger, e.first_timestamp, e.last_timestamp),
            *(e.num_samples, e.decision, e.reason, e.seconds),
        )
        for f in e.findings:
            yield (*shared, f.name, f.statistic, f.threshold, f.p_value, f.decision, f.note)
        if not e.findings:
            yield (*shared, None, None, None, None, None, None)


def _finding_cells(finding: FindingPart | None) -> tuple[str, ...]:
    if finding is None:
        return ("",) * 5
    numbers = (_number(finding.statistic), _number(finding.threshold), _number(finding.p_value))
    return (finding.name, *numbers, "yes" if finding.decision else "no")


def _outcome(evaluation: TriggerEvaluationPart) -> str:
    if evaluation.trigger is not None:
        return f"trigger {evaluation.trigger}"
    if is_held_back(evaluation):
        return HELD_BACK
    return "fired" if evaluation.decision else "no"


def _number(value: float | None) -> str:
    """
    >>> _number(None), _number(0.123456), _number(1000.0), _number(831945600.0), _number(1e-12)
    ('–', '0.1235', '1,000', '831,945,600', '1e-12')
    """
    if value is None:
        return MISSING
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _span(first: int, last: int) -> str:
    """An interval of event times, no longer than needed.

    >>> _span(831945600, 831988799), _span(831945600, 832032000)
    ('1996-05-13 00:00:00 – 11:59:59', '1996-05-13 00:00 – 1996-05-14 00:00')
    """
    start, end = format_time(first), format_time(last)
    if start.endswith(":00") and end.endswith(":00") and first % 60 == last % 60 == 0:
        start, end = start[:-3], end[:-3]
    if start == end:
        return start
    day, _, moment = end.partition(" ")
    return f"{start} – {moment if moment and start.startswith(f'{day} ') else end}"

"""What could not be scored, in words."""

from __future__ import annotations

from modyn.supervisor.failures import failure_message, failure_messages
from modyn.supervisor.rows import FailureRow


def row(
    reason: str, trigger: int | None = None, window: tuple[int, int] | None = None, *, metric: str | None = None
) -> FailureRow:
    triggers = None if trigger is None else [trigger]
    message = failure_message(reason, "d", metric=metric, triggers=triggers, windows=[window] if window else [])
    start, end = window or (None, None)
    return FailureRow(message, handler="h", dataset="d", trigger_index=trigger, start=start, end=end, metric=metric)


def test_failures_with_the_same_reason_are_one_line() -> None:
    rows = [row("no", trigger, metric="MSE") for trigger in (9, 1, 4, 2, 7, 3)]
    assert failure_messages(rows) == [
        "evaluation of metric MSE, the models of triggers 1, 2, 3, 4, 7 and 1 more on 'd' failed: no"
    ]
    rows = [row("no", 3, (start, start + 5)) for start in (0, 5)] + [row("no", 4, (0, 5))]
    assert failure_messages(rows) == [
        "evaluation of the models of triggers 3, 4, 2 windows on 'd' failed: no",
    ]


def test_what_differs_in_anything_else_stays_apart() -> None:
    rows = [
        row("no", 1),
        row("no"),
        row("no", 1, (0, 5)),
        row("no", None, (0, 5)),
        row("no", 1, metric="MSE"),
        row("other", 1),
    ]
    assert failure_messages(rows) == [one.message for one in rows]
    unknown = failure_message("no", "d", metric=None, triggers=[], windows=[], model="a" * 64)
    rows = [FailureRow(unknown, handler="h", dataset="d"), row("no"), FailureRow("no colon"), row("no")]
    assert failure_messages(rows) == [unknown, rows[1].message, "no colon"]
    assert "the model of trigger unknown (aaaaaaaaaaaa)" in unknown


def test_the_same_failure_of_several_handlers_is_said_once() -> None:
    rows = [row("no", 1), FailureRow(row("no", 1).message, handler="other", dataset="d", trigger_index=1)]
    assert failure_messages(rows) == ["evaluation of the model of trigger 1 on 'd' failed: no"]

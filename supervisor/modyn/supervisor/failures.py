"""What could not be scored, in words: one line for each reason, however many models and windows share it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from modyn.supervisor.rows import FailureRow

SHOWN = 5
"""Triggers that a line names."""

NOTICES = 3
"""Failures with the same reason that are told one by one, as they come."""

_FAILED = " failed: "
_UNKNOWN = "trigger unknown"


def failure_message(
    reason: str,
    dataset: str,
    *,
    metric: str | None,
    triggers: Sequence[int] | None,
    windows: Collection[tuple[int, int]],
    model: str = "",
) -> str:
    """One line.

    >>> failure_message("no", "d", metric="MSE", triggers=[2, 3, 5, 7, 11, 13, 17], windows=[(0, 9)])
    "evaluation of metric MSE, the models of triggers 2, 3, 5, 7, 11 and 2 more, the window [0, 9) on 'd' failed: no"

    Args:
        triggers: those whose models it is about, ascending; None: whatever the model.
        windows: those it is about; empty: all.
        model: digest, for one that no trigger is known of.
    """
    parts = [f"metric {metric}"] if metric else []
    if triggers is not None:
        shown = ", ".join(map(str, triggers[:SHOWN]))
        more = f" and {len(triggers) - SHOWN} more" if len(triggers) > SHOWN else ""
        if not triggers:
            parts.append(f"the model of {_UNKNOWN} ({model[:12]})")
        else:
            parts.append(
                f"the models of triggers {shown}{more}" if more or "," in shown else f"the model of trigger {shown}"
            )
    if len(windows) == 1:
        (start, end) = next(iter(windows))
        parts.append(f"the window [{start}, {end})")
    elif windows:
        parts.append(f"{len(windows):,} windows")
    return f"evaluation of {', '.join(parts) or 'all models'} on {dataset!r}{_FAILED}{reason}"


def failure_messages(rows: Iterable[FailureRow]) -> list[str]:
    """One line for each reason, in the order in which they came first."""
    alike: dict[tuple[object, ...], list[FailureRow]] = {}
    for row in rows:
        what, _, reason = row.message.partition(_FAILED)
        if row.dataset is None or not reason or _UNKNOWN in what:
            key: tuple[object, ...] = (row.message,)
        else:
            key = (row.dataset, row.metric, reason, row.start is None, row.trigger_index is None)
        alike.setdefault(key, []).append(row)
    return list(dict.fromkeys(map(_together, alike.values())))


def _together(rows: Sequence[FailureRow]) -> str:
    first = rows[0]
    if len({row.message for row in rows}) == 1 or first.dataset is None:
        return first.message
    triggers = sorted({row.trigger_index for row in rows if row.trigger_index is not None})
    return failure_message(
        first.message.partition(_FAILED)[2],
        first.dataset,
        metric=first.metric,
        triggers=triggers or None,
        windows={(row.start, row.end) for row in rows if row.start is not None and row.end is not None},
    )

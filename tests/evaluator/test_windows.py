from __future__ import annotations

import doctest
import importlib
import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.durations import SECONDS_PER_UNIT
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import (
    WINDOW_STRATEGIES,
    TrainedInterval,
    Window,
    WindowContext,
    WindowStrategy,
)
from modyn.evaluator.windows.intervals import parse_interval

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "StaticEvalStrategy": [
        {"intervals": [[0, None]]},
        {"intervals": [[500, 900], [0, 400], [900, None], [1_000_000, None]]},
    ],
    "SlicingEvalStrategy": [
        {"eval_every": "7s"},
        {"eval_every": "1m", "eval_start_from": 0, "eval_end_at": 700},
        {"eval_every": "1h", "eval_start_from": 5},
        {"eval_every": "999999999999y", "eval_start_from": -(2**63)},
    ],
    "PeriodicEvalStrategy": [
        {"every": "1m", "interval": "[-30s; +29s]"},
        {"every": "10s", "interval": "(-inf, +inf)", "start_timestamp": 100, "end_timestamp": 300},
        {"every": "1m", "interval": "(0; +2m]"},
        {"every": "1h", "interval": "[-1d, -1s)"},
        {"every": "999999999999y", "interval": "[-999999999999y, +5s)"},
    ],
    "BetweenTwoTriggersEvalStrategy": [{}],
    "OffsetEvalStrategy": [{"offsets": ["-inf", "-1m", 0, "+2m", "inf"]}, {"offsets": ["1h"]}],
}
"""At least one configuration per registered strategy; a new strategy adds its own here."""

TRIGGER_LOGS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=8).map(
    lambda rows: [
        TrainedInterval(3 * i, last - late, last)
        for i, (late, last) in enumerate(
            zip((late for late, _ in rows), itertools.accumulate(gap for _, gap in rows), strict=True)
        )
    ]
)
"""Trainings whose ends never go back; ties and late first samples are common."""

CASES = [(name, tree) for name, trees in EXAMPLES.items() for tree in trees]


def strategy(name: str, tree: dict[str, Any]) -> WindowStrategy:
    return WINDOW_STRATEGIES.parse({"type": name, **tree})


def test_every_registered_strategy_has_examples() -> None:
    assert set(EXAMPLES) == set(WINDOW_STRATEGIES.names())


@pytest.mark.parametrize("name", WINDOW_STRATEGIES.names())
def test_the_documented_examples_hold(name: str) -> None:
    module = importlib.import_module(WINDOW_STRATEGIES.get(name).__module__)
    assert WINDOW_STRATEGIES.get(name).__doc__
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(("name", "tree"), CASES)
@settings(max_examples=40)
@given(first=st.integers(-1_000, 2_000), span=st.integers(0, 2_000), triggers=TRIGGER_LOGS)
def test_windows_are_different_and_in_time_order_inside_the_data_and_never_empty(
    name: str, tree: dict[str, Any], first: int, span: int, triggers: list[TrainedInterval]
) -> None:
    windows = strategy(name, tree).windows(WindowContext(first, first + span, triggers))
    assert windows == sorted(windows, key=lambda w: w.anchor if name.startswith("Periodic") else w.start)
    assert len(set(windows)) == len(windows)
    for window in windows:
        assert first <= window.start < window.end <= first + span + 1
        assert (window.trigger_index is not None) == strategy(name, tree).belongs_to_models


@pytest.mark.parametrize(("name", "tree"), CASES)
@pytest.mark.parametrize("at", [-(2**63), 2**63 - 1])
def test_windows_stay_within_64_bits_at_the_ends_of_time(name: str, tree: dict[str, Any], at: int) -> None:
    context = WindowContext(max(at - 500, -(2**63)), min(at + 500, 2**63 - 1), [TrainedInterval(0, at, at)])
    for window in strategy(name, tree).windows(context):
        assert -(2**63) <= window.start < window.end < 2**63
        assert -(2**63) <= window.anchor < 2**63


@pytest.mark.parametrize(("name", "tree"), CASES)
def test_a_strategy_survives_the_trip_through_a_message(name: str, tree: dict[str, Any]) -> None:
    plugin = strategy(name, tree)
    assert WINDOW_STRATEGIES.parse(WINDOW_STRATEGIES.dump(plugin)) == plugin


# ------------------------------------------------------------------------------------------------ slicing, static


@given(
    first=st.integers(0, 500),
    span=st.integers(0, 500),
    every=st.integers(1, 300),
    start=st.none() | st.integers(0, 1200),
    length=st.none() | st.integers(1, 1200),
)
def test_slices_are_those_of_a_plain_loop(
    first: int, span: int, every: int, start: int | None, length: int | None
) -> None:
    end = None if start is None or length is None else start + length
    tree: dict[str, Any] = {"eval_every": f"{every}s", "eval_start_from": start, "eval_end_at": end}
    begin, stop = first, first + span + 1
    position = begin if start is None else start
    last = stop if end is None else end
    expected = []
    while position < last:
        a, b = max(position, begin), min(position + every, last, stop)
        if a < b:
            expected.append(Window(a, b, a))
        position += every
    assert strategy("SlicingEvalStrategy", tree).windows(WindowContext(first, first + span)) == expected


def test_slices_tile_the_span_without_gap_or_overlap() -> None:
    windows = strategy("SlicingEvalStrategy", {"eval_every": "1w"}).windows(WindowContext(1_000, 50_000_000))
    assert (windows[0].start, windows[-1].end) == (1_000, 50_000_001)
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))


def test_static_windows_come_in_time_order_and_clipped() -> None:
    plugin = strategy("StaticEvalStrategy", {"intervals": [[50, None], [0, 40], [10, 20], [0, 5]]})
    assert [(w.start, w.end, w.anchor) for w in plugin.windows(WindowContext(7, 99))] == [
        (7, 40, 7),
        (10, 20, 10),
        (50, 100, 50),
    ]


# ------------------------------------------------------------------------------------------------ periodic


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[-2d; +2d]", (10**6 - 2 * 86_400, 10**6 + 2 * 86_400 + 1)),
        ("(-2d; +2d)", (10**6 - 2 * 86_400 + 1, 10**6 + 2 * 86_400)),
        ("(-inf, +1y]", (None, 10**6 + 31_536_000 + 1)),
        ("[-1w, inf)", (10**6 - 604_800, None)),
        ("[0; 0]", (10**6, 10**6 + 1)),
        ("[-0d, +0d]", (10**6, 10**6 + 1)),
        ("[ - 3 h , 5 m ]", (10**6 - 3 * 3_600, 10**6 + 301)),
        ("[1s;2s)", (10**6 + 1, 10**6 + 2)),
        ("[-2s;-1s]", (10**6 - 2, 10**6)),
        ("(-1s;+1s)", (10**6, 10**6 + 1)),
    ],
)
def test_intervals_around_a_moment(text: str, expected: tuple[int | None, int | None]) -> None:
    assert parse_interval(text).around(10**6, 10**6) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0; 0]", (100, 201)),
        ("[-0s; -0s]", (100, 101)),
        ("[+0s; +0s]", (200, 201)),
        ("(+0s; +9s]", (201, 210)),
        ("[-10s; -0s)", (90, 100)),
    ],
)
def test_signs_choose_the_end_of_a_stretch_to_count_from(text: str, expected: tuple[int, int]) -> None:
    assert parse_interval(text).around(100, 200) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "-1d; 1d", "[-1d 1d]", "[-1d; 1d", "[-1; 1]", "[-1x; 1d]", "[+inf; 1d]", "[inf; inf]", "[-1d; -inf]",
        "[1d; -1d]", "[+1d; 0]", "[0; -0s]", "[+0s; 0]", "[-1d; -2d]", "[--1d; 1d]", "[1.5d; 2d]", "{-1d; 1d}",
    ],
)  # fmt: skip
def test_intervals_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_interval(text)


@given(
    first=st.integers(0, 3_000),
    span=st.integers(0, 3_000),
    every=st.integers(1, 900),
    left=st.integers(-900, 900),
    width=st.integers(2, 900),
    brackets=st.sampled_from(["[]", "[)", "(]", "()"]),
    start=st.none() | st.integers(0, 4_000),
)
def test_periodic_windows_are_those_of_a_plain_loop(
    first: int, span: int, every: int, left: int, width: int, brackets: str, start: int | None
) -> None:
    text = f"{brackets[0]}{left:+d}s; {left + width:+d}s{brackets[1]}"
    plugin = strategy("PeriodicEvalStrategy", {"every": f"{every}s", "interval": text, "start_timestamp": start})
    expected = []
    moment = first if start is None else start
    while moment <= first + span:
        seconds = [
            second
            for second in range(moment + left, moment + left + width + 1)
            if (second != moment + left or brackets[0] == "[")
            and (second != moment + left + width or brackets[1] == "]")
            and first <= second <= first + span
        ]
        if seconds:
            expected.append(Window(seconds[0], seconds[-1] + 1, moment))
        moment += every
    assert plugin.windows(WindowContext(first, first + span)) == expected


@pytest.mark.parametrize("unit", sorted(SECONDS_PER_UNIT))
def test_every_unit_of_a_duration_works_in_intervals(unit: str) -> None:
    assert parse_interval(f"[-1{unit}; 0]").around(0, 0) == (-SECONDS_PER_UNIT[unit], 1)


def test_moments_far_from_the_data_cost_nothing() -> None:
    plugin = strategy("PeriodicEvalStrategy", {"every": "1m", "interval": "[-1h; +90s]", "start_timestamp": 0})
    windows = plugin.windows(WindowContext(10**9, 10**9 + 60))
    assert (windows[0].anchor, windows[-1].anchor) == (10**9 - 40, 10**9 + 20)


# ------------------------------------------------------------------------------------------------ around trainings

SPANS = st.tuples(st.integers(-50, 150), st.integers(0, 500))
"""First second of the data, and how many follow."""


def slow_window(seconds: Iterable[int], **own: Any) -> list[Window]:
    """The window of some seconds, if there are any."""
    held = sorted(seconds)
    return [Window(held[0], held[-1] + 1, held[0], **own)] if held else []


@settings(max_examples=200)
@given(data=SPANS, triggers=TRIGGER_LOGS)
def test_windows_between_triggers_are_those_of_a_plain_loop(
    data: tuple[int, int], triggers: list[TrainedInterval]
) -> None:
    first, last = data[0], sum(data)
    expected: list[Window] = []
    for trigger in triggers:
        expected += slow_window(
            t for t in range(first, last + 1) if trigger.first_timestamp <= t <= trigger.last_timestamp
        )
    expected += slow_window(
        t for t in range(first, last + 1) if all(t > trigger.last_timestamp for trigger in triggers)
    )
    found = strategy("BetweenTwoTriggersEvalStrategy", {}).windows(WindowContext(first, last, triggers))
    assert found == sorted(set(expected), key=lambda w: (w.start, w.end))


@settings(max_examples=200)
@given(
    data=SPANS,
    triggers=TRIGGER_LOGS,
    offsets=st.lists(
        st.integers(-70, 70) | st.sampled_from([-math.inf, math.inf]), min_size=1, max_size=4, unique=True
    ),
)
def test_offset_windows_are_those_of_a_plain_loop(
    data: tuple[int, int], triggers: list[TrainedInterval], offsets: list[float]
) -> None:
    first, last = data[0], sum(data)
    texts = {d: f"{d:+}".replace("+inf", "inf") if math.isinf(d) else f"{d:+}s" if d else "0" for d in offsets}
    expected: list[Window] = []
    for trigger in triggers:
        before, after = trigger.first_timestamp, trigger.last_timestamp
        for d in offsets:
            if d < 0:
                held = [t for t in range(first, last + 1) if before + d <= t < before]
            elif d > 0:
                held = [t for t in range(first, last + 1) if after < t <= after + d]
            else:
                held = [t for t in range(first, last + 1) if before <= t <= after]
            expected += slow_window(held, trigger_index=trigger.trigger_index, offset=texts[d])
    found = strategy("OffsetEvalStrategy", {"offsets": list(texts.values())}).windows(
        WindowContext(first, last, triggers)
    )
    assert found == sorted(expected, key=lambda w: (w.start, w.end))


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("name", "tree", "said"),
    [
        ("StaticEvalStrategy", {"intervals": []}, "intervals"),
        ("StaticEvalStrategy", {"intervals": [[10, 10]]}, r"\[10, 10\] ends before it begins"),
        ("StaticEvalStrategy", {"intervals": [[2**63, None]]}, "less than or equal to 9223372036854775807"),
        ("SlicingEvalStrategy", {}, "eval_every"),
        ("SlicingEvalStrategy", {"eval_every": "fortnight"}, "expected a duration"),
        ("SlicingEvalStrategy", {"eval_every": "1d", "eval_start_from": 9, "eval_end_at": 9}, "eval_end_at 9"),
        ("PeriodicEvalStrategy", {"every": "1d", "interval": "tomorrow"}, "expected an interval such as"),
        ("PeriodicEvalStrategy", {"every": "1d", "interval": "(0; 0)"}, "holds no second"),
        (
            "PeriodicEvalStrategy",
            {"every": "1d", "interval": "[0; 1d]", "start_timestamp": 9, "end_timestamp": 1},
            "end_",
        ),
        ("OffsetEvalStrategy", {"offsets": []}, "at least 1 item"),
        ("OffsetEvalStrategy", {"offsets": ["tomorrow"]}, r"expected a signed duration such as \+1w or -2d"),
        ("OffsetEvalStrategy", {"offsets": [7]}, "expected a signed duration"),
        ("OffsetEvalStrategy", {"offsets": ["+7d", "-1d", "1w"]}, r"'1w' means the same as '\+7d'; keep one"),
        ("OffsetEvalStrategy", {"offsets": ["-0", "0d"]}, "'0d' means the same as '-0'"),
    ],
)
def test_bad_configurations_name_what_was_expected(name: str, tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        strategy(name, tree)


@pytest.mark.parametrize(
    ("name", "tree"),
    [("SlicingEvalStrategy", {"eval_every": "1s"}), ("PeriodicEvalStrategy", {"every": "1s", "interval": "[0; 1d]"})],
)
def test_absurdly_many_windows_are_refused(name: str, tree: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"every: 1 s cuts .* windows; expected at most 100,000"):
        strategy(name, tree).windows(WindowContext(0, 10**9))
    with pytest.raises(InvalidInputError, match=r"expected at most 100,000"):
        strategy(name, tree).windows(WindowContext(-(2**63), 2**63 - 1))

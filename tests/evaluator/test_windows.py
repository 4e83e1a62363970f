from __future__ import annotations

import doctest
import importlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.durations import SECONDS_PER_UNIT
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, Window, WindowContext, WindowStrategy
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
    ],
    "PeriodicEvalStrategy": [
        {"every": "1m", "interval": "[-30s; +29s]"},
        {"every": "10s", "interval": "(-inf, +inf)", "start_timestamp": 100, "end_timestamp": 300},
        {"every": "1m", "interval": "(0; +2m]"},
        {"every": "1h", "interval": "[-1d, -1s)"},
    ],
}
"""At least one configuration per registered strategy; a new strategy adds its own here."""

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
@given(first=st.integers(0, 2_000), span=st.integers(0, 2_000))
def test_windows_are_in_time_order_inside_the_data_and_never_empty_spans(
    name: str, tree: dict[str, Any], first: int, span: int
) -> None:
    context = WindowContext(first, first + span)
    windows = strategy(name, tree).windows(context)
    assert windows == sorted(windows, key=lambda w: w.anchor if name.startswith("Periodic") else w.start)
    for window in windows:
        assert first <= window.start < window.end <= first + span + 1


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


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("name", "tree", "said"),
    [
        ("StaticEvalStrategy", {"intervals": []}, "intervals"),
        ("StaticEvalStrategy", {"intervals": [[10, 10]]}, r"\[10, 10\] ends before it begins"),
        ("StaticEvalStrategy", {"intervals": [[-1, 10]]}, "greater than or equal to 0"),
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

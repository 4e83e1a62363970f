"""Evaluations of a trigger as tables for people and programs."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from modyn.client.explanations import (
    COLUMNS,
    count,
    evaluation_table,
    evaluations_csv,
    evaluations_json,
    shown_table,
    worth_showing,
)
from modyn.client.simulation import print_simulation, summary
from modyn.client.tables import print_evaluations
from modyn.core.report import FindingPart, TriggerEvaluationPart
from tests.client.reports import drifting, finding, report, trigger_evaluation

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8)
findings = st.builds(
    FindingPart,
    name=texts,
    statistic=numbers,
    threshold=numbers,
    p_value=numbers,
    decision=st.booleans(),
    note=texts,
)
moments = st.integers(-(2**62), 2**62)
evaluations = st.lists(
    st.builds(
        TriggerEvaluationPart,
        number=st.integers(0, 10**6),
        trigger=st.none() | st.integers(0, 1000),
        first_timestamp=moments,
        last_timestamp=moments,
        num_samples=st.integers(0, 2**40),
        decision=st.booleans(),
        reason=texts,
        findings=st.lists(findings, max_size=3),
        seconds=st.floats(0, 10),
    ),
    max_size=6,
)


def test_counts_are_in_words() -> None:
    counts = count(drifting())
    assert (counts.evaluations, counts.fired, counts.held_back, counts.not_measurable) == (8, 2, 1, 1)
    assert counts.seconds == 2.0
    assert str(counts) == "8 evaluations: 2 fired, 1 held back by guards, 1 had nothing to measure"
    assert str(count([trigger_evaluation(0, 0)])) == "1 evaluation: 1 fired"
    assert str(count([])) == "0 evaluations: 0 fired"


def test_a_trigger_that_looks_only_when_it_fires_is_not_worth_showing() -> None:
    assert not worth_showing([trigger_evaluation(0, 0, finding("", 100, 100, decision=True))])
    assert worth_showing([trigger_evaluation(0, 0, finding("mmd", 1, 0.5, decision=True))])
    assert worth_showing([trigger_evaluation(0, None)])


@given(evaluations)
def test_the_table_has_a_row_per_evaluation_and_finding(made: list[TriggerEvaluationPart]) -> None:
    table = evaluation_table(made)
    assert table.column_names == list(COLUMNS)
    expected: list[tuple[TriggerEvaluationPart, FindingPart | None]] = []
    for evaluation in made:
        expected += [(evaluation, f) for f in evaluation.findings] or [(evaluation, None)]
    assert table["evaluation"].to_pylist() == [e.number for e, _ in expected]
    assert table["trigger"].to_pylist() == [e.trigger for e, _ in expected]
    assert table["fired"].to_pylist() == [e.decision for e, _ in expected]
    assert table["last_timestamp"].to_pylist() == [e.last_timestamp for e, _ in expected]
    assert table["finding"].to_pylist() == [None if f is None else f.name for _, f in expected]
    assert table["statistic"].to_pylist() == [None if f is None else f.statistic for _, f in expected]
    assert table["p_value"].to_pylist() == [None if f is None else f.p_value for _, f in expected]


def test_columns_have_their_types_even_if_the_table_is_empty() -> None:
    assert evaluation_table([]).schema == evaluation_table(drifting()).schema
    assert evaluation_table([]).num_rows == 0
    assert evaluation_table([]).schema.field("threshold").type == pa.float64()


@given(evaluations)
def test_csv_and_json_hold_the_same(made: list[TriggerEvaluationPart]) -> None:
    rows = list(csv.DictReader(io.StringIO(evaluations_csv(made), newline="")))
    table = evaluation_table(made).to_pylist()
    assert len(rows) == len(table)
    for row, expected in zip(rows, table, strict=True):
        assert set(row) == set(COLUMNS)
        assert row["statistic"] == ("" if expected["statistic"] is None else repr(expected["statistic"]))
        assert row["evaluation"] == str(expected["evaluation"])
    assert [TriggerEvaluationPart.model_validate(part) for part in json.loads(evaluations_json(made))] == made


@given(evaluations, st.integers(20, 200))
def test_anything_can_be_shown(made: list[TriggerEvaluationPart], width: int) -> None:
    """Names and reasons with brackets are no markup, and no width is too small."""
    out = Console(file=io.StringIO(), width=width)
    print_evaluations(out, "why", made)


def test_the_table_for_people_has_what_belongs_to_the_evaluation_once() -> None:
    header, rows = shown_table(drifting(3, start=0))
    assert header == ("#", "data time", "samples", "finding", "statistic", "threshold", "p", "vote", "outcome", "why")
    days = [f"1970-01-0{day} 00:00:00 – 23:59:59" for day in (1, 2, 3)]
    assert rows == [
        ("0", days[0], "100", "mmd", "–", "–", "–", "no", "trigger 0", "no model yet (empty window)"),
        ("1", days[1], "100", "mmd", "0.75", "0.5", "0.01", "yes", "held back", drifting(3)[1].reason),
        ("", "", "", "ks", "0.25", "–", "–", "no", "", "window too short"),
        ("2", days[2], "100", "mmd", "0.75", "0.5", "0.01", "yes", "trigger 1", "drift: mmd 0.75 > 0.5"),
        ("", "", "", "ks", "0.25", "0.5", "–", "no", "", ""),
    ]


def test_columns_that_say_nothing_are_left_out() -> None:
    header, rows = shown_table([trigger_evaluation(0, 0, reason="asked for by hand")])
    assert header == ("#", "data time", "samples", "outcome", "why")
    assert [len(row) for row in rows] == [5]
    assert shown_table([]) == ((), [])


def test_a_simulation_is_summed_up() -> None:
    looked = drifting()
    document = report(looked=looked, simulated=True)
    assert summary(document) == [
        "2 triggers on 300 samples; new samples per trigger: min 100, median 100, max 100",
        "100 samples came after the last one",
        "8 evaluations: 2 fired, 1 held back by guards, 1 had nothing to measure; 0.00 s deciding",
        "why: modyn-client triggers 1",
    ]
    never = document.model_copy(update={"triggers": [], "trigger_evaluations": []})
    assert summary(never)[0] == "It would never have fired on 300 samples."


def test_a_simulation_with_many_triggers_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_simulation(report(simulated=True), 1)
    printed = capsys.readouterr().out
    assert "1 earlier trigger left out; --limit 2 shows all of them" in printed
    assert "1970-01-02" in printed
    assert "1970-01-01 00:00:00" not in printed

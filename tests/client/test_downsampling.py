"""The section "Does downsampling pay?" in files and on a terminal."""

from __future__ import annotations

import pytest

from modyn.client.downsampling import TITLE, comparison, facts
from modyn.client.markdown import report_markdown
from modyn.client.tables import print_pipelines, print_report
from modyn.proto.supervisor_pb2 import Pipeline
from tests.client.reports import baseline, composite, downsampling, report


def test_there_is_no_section_without_a_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert TITLE not in report_markdown(report())
    print_report(report())
    assert TITLE not in capsys.readouterr().out
    assert comparison(report()) == ((), [])


def test_the_section_has_the_numbers_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    document = report(part=downsampling())
    text = report_markdown(document)
    section = text[text.index(f"## {TITLE}") : text.index("## Cost")]
    print_report(document)
    for shown in (section, capsys.readouterr().out):
        assert "It saved an estimated 0.2 s." in shown
        assert "400 of 800 passes (50.0%)" in shown
        assert "+0.16 s" in shown
        assert "as many passes" not in shown


def test_auxiliary_models_and_reused_scores_are_named_where_there_are_any() -> None:
    assert "auxiliary models" not in dict(facts(downsampling()))
    rows = dict(facts(downsampling(auxiliary_samples=1200, auxiliary_seconds=0.5, scores_reused=30, seconds_net=-1.0)))
    assert rows["auxiliary models"] == "0.50 s, 1,200 passes"
    assert rows["scored"] == "800 samples, 30 scores reused"
    assert rows["net (estimate)"] == "-1.00 s"
    assert dict(facts(downsampling(samples_offered=0, samples_trained=0)))["trained"] == "0 of 0 passes"


def test_baselines_stand_beside_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    part = downsampling(baseline("uniform", 0.5), baseline("fewer_epochs", None, status="failed"))
    document = report(part=part)
    header, rows = comparison(document)
    assert header == ("", "samples trained", "train s", "total s", "Accuracy")
    assert rows == [
        ("this pipeline (Loss)", "400", "0.40", "0.62", "0.7500"),
        ("uniform sample, same number of passes, pipeline 2", "401", "0.25", "0.47", "0.5000"),
        ("all samples, fewer epochs (failed), pipeline 3", "401", "0.25", "0.47", "–"),
    ]
    assert "| this pipeline (Loss) | 400 | 0.40 | 0.62 | 0.7500 |" in report_markdown(document)
    print_report(document)
    assert "all samples, fewer epochs (failed), pipeline 3" in capsys.readouterr().out


def test_scores_of_several_handlers_are_told_apart() -> None:
    document = report(part=downsampling(baseline("uniform", 0.5)))
    document.composite["daily"] = {"d": {"Accuracy": composite(None)}}
    header, rows = comparison(document)
    assert header[4:] == ("weekly/d/Accuracy", "daily/d/Accuracy")
    assert [row[4:] for row in rows] == [("0.7500", "–"), ("0.5000", "–")]


def test_without_an_evaluation_only_costs_are_compared() -> None:
    document = report(part=downsampling(baseline("uniform", None))).model_copy(update={"composite": {}})
    header, rows = comparison(document)
    assert (len(header), [len(row) for row in rows]) == (4, [4, 4])


def test_lists_mark_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    pipelines = [
        Pipeline(id="1", name="p", status=Pipeline.COMPLETED),
        Pipeline(id="2", name="p (baseline: uniform)", status=Pipeline.COMPLETED, baseline_of="1", baseline="uniform"),
    ]
    print_pipelines(pipelines)
    plain, marked = [line for line in capsys.readouterr().out.splitlines() if "completed" in line]
    assert "replay" in plain
    assert "baseline of 1" in marked

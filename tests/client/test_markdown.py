from __future__ import annotations

import pytest

from modyn.client.composites import composite_scores
from modyn.client.markdown import report_markdown
from modyn.client.tables import print_report
from modyn.client.wording import interpretation
from modyn.core.report import DifferencePart, EvaluationPart, HandlerPart, IntervalPart, OffsetPart, TransferPart
from tests.client.reports import composite, drifting, report


@pytest.mark.parametrize(
    ("active", "best", "says"),
    [
        (0.80, 0.70, "beats the best baseline without any model (last label, 0.7000) by 0.1000"),
        (0.70, 0.90, "stays 0.2000 below the best baseline"),
        (0.70, 0.90, "must not be mistaken for skill"),
        (0.702, 0.70, "no better than"),
    ],
)
def test_interpretation_is_honest_about_baselines(active: float, best: float, says: str) -> None:
    assert says in interpretation(composite(active, majority_class=0.5, last_label=best))


def test_interpretation_without_scores_or_baselines() -> None:
    assert "No window could be scored" in interpretation(composite(None, scored=0))
    assert interpretation(composite(0.5, scored=1)) == "Mean over 1 window in which a model was active."
    assert "beats" not in interpretation(composite(0.5, majority_class=None))


def test_an_interval_decides_what_counts_as_a_difference() -> None:
    def judged(mean: float, low: float, high: float, *, greater: bool = True) -> str:
        interval = IntervalPart(low=low, high=high, level=0.95)
        part = DifferencePart(mean=mean, interval=interval, windows=20)
        score = composite(0.7 + mean, majority_class=0.7)
        return interpretation(
            score.model_copy(update={"over_baselines": {"majority_class": part}, "greater_is_better": greater})
        )

    assert "beats" in judged(0.002, 0.001, 0.003)
    assert "by 0.0020 [0.001, 0.003]" in judged(0.002, 0.001, 0.003)
    assert "not clearly better than" in judged(0.1, -0.01, 0.2)
    assert "no better than" in judged(-0.1, -0.2, 0.01)
    assert "0.1000 below" in judged(-0.1, -0.2, -0.05)
    assert "by 0.1000 [0.050, 0.200]" in judged(-0.1, -0.2, -0.05, greater=False)
    assert "0.1000 above" in judged(0.1, 0.05, 0.2, greater=False)


def test_what_is_known_beside_the_means_has_sections_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Accuracy", *(f"Accuracy[region=r{i}]" for i in range(50)), "Accuracy#7"]
    interval = IntervalPart(low=0.7, high=0.8, level=0.95)
    score = composite(0.75, majority_class=0.5).model_copy(update={"interval": interval})
    document = report().model_copy(
        update={
            "composite": {"weekly": {"d": dict.fromkeys(names, score)}},
            "windows": [w.model_copy(update={"certification": "certified"}) for w in report().windows],
            "evaluation": EvaluationPart(
                handlers=[], metrics=[], training_latency="measured", labels="known", label_delay=86_400,
                confidence=0.95,
            ),
            "transfer": [
                TransferPart(
                    handler="weekly", dataset="d", metric="Accuracy", forgetting=0.125, backward_transfer=-0.25,
                    forward_transfer=None, windows_backward=3, windows_forward=0,
                )
            ],
            "offsets": [
                OffsetPart(handler="o", dataset="d", metric="Accuracy", offset="+1w", models=3, mean=0.5, interval=None)
            ],
        }
    )  # fmt: skip
    text = report_markdown(document)
    expected = [
        *("**0.7500** [0.700, 0.800]", "*Certified*", "11 more are in `tables/composite.parquet`", "region=r39"),
        *("| weekly on d | Accuracy | +0.1250 | -0.2500 | – | 3 and 0 |", "| o on d | Accuracy | +1w | 0.5000 | 3 |"),
        *("measured: a model counts as active once", "labels are known 1d after their samples"),
    ]
    for part in expected:
        assert part in text
    assert text.count("majority class") < 10, "slices do not flood the main table"
    print_report(document)
    shown = capsys.readouterr().out
    for part in ("0.7500 [0.700, 0.800]", "certified", "forgetting +0.1250", "39 more scores", "+1w", "measured"):
        assert part in shown
    assert shown.count("region=") == 11


def test_what_was_added_later_stands_behind_the_handlers_of_the_pipeline() -> None:
    parts = [
        HandlerPart(name=name, execution_time="manual", models="composite", strategy={}) for name in ("weekly", "0..")
    ]
    part = EvaluationPart(
        handlers=parts, metrics=[], training_latency="zero", labels="newest", label_delay=None, confidence=None
    )
    scores = {name: {"d": {"Accuracy": composite(0.5)}} for name in ("0..", "weekly")}
    document = report().model_copy(update={"composite": scores, "evaluation": part})
    assert [found[0] for found in composite_scores(document)] == ["weekly", "0.."]


def test_brackets_in_failures_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report().model_copy(update={"failures": ["Accuracy[region=NSW]: no file [/data/x]"]}))
    assert "failed: Accuracy[region=NSW]: no file [/data/x]" in capsys.readouterr().out


def test_a_run_that_failed_before_its_first_trigger_has_no_table_of_zeros(capsys: pytest.CaptureFixture[str]) -> None:
    document = report(status="failed", triggers=[], windows=[], looked=[])
    failed = document.pipeline.model_copy(update={"error": "data.source.path: no such folder"})
    document = document.model_copy(update={"pipeline": failed, "composite": {}, "evaluations": []})
    print_report(document)
    assert capsys.readouterr().out.splitlines() == ["demo: failed before the first trigger fired, after 300 samples"]
    text = report_markdown(document)
    assert "## Cost" not in text
    assert "failed: data.source.path" in text


def test_report_names_what_matters() -> None:
    text = report_markdown(report())
    for expected in ("# demo", "completed", "weekly on d", "**0.7500**", "0.9000", "## Triggers", "## Cost", "12 ms"):
        assert expected in text


def test_report_without_triggers_and_evaluation() -> None:
    document = report()
    text = report_markdown(document.model_copy(update={"triggers": [], "composite": {}}))
    assert "No trigger fired." in text
    assert "Nothing was evaluated; an `evaluation` section" in text


def test_tables_survive_pipes_in_text() -> None:
    document = report()
    odd = document.triggers[0].model_copy(update={"reason": "a|b"})
    row = next(
        line
        for line in report_markdown(document.model_copy(update={"triggers": [odd]})).splitlines()
        if "a\\|b" in line
    )
    header = "| # |"
    columns = next(line for line in report_markdown(document).splitlines() if line.startswith(header)).count("|")
    assert row.replace("\\|", "").count("|") == columns


def test_report_says_why_the_trigger_fired_or_did_not() -> None:
    text = report_markdown(report(looked=drifting(30)), has_plot=True)
    why = text[text.index("### Why it fired") : text.index("## Cost")]
    assert "30 evaluations: 2 fired, 1 held back by guards, 1 had nothing to measure." in why
    assert "](triggers.svg)" in why
    assert "`modyn-client triggers 1` shows all" in why
    assert why.count("| mmd |") == 10
    assert "| 29 | 1996-06-11 00:00:00 – 23:59:59 | 100 | mmd | 0.75 | 0.5 | 0.01 | yes | trigger 1 |" in why
    assert "triggers.svg" not in report_markdown(report(looked=drifting()))


def test_a_trigger_that_looks_only_when_it_fires_needs_no_more_words() -> None:
    assert "### Why" not in report_markdown(report())


def test_a_simulation_is_called_one() -> None:
    assert "simulated, nothing was trained" in report_markdown(report(simulated=True))

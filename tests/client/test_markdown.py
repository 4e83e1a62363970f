from __future__ import annotations

import pytest

from modyn.client.markdown import interpretation, report_markdown
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

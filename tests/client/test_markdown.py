from __future__ import annotations

import pytest

from modyn.client.markdown import interpretation, report_markdown
from tests.client.reports import composite, report


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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.client.comparison import compare, print_comparison
from tests.client.reports import composite, report, window

Scores = list[float | None]


@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.floats(0, 1))] * 2),
        max_size=12,
    )
)
def test_means_are_over_windows_where_all_runs_have_an_active_model(
    pairs: list[tuple[float | None, float | None]],
) -> None:
    reports = [
        report(windows=[window(index, pair[which]) for index, pair in enumerate(pairs)], score=composite(0.1))
        for which in (0, 1)
    ]
    (score,) = compare(reports)
    common = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert score.num_common == len(common)
    if common:
        assert score.common == pytest.approx(list(np.mean(common, axis=0)))
    else:
        assert score.common == [None, None]


def test_metrics_not_shared_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    other = report().model_copy(update={"composite": {}})
    assert compare([report(), other]) == []
    print_comparison([report(), other])
    assert "cannot be compared" in capsys.readouterr().out

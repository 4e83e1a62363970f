"""Pictures of reports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from modyn.client import charts
from modyn.client.charts import NARROW, WIDE, Size, inline_svg
from modyn.client.charts.composite import rolling_mean
from modyn.client.charts.heatmap import averaged, matrix
from modyn.client.charts.pareto import _keep_scores_apart
from modyn.client.charts.series import thinned, window_scores
from modyn.client.compared_scores import ParetoPoint
from modyn.client.comparison import compare
from modyn.core.report import ModelScore, Report
from tests.client.reports import report
from tests.helpers.full_reports import HOSTILE, empty_report, full_report, hostile_report

WHERE = ("weekly", "prices", "Accuracy")

Draw = Callable[[Size], Figure]


def figures(document: Report, where: tuple[str, str, str] = WHERE) -> dict[str, Draw]:
    compared = compare([document, document])
    return {
        "composite": lambda size: charts.composite_figure(document, where, size=size),
        "curves": lambda size: charts.composite_figure([document, document], where, size=size),
        "heatmap": lambda size: charts.heatmap_figure(document, where, size=size),
        "trigger": lambda size: charts.trigger_figure(document, size=size),
        "timeline": lambda size: charts.timeline_figure(document, size=size),
        "confusion": lambda size: charts.confusion_figure(document.confusion[0], size=size),
        "offsets": lambda size: charts.offsets_figure(document.offsets, size=size),
        "pareto": lambda size: charts.pareto_figure(compared, where=where, size=size),
    }


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", figures(full_report()))
def test_pictures_are_legible_svg_in_the_colours_of_the_page(name: str, size: Size) -> None:
    draw = figures(full_report())[name]
    svg = inline_svg(draw(size), key=f"k-{name}", title="T", description="<D>")
    assert svg == inline_svg(draw(size), key=f"k-{name}", title="T", description="<D>")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert [child.text for child in root[:2]] == ["T", "<D>"]
    width = float(root.attrib["viewBox"].split()[2])
    assert width == size.width
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert sizes
    # On a screen of 390 px, 358 are left for the narrow one; from 860 px on, 796 for the wide one.
    assert min(sizes) * (358 / 350 if size is NARROW else 796 / 900) >= 11
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(set(ids)) == len(ids)
    assert all(found.startswith(f"k-{name}-") for found in ids)
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert referred <= set(ids)
    assert "var(--ink)" in svg
    assert "<style" not in svg
    assert "http" not in svg


@pytest.mark.parametrize("name", figures(full_report()))
def test_whatever_users_name_is_text(name: str) -> None:
    where = (HOSTILE, HOSTILE, HOSTILE)
    svg = inline_svg(figures(hostile_report(), where)[name](NARROW), key="k", title=HOSTILE[:100], description="")
    tags = {element.tag for element in ElementTree.fromstring(svg.replace("\x1b", "")).iter()}
    assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect", "image"}


def test_pictures_of_nothing_say_so() -> None:
    nothing = empty_report()
    for figure in (
        charts.composite_figure(nothing, WHERE),
        charts.heatmap_figure(nothing, WHERE),
        charts.trigger_figure(nothing),
        charts.timeline_figure(nothing),
        charts.offsets_figure([]),
    ):
        [axes] = figure.axes
        assert [text.get_text() for text in axes.texts] != []
        inline_svg(figure, key="k", title="t", description="d")


def test_a_curve_has_the_scores_the_baselines_and_the_triggers() -> None:
    document = full_report()
    [axes] = charts.composite_figure(document, WHERE).axes
    curves = {line.get_label(): np.asarray(line.get_ydata(), np.float64) for line in axes.lines}
    active = [w.scores["Accuracy"].currently_active for w in document.windows]
    np.testing.assert_array_equal(curves["currently active"], np.array(active, np.float64))
    assert {"majority class (no model)", "last label (no model)", "currently trained"} <= curves.keys()
    [strokes] = [c for c in axes.collections if c.get_label() == "trigger"]
    assert len(strokes.get_paths()) == len(document.triggers)


def test_runs_are_laid_over_each_other_on_common_windows_alone() -> None:
    runs = [full_report(windows=20), full_report(windows=30, models=3, seed=1)]
    [axes] = charts.composite_figure(runs, WHERE).axes
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [19, 19]


def test_long_intervals_do_not_press_the_scores_together() -> None:
    axes = Figure().add_subplot()
    axes.vlines([1, 2], [-3, -2], [4, 2])
    _keep_scores_apart(axes, [ParetoPoint(0, 1.0, 0.8, optimal=True), ParetoPoint(1, 2.0, 0.3, optimal=False)])
    assert axes.get_ylim() == pytest.approx((-0.2, 1.3))


def test_the_front_joins_runs_that_no_other_beats() -> None:
    runs = []
    for number, (level, seconds) in enumerate([(0.6, 1.0), (0.7, 2.0), (0.65, 3.0), (0.8, 4.0)]):
        document = full_report(level=level, name=str(number), pipeline_id=str(number), seed=3)
        runs.append(document.model_copy(update={"cost": document.cost.model_copy(update={"train_seconds": seconds})}))
    [axes] = charts.pareto_figure(compare(runs), where=WHERE).axes
    [front] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert np.asarray(front.get_xdata()).tolist() == [1.0, 2.0, 4.0]


values = st.lists(st.one_of(st.just(float("nan")), st.floats(-10, 10)), max_size=400)


@given(values, st.integers(4, 60))
@settings(max_examples=50)
def test_thinning_keeps_the_ends_and_the_peaks_of_every_stretch(numbers: list[float], most: int) -> None:
    drawn = np.array(numbers, np.float64)
    kept = thinned(drawn, most)
    assert (np.diff(kept) > 0).all()
    if len(drawn) <= most:
        assert kept.tolist() == list(range(len(drawn)))
        return
    assert len(kept) <= most + 4
    assert {0, len(drawn) - 1} <= set(kept.tolist())
    if not np.isnan(drawn).all():
        assert np.nanmin(drawn[kept]) == np.nanmin(drawn)
        assert np.nanmax(drawn[kept]) == np.nanmax(drawn)


@given(values, st.sampled_from([1, 3, 7]))
@settings(max_examples=50)
def test_rolling_means_are_those_of_the_defined_neighbours(numbers: list[float], together: int) -> None:
    half = together // 2
    if len(numbers) < together:
        return
    found = rolling_mean(np.array(numbers, np.float64), together)
    for index, value in enumerate(numbers):
        near = [v for v in numbers[max(0, index - half) : index + half + 1] if v == v]
        if value != value:
            assert np.isnan(found[index])
        else:
            assert found[index] == pytest.approx(sum(near) / len(near), abs=1e-9)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 100))
@settings(max_examples=50)
def test_a_smaller_matrix_has_the_mean_of_each_block(rows: int, columns: int, r: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    full = np.where(rng.random((rows, columns)) < 0.3, np.nan, rng.random((rows, columns)))
    small = averaged(full, r, c)
    assert small.shape == (min(rows, r), min(columns, c))
    if rows <= r:  # one axis at a time is exact; both weigh rows of a block alike
        edges = np.linspace(0, columns, min(columns, c) + 1).astype(int)
        for row in range(rows):
            for column in range(small.shape[1]):
                block = full[row, edges[column] : edges[column + 1]]
                expected = np.nan if np.isnan(block).all() else np.nanmean(block)
                np.testing.assert_allclose(small[row, column], expected)


def test_the_matrix_is_that_of_the_report() -> None:
    document = full_report(windows=9, models=3)
    scores = [e for e in document.evaluations if (e.trigger, e.start) != (1, document.windows[4].start)]
    elsewhere = ModelScore(handler="other", dataset="prices", trigger=7, start=0, end=1, samples=1, metrics={})
    found = matrix(document.model_copy(update={"evaluations": [elsewhere, *scores[::-1]]}), WHERE)
    assert found.triggers.tolist() == [0, 1, 2]
    for row, trigger in enumerate(found.triggers.tolist()):
        fed = document.triggers[trigger]
        assert fed.first_timestamp is not None
        assert fed.last_timestamp is not None
        seen = []
        for column, window in enumerate(document.windows):
            value = [e.metrics["Accuracy"] for e in scores if (e.trigger, e.start) == (trigger, window.start)]
            np.testing.assert_array_equal(found.values[row, column], value[0] if value else np.nan)
            if window.start <= fed.last_timestamp and window.end > fed.first_timestamp:
                seen.append(column)
            assert (found.active[column] == row) == (window.active_trigger == trigger)
        assert list(range(*found.trained[row].tolist())) == seen


def test_undefined_and_infinite_scores_are_gaps() -> None:
    document = report()
    window = document.windows[0]
    score = window.scores["Accuracy"].model_copy(update={"currently_active": float("inf"), "currently_trained": None})
    odd = document.model_copy(update={"windows": [window.model_copy(update={"scores": {"Accuracy": score}})]})
    found = window_scores(odd, ("weekly", "d", "Accuracy"))
    assert np.isnan(found.active).all()
    assert np.isnan(found.trained).all()
    charts.composite_figure(odd, ("weekly", "d", "Accuracy"))


def test_neither_a_window_system_nor_matplotlib_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; import modyn.client.html; assert 'matplotlib' not in sys.modules; "
        "from modyn.client.html import report_html; from tests.helpers.full_reports import full_report; "
        "report_html(full_report(windows=3, models=1), 'a: 1'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

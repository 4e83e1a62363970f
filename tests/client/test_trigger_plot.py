"""Pictures of a trigger's evaluations."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modyn.client.time_axis import look_like_dates
from modyn.client.trigger_plot import MAX_PANELS, _figure, draw, firings, panels, save_plot
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.report import TriggerEvaluationPart
from tests.client.reports import DAY, drifting, finding, trigger_evaluation


def test_a_panel_per_name_under_which_something_was_measured() -> None:
    mmd, ks = panels(drifting(4))
    assert (mmd.name, ks.name) == ("mmd", "ks")
    np.testing.assert_array_equal(mmd.statistic, [np.nan, 0.125, 0.75, 0.75])
    np.testing.assert_array_equal(mmd.threshold, [np.nan, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(ks.threshold, [np.nan, 0.5, 0.5])
    assert len(ks.times) == 3
    never = trigger_evaluation(0, None, finding("cvm", note="empty window"))
    assert panels([never]) == []


def test_late_data_do_not_move_the_clock_back() -> None:
    late = [
        trigger_evaluation(0, 0, finding("a", 1.0)),
        trigger_evaluation(1, None, finding("a", 2.0), start=-10 * DAY),
        trigger_evaluation(2, 1, finding("a", 3.0)),
    ]
    [panel] = panels(late)
    assert panel.times.tolist() == [DAY - 1, DAY - 1, 3 * DAY - 1]
    assert firings(late).tolist() == [DAY - 1, 3 * DAY - 1]


@pytest.mark.parametrize(
    ("times", "dates"),
    [([831_945_600, 1_700_000_000], True), ([0, 831_945_600], False), ([1905, 2013], False), ([10**12], False)],
)
def test_timestamps_that_look_like_dates_are_shown_as_dates(times: list[int], dates: bool) -> None:
    assert look_like_dates(np.array(times)) is dates
    looked = [trigger_evaluation(0, 0, finding("a", 1.0), start=time, every=1) for time in times]
    axes = _figure(panels(looked), firings(looked), "t").axes[-1]
    assert axes.get_xlabel() == ("data time (UTC)" if dates else "data time (timestamps)")


def testfirings_are_lines_in_every_panel() -> None:
    looked = drifting()
    figure = _figure(panels(looked), firings(looked), "t")
    assert len(figure.axes) == 2
    for axes in figure.axes:
        [lines] = axes.collections
        assert len(lines.get_paths()) == 2
        assert [line.get_label() for line in axes.lines] == ["threshold", "statistic"]


def test_an_ensemble_of_many_findings_fits_on_a_page() -> None:
    looked = [trigger_evaluation(0, 0, *(finding(f"f{i}", float(i)) for i in range(MAX_PANELS + 3)))]
    figure = _figure(panels(looked), firings(looked), "t")
    assert len(figure.axes) == MAX_PANELS
    assert "3 more findings are left out" in figure.get_suptitle()


def test_files_are_what_their_names_say(tmp_path: Path) -> None:
    for name in ("a.svg", "b.PNG"):
        save_plot(drifting(), tmp_path / name, title="demo")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("}svg")
    with Image.open(tmp_path / "b.PNG") as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    assert pixels.min() == 0
    assert np.ptp(pixels, axis=2).max() == 0, "nothing is told apart by colour"


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"a\.pdf: expected a name that ends in \.svg or \.png"):
        save_plot(drifting(), tmp_path / "a.pdf", title="t")
    for nothing in ([], drifting(1)):
        with pytest.raises(InvalidInputError, match="there is nothing to draw"):
            save_plot(nothing, tmp_path / "a.svg", title="t")
    with pytest.raises(ModynError, match="cannot be written"):
        save_plot(drifting(), tmp_path / "nowhere" / "a.svg", title="t")
    assert list(tmp_path.iterdir()) == []


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=5),
    st.sampled_from(["", "$x_1^", "a/b\nc", "価格", "%s & <b>", "_y"]),
    st.integers(-(2**61), 2**61),
)
def test_any_numbers_and_names_can_be_drawn(
    rows: list[tuple[float | None, float | None, bool]], name: str, start: int
) -> None:
    looked = [
        trigger_evaluation(index, index if fired else None, finding(name, statistic, threshold), start=start)
        for index, (statistic, threshold, fired) in enumerate(rows)
    ]
    if panels(looked):
        assert draw(looked, "png", title=name)


def test_thousands_of_evaluations_are_no_larger_than_a_picture() -> None:
    looked: list[TriggerEvaluationPart] = [
        trigger_evaluation(i, i if i % 3 == 0 else None, finding("a", float(i % 17), 8.0)) for i in range(20_000)
    ]
    assert len(draw(looked, "svg", title="many")) < 1 << 20


def test_no_window_system_and_no_global_figures() -> None:
    code = (
        "import sys\n"
        "from modyn.client.trigger_plot import draw\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from tests.client.reports import drifting\n"
        "assert draw(drifting(), 'png', title='t')[1:4] == b'PNG'\n"
        "print([m for m in sys.modules if m in ('matplotlib.pyplot', 'tkinter')])\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert result.stdout == "[]\n", result.stderr


def test_pictures_may_be_drawn_by_several_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: draw(drifting(), "png", title="t"), range(4)))
    sizes = {Image.open(io.BytesIO(picture)).size for picture in pictures}
    assert len(sizes) == 1

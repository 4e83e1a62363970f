"""Reports and comparisons as HTML."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from modyn.client.charts import composite_figure
from modyn.client.comparison import Comparison, compare
from modyn.client.html import comparison_html, report_html
from modyn.client.html.blocks import Fold, Picture, Table
from modyn.client.html.comparison_page import comparison_page, verdict
from modyn.client.html.drawing import picture
from modyn.client.html.report_page import report_page
from modyn.client.html.yaml_differences import differences
from modyn.core.report import ModelScore, Report, WindowPart
from tests.client.reports import DAY, downsampling, finding, report, trigger, trigger_evaluation, window
from tests.helpers.full_reports import HOSTILE, empty_report, full_report, hostile_report

ROOT = Path(__file__).resolve().parents[2]

YAML = "pipeline:\n  name: weekly retraining\ntrigger:\n  id: TimeTrigger\n  every: 7d\n"

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Document(HTMLParser):
    """What a page consists of; whatever is not closed, or closed twice, fails."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[int] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "".join(data for tag, data in self.texts if tag != "style")


def check(html: str) -> Document:
    """What holds of every page."""
    html.encode("utf-8")
    document = Document(html)
    tags = {tag for tag, _ in document.tags}
    assert tags.isdisjoint({"script", "iframe", "object", "embed", "img", "form", "base"})
    [css] = [data for tag, data in document.texts if tag == "style"]
    assert "url(" not in css
    assert "@import" not in css
    for tag, attributes in document.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in document.all("a")} <= set(ids)
    assert document.headings[0] == 1
    assert document.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(document.headings, document.headings[1:], strict=False))
    assert len(document.all("table")) == len(document.all("caption"))
    for svg in document.all("svg"):
        assert svg["role"] == "img"
        assert set(svg["aria-labelledby"].split()) <= set(ids)
    assert len(document.all("svg")) == 2 * len(document.all("figure"))
    return document


def test_a_report_shows_everything() -> None:
    found = full_report()
    document = check(report_html(found, YAML))
    sections = [section["id"] for section in document.all("section")]
    expected = "summary problems composite matrix transfer offsets confusion details triggers timeline cost windows"
    assert sections == [*expected.split(), "lineage", "pipeline"]
    text = document.text
    score = found.composite["weekly"]["prices"]["Accuracy"]
    assert score.currently_active is not None
    assert f"{score.currently_active:.4f} [" in text
    assert "last label (no model)" in text
    assert "its weights cannot be read" in text
    assert "every: 7d" in text
    assert "certified" in text
    assert "cross-validation" in text
    assert found.triggers[1].model is not None
    assert {"title": found.triggers[1].model} in document.all("bdi")
    assert "training.device" in [data for tag, data in document.texts if tag == "code"]


def test_pages_are_the_same_each_time() -> None:
    assert report_html(full_report(), YAML) == report_html(full_report(), YAML)


def test_whatever_users_write_is_text() -> None:
    document = check(report_html(hostile_report(), HOSTILE))
    assert "</script><img src=x onerror=alert(1)>\"'&<b>" in document.text
    assert "\x1b" not in document.text
    assert "\u202e" not in document.text
    assert "שלום 東京" in document.text
    tags = {tag for tag, _ in document.tags}
    plain = {tag for tag, _ in check(report_html(full_report(), YAML)).tags}
    assert tags <= plain


def test_hostile_names_in_a_comparison_are_text() -> None:
    runs = [hostile_report(), hostile_report()]
    document = check(comparison_html(compare(runs), [f"a: '{HOSTILE[:20]}'", None]))
    assert "onerror=alert(1)" in document.text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (empty_report(), ["The pipeline failed:", "the disk is full", "No trigger fired."]),
        (empty_report("running"), ["running"]),
        (report(simulated=True), ["simulated: only the trigger ran"]),
        (report(part=downsampling()), ["It saved an estimated 0.2 s."]),
        (report(windows=[window(1, None)]), ["Accuracy"]),
        (full_report(windows=1, models=0), ["No window could be scored"]),
        (full_report(windows=2, models=1), ["Accuracy"]),
    ],
    ids=["failed", "running", "simulated", "downsampled", "no model", "one window", "one model"],
)
def test_unusual_runs(found: Report, said: list[str]) -> None:
    text = check(report_html(found, "a: 1\n")).text
    assert [words for words in said if words not in text] == []


def test_long_tables_say_where_the_rest_is() -> None:
    page = report_page(full_report(windows=210, models=2), YAML)
    [section] = [section for section in page.sections if section.key == "windows"]
    [fold] = section.blocks
    assert isinstance(fold, Fold)
    [table] = fold.blocks
    assert isinstance(table, Table)
    assert len(table.rows) == 200
    assert (
        table.note == "The first 200 of 210 windows; `modyn-client report 1 --data DIR` writes all of them as tables."
    )


def runs(*levels: float, seeds: tuple[int, ...] | None = None) -> Comparison:
    """Runs whose scores lie about these levels, with common noise."""
    found = []
    for number, level in enumerate(levels):
        seed = 5 if seeds is None else seeds[number]
        found.append(full_report(name=f"run {number}", pipeline_id=str(number), level=level, models=4, seed=seed))
    return compare(found)


def test_a_comparison_shows_everything() -> None:
    comparison = runs(0.6, 0.7)
    document = check(comparison_html(comparison, [YAML, YAML.replace("7d", "30d")]))
    assert [section["id"] for section in document.all("section")] == [
        "summary",
        "runs",
        "scores",
        "details",
        "pipelines",
    ]
    assert len(document.all("figure")) == 5  # curves and four costs
    assert "trigger.every" in document.text
    score = comparison.score()
    assert f"{score.common[0]:.4f}" in document.text
    [score_table] = [
        block
        for section in comparison_page(comparison, [None, None]).sections
        for block in section.blocks
        if isinstance(block, Table) and "common windows" in block.header
    ]
    assert [row[0] for row in score_table.rows][:2] == ["A: 0 run 0", "B: 1 run 1"]


def test_the_verdict_names_the_best_and_those_that_may_be_as_good() -> None:
    clear = verdict(runs(0.6, 0.7).score(), ["A", "B"])
    assert clear.startswith("B has the best Accuracy")
    assert "All others are worse by more than chance explains." in clear
    assert "It is no better than last label, a rule without any model" in clear
    open_ = verdict(runs(0.7, 0.7, seeds=(1, 2)).score(), ["A", "B"])
    assert "Not clearly worse" in open_
    assert "better than last label" in verdict(runs(0.9, 0.85).score(), ["A", "B"])


def test_a_verdict_on_few_windows_claims_no_interval() -> None:
    few = compare([full_report(pipeline_id=str(i), level=0.6 + i / 10, windows=4, models=2) for i in (0, 1)])
    said = verdict(few.score(), ["A", "B"])
    assert "do not say whether chance explains the lead over: A." in said
    assert "holds zero" not in said


def test_options_in_which_runs_differ_are_named() -> None:
    one = full_report(models=4)
    other = one.model_copy(update={"run": one.run.model_copy(update={"maximum_triggers": 1})})
    assert "maximum triggers" in comparison_html(compare([one, other]), [YAML, YAML])


def test_runs_without_common_windows_are_compared_by_cost_alone() -> None:
    a, b = full_report(windows=4, models=1), full_report(windows=4, models=1)
    moved = [w.model_copy(update={"start": w.start + 7, "end": w.end + 7, "anchor": w.anchor + 7}) for w in b.windows]
    comparison = compare([a, b.model_copy(update={"windows": moved})])
    document = check(comparison_html(comparison, [None, None]))
    assert "there is no window in which every run has an active model" in document.text
    assert document.all("figure") == []
    other = full_report(handler="other")
    assert "share no handler" in check(comparison_html(compare([a, other]), [None, None])).text


def test_differences_of_pipelines() -> None:
    texts = ["a: {b: [1, 2], c: null}\nd: [{e: 1}]", "a: {b: [1, 3]}\nd: [{e: 1}, {e: 2}]"]
    assert differences(texts) == [("a.b", "[1, 2]", "[1, 3]"), ("d[1].e", "–", "2")]
    [(_, long, _)] = differences([f"code: {'x' * 900}", "code: y"])
    assert len(long) == 200


def test_both_sizes_of_a_picture_stand_in_the_page() -> None:
    found = full_report(windows=5, models=2)
    drawn = picture("k", "Caption", lambda size: composite_figure(found, ("weekly", "prices", "Accuracy"), size=size))
    assert isinstance(drawn, Picture)
    assert 'viewBox="0 0 900 ' in drawn.wide
    assert 'viewBox="0 0 350 ' in drawn.narrow


def test_templates_are_in_the_wheel() -> None:
    included = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"modyn/client/html/templates/page.html.j2", "modyn/client/html/templates/style.css"} <= included


@pytest.mark.slow
def test_a_huge_run_fits_into_a_small_page() -> None:
    windows, models = 3_000, 500
    hour = 3_600
    start = 1_600_000_000

    def moved(index: int) -> WindowPart:
        part = window(index, 0.5 + 0.4 * (index * 37 % 101) / 101, majority_class=0.5, last_label=index * 13 % 89 / 89)
        begin = start + index * hour
        place = {"start": begin, "end": begin + hour, "anchor": begin, "active_trigger": min(models - 1, index // 6)}
        return part.model_copy(update=place)

    parts = [moved(index) for index in range(windows)]
    cells = [
        ModelScore.model_construct(
            handler="weekly", dataset="d", trigger=model, start=w.start, end=w.end, samples=10, intervals={},
            metrics={"Accuracy": (model * 31 + column * 17) % 997 / 997},
        )
        for model in range(models)
        for column, w in enumerate(parts)
    ]  # fmt: skip
    fired = [
        trigger(i).model_copy(
            update={"timestamp": start + 6 * i * hour, "first_timestamp": start, "last_timestamp": start + 6 * i * hour}
        )
        for i in range(models)
    ]
    looked = [
        trigger_evaluation(
            i, i // 100 if i % 100 == 0 else None, finding("mmd", i * 7 % 83 / 83, 0.9), start=start, every=DAY
        )
        for i in range(50_000)
    ]
    found = report(windows=parts, triggers=fired, looked=looked).model_copy(update={"evaluations": cells})
    begin = time.process_time()
    html = report_html(found, YAML)
    assert time.process_time() - begin < 10
    assert len(html.encode()) < 5_000_000
    assert "Cells are means of neighbours." in html
    assert "Each bar is the mean of 2 triggers." in html

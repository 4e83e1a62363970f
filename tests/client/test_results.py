"""Reports as tables and files."""

from __future__ import annotations

import builtins
import doctest
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from modyn.client import text_tables, wording
from modyn.client.explanations import evaluation_table
from modyn.client.report_tables import BASELINES, TABLES, report_tables
from modyn.client.results import PipelineResult, compare
from modyn.client.table_files import DataFolder, description_of
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.core.report import (
    ConfusionPart,
    DifferencePart,
    IntervalPart,
    ModelScore,
    OffsetPart,
    Report,
    TransferPart,
)
from tests.client.reports import composite, downsampled, downsampling, drifting, report, window

INTERVAL = IntervalPart(low=0.7, high=0.8, level=0.95)


def rich_report() -> Report:
    """One that has a row in almost every table."""
    score = composite(0.75, majority_class=0.5).model_copy(
        update={
            "interval": INTERVAL,
            "over_baselines": {"majority_class": DifferencePart(mean=0.25, interval=INTERVAL, windows=3)},
        }
    )
    found = report(looked=drifting(), triggers=[downsampled(0)], part=downsampling(), score=score)
    scored = ModelScore(
        handler="weekly", dataset="d", trigger=0, start=0, end=10, samples=5,
        metrics={"F1-macro[region=N]S]#3": math.inf, "Accuracy": 0.5}, intervals={"Accuracy": INTERVAL},
    )  # fmt: skip
    transfer = TransferPart(
        handler="weekly", dataset="d", metric="Accuracy", forgetting=0.1, backward_transfer=None,
        forward_transfer=0.2, windows_backward=3, windows_forward=0,
    )  # fmt: skip
    return found.model_copy(
        update={
            "evaluations": [scored],
            "transfer": [transfer],
            "offsets": [
                OffsetPart(handler="o", dataset="d", metric="Accuracy", offset="+1w", models=3, mean=0.5, interval=None)
            ],
            "confusion": [ConfusionPart(handler="w", dataset="d", classes=[1, 5], counts=[[3, 0], [2, 4]], windows=2)],
            "failures": ["window 3: no such column"],
        }
    )


@pytest.mark.parametrize("module", [wording, text_tables])
def test_examples_in_docstrings(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_tables_have_fixed_schemas_that_say_what_columns_mean() -> None:
    bare = report(windows=[]).model_copy(update={"composite": {}, "evaluations": [], "triggers": []})
    for document in (bare, rich_report()):
        for name, table in report_tables(document).items():
            assert table.schema.equals(TABLES[name].schema, check_metadata=True)
            assert description_of(table.schema.metadata)
            assert all(description_of(field.metadata) for field in table.schema), name
    assert report_tables(bare)["costs"].num_rows == 1
    evaluations = rich_report().trigger_evaluations
    assert report_tables(rich_report())["trigger_evaluations"].equals(evaluation_table(evaluations))


def test_names_of_scores_are_split_and_what_is_no_number_is_null() -> None:
    rows = report_tables(rich_report())["scores"].select(["metric", "slice", "class", "value", "low"]).to_pylist()
    assert rows == [
        {"metric": "F1-macro", "slice": "region=N]S", "class": 3, "value": None, "low": None},
        {"metric": "Accuracy", "slice": None, "class": None, "value": 0.5, "low": 0.7},
    ]


def test_nothing_of_the_report_is_lost() -> None:
    tables = report_tables(rich_report())
    assert tables["confusion"].to_pydict() == {
        "handler": ["w"] * 3, "dataset": ["d"] * 3, "label": [1, 5, 5], "prediction": [1, 1, 5], "count": [3, 2, 4]
    }  # fmt: skip
    (baseline,) = tables["baselines"].to_pylist()
    assert (baseline["baseline"], baseline["mean"], baseline["difference"], baseline["low"]) == (
        "majority_class", 0.5, 0.25, 0.7
    )  # fmt: skip
    (trigger,) = tables["triggers"].to_pylist()
    assert (trigger["seconds_train"], trigger["downsampling_strategy"]) == (0.2, "Loss")
    (curve,) = tables["window_scores"].to_pylist()
    assert (curve["currently_active"], curve["majority_class"], curve["same_hour_of_day"]) == (0.75, 0.5, None)
    assert tables["transfer"].to_pylist()[0]["backward_transfer"] is None
    assert tables["failures"].to_pylist() == [{"failure": "window 3: no such column"}]


def test_every_baseline_has_a_column() -> None:
    from modyn.evaluator.baselines import BASELINES as KNOWN

    assert set(BASELINES) == set(KNOWN)


READERS: dict[str, Callable[[Path], pa.Table]] = {
    "parquet": parquet.read_table,
    "csv": csv.read_csv,
    "json": lambda path: pa.Table.from_pylist(json.loads(path.read_text())),
}


def test_files_in_all_formats_replace_each_other_and_nothing_else(tmp_path: Path) -> None:
    tables = report_tables(rich_report())
    folder = tmp_path / "data"
    for file_format, read in READERS.items():
        DataFolder(folder, "report").write_tables(tables, file_format)  # type: ignore[arg-type]
        (folder / "notes.txt").write_text("mine")
        assert {path.name for path in folder.iterdir()} == {
            "notes.txt", "tables.json", *(f"{name}.{file_format}" for name in TABLES)
        }  # fmt: skip
        found = read(folder / f"window_scores.{file_format}")
        assert found["currently_active"].to_pylist() == [0.75]
        described = json.loads((folder / "tables.json").read_text())
        assert [c["name"] for c in described["tables"]["costs"]["columns"]] == tables["costs"].column_names
    with pytest.raises(InvalidInputError, match="holds no tables of a comparison of this tool"):
        DataFolder(folder, "comparison").write_tables(tables, "csv")
    stranger = tmp_path / "thesis"
    stranger.mkdir()
    (stranger / "thesis.tex").touch()
    with pytest.raises(InvalidInputError, match=r"--data .*nothing in it was touched"):
        DataFolder(stranger, "report").check()


def test_results_for_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    result = PipelineResult(rich_report(), "pipeline: {name: demo}\n")
    assert result.scores.num_rows == 2
    assert result.scores is result.scores, "made once"
    assert [result.windows.num_rows, result.composite.num_rows, result.triggers.num_rows, result.cost.num_rows] == [
        1
    ] * 4
    assert result.where() == ("weekly", "d", "Accuracy")
    with pytest.raises(InvalidInputError, match=r"no score \*/\*/F1; it has weekly/d/Accuracy"):
        result.plot("composite", metric="F1")
    with pytest.raises(InvalidInputError, match="table 'pigs' is not known; expected one of windows"):
        result.table("pigs")
    with pytest.raises(InvalidInputError, match="plot 'pie': expected one of composite, heatmap"):
        result.plot("pie")  # type: ignore[arg-type]
    html = result._repr_html_()
    assert "0.7500 [0.700, 0.800]" in html
    both = compare([result, PipelineResult(report(name="<b>other</b>"), "pipeline: {name: x}\n")])
    assert "&lt;b&gt;other" in both._repr_html_()

    importing = builtins.__import__

    def without_pandas(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(NotAvailableError, match=r"pip install pandas.*\.table\('composite'\)"):
        result.to_pandas("composite")


@pytest.mark.pandas
def test_a_table_as_a_data_frame() -> None:
    result = PipelineResult(rich_report(), "pipeline: {name: demo}\n")
    assert result.to_pandas("composite")["currently_active"].tolist() == [0.75]


def test_every_picture_can_be_drawn() -> None:
    result = PipelineResult(rich_report(), "pipeline: {name: demo}\n")
    for kind in ("composite", "heatmap", "trigger", "timeline", "confusion", "offsets"):
        assert result.plot(kind).axes, kind
    other = PipelineResult(report(windows=[window(1, 0.9)]), "pipeline: {name: x}\n")
    comparison = result.compare(other)
    assert comparison.plot().axes
    assert comparison.plot("composite").axes

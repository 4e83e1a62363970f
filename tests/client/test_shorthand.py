"""Windows and metrics as they are typed become what a pipeline file would say."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from modyn.client import evaluation_section, shorthand
from modyn.client.evaluation_section import Wanted
from modyn.client.shorthand import metrics, window_strategy
from modyn.core.config.pipeline import PipelineConfig
from modyn.core.config.problems import parse_plugin
from modyn.core.config.reader import load_evaluation_text, load_pipeline_text, resolved_yaml
from modyn.core.config.source import write_yaml
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import WINDOW_STRATEGIES

DAY = 86_400

PIPELINE = """\
pipeline: {name: demo}
data: {dataset_id: d, parser: {name: image, encoding: raw, height: 8, width: 8, channels: 1}}
model: {id: MLP, config: {in_features: 64, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 100}
evaluation:
  handlers: [{name: weekly, models: matrix, strategy: {type: SlicingEvalStrategy, eval_every: 1w}}]
"""


def config() -> PipelineConfig:
    return load_pipeline_text(PIPELINE, "demo").require_runnable()


def read(wanted: Wanted) -> PipelineConfig:
    """What a server reads of the section that is sent."""
    section = evaluation_section.evaluation_section(wanted, resolved_yaml(config()))
    return load_evaluation_text(write_yaml(section), "options", config()).require_runnable()


@pytest.mark.parametrize("module", [shorthand, evaluation_section])
def test_examples_in_docstrings(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1w", {"type": "SlicingEvalStrategy", "eval_every": "1w"}),
        (
            "12h 1970-01-02..864000",
            {"type": "SlicingEvalStrategy", "eval_every": "12h", "eval_start_from": DAY, "eval_end_at": 10 * DAY},
        ),
        ("1d [-2d; +2d)", {"type": "PeriodicEvalStrategy", "every": "1d", "interval": "[-2d; +2d)"}),
        ("every=1d interval=(-inf, +1y]", {"type": "PeriodicEvalStrategy", "every": "1d", "interval": "(-inf, +1y]"}),
        (
            "1d[-1d;+1d] 10..",
            {"type": "PeriodicEvalStrategy", "every": "1d", "interval": "[-1d;+1d]", "start_timestamp": 10},
        ),
        ("between", {"type": "BetweenTwoTriggersEvalStrategy"}),
        ("offsets = -inf, +1w, 0, inf", {"type": "OffsetEvalStrategy", "offsets": ["-inf", "+1w", "0", "inf"]}),
        ("5..10,20..", {"type": "StaticEvalStrategy", "intervals": [[5, 10], [20, None]]}),
        ("{type: SlicingEvalStrategy, eval_every: 1d}", {"type": "SlicingEvalStrategy", "eval_every": "1d"}),
    ],
)
def test_windows(text: str, expected: dict[str, Any]) -> None:
    assert window_strategy(text) == expected
    assert parse_plugin(WINDOW_STRATEGIES, expected, text).plugin_name == expected["type"]


@pytest.mark.parametrize("text", ["", "weekly", "1w x", "..", "..5", "5..yesterday", "1w 3", "{type: [", "1q[0;1d]"])
def test_what_is_no_window_is_explained(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--windows '.*expected|no time"):
        window_strategy(text)


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="eval_every: this key is given twice"):
        window_strategy("{type: SlicingEvalStrategy, eval_every: 1w, eval_every: 2w}")
    with pytest.raises(InvalidInputError, match="option 'topn' is given twice"):
        metrics(["Accuracy:topn=1:topn=2"])


def test_metrics() -> None:
    assert metrics(
        ["Accuracy, F1Score:average=weighted:num_classes=3", "{name: Accuracy, topn: 5},my.metrics:gain:scale=0.5"]
    ) == [
        {"name": "Accuracy"},
        {"name": "F1Score", "average": "weighted", "num_classes": 3},
        {"name": "Accuracy", "topn": 5},
        {"name": "my.metrics:gain", "scale": 0.5},
    ]
    for wrong in ("", "Accuracy,", "F1Score:average=weighted:3", "F1Score:=3", "a b", "{name"):
        with pytest.raises(InvalidInputError, match=r"--metrics '.*expected a name such as Accuracy"):
            metrics([wrong])


def test_options_become_a_section_that_the_pipeline_reader_takes() -> None:
    found = read(Wanted(windows=["1d", "between"], metrics=["RocAuc"], slices=["region"])).evaluation
    assert found is not None
    assert [handler.name for handler in found.handlers] == ["1d RocAuc by region", "between RocAuc by region"]
    assert [handler.execution_time for handler in found.handlers] == ["manual", "manual"]
    assert found.datasets is not None
    (dataset,) = found.datasets
    assert dataset.dataset_id == "d"
    assert [metric.result_name for metric in dataset.metrics] == ["ROC-AUC"]
    assert dataset.slices == ["region"]


def test_metrics_alone_are_computed_on_the_windows_of_the_pipeline() -> None:
    found = read(Wanted(metrics=["Accuracy:topn=2"])).evaluation
    assert found is not None
    (handler,) = found.handlers
    assert (handler.name, handler.models) == ("weekly Accuracy:topn=2", "matrix")
    assert handler.strategy.plugin_name == "SlicingEvalStrategy"


def test_another_dataset_is_decoded_like_that_of_the_training() -> None:
    found = read(Wanted(windows=["offsets=inf"], datasets=["other"], name="later")).evaluation
    assert found is not None
    assert found.datasets is not None
    assert [dataset.dataset_id for dataset in found.datasets] == ["other"]
    assert found.datasets[0].parser == config().data.parser
    assert (found.handlers[0].name, found.handlers[0].datasets) == ("later", ["other"])
    assert found.handlers[0].models == "training"


def test_a_pipeline_without_windows_needs_some() -> None:
    bare = resolved_yaml(config().model_copy(update={"evaluation": None}))
    with pytest.raises(InvalidInputError, match="--windows"):
        evaluation_section.evaluation_section(Wanted(metrics=["Accuracy"]), bare)

"""An evaluation section for a pipeline that is there."""

from __future__ import annotations

import pytest

from modyn.core.config.pipeline import evaluation_datasets
from modyn.core.config.reader import load_evaluation_text, load_pipeline_text
from modyn.core.errors import InvalidInputError
from tests.helpers.pipelines import MINIMAL

OWN = """\
evaluation:
  handlers: [{name: own, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
  confidence: 0.9
  datasets: [{dataset_id: other, batch_size: 7}]
"""

NEW = "handlers: [{name: new, strategy: {type: SlicingEvalStrategy, eval_every: 2d}}]\n"
PIPELINE = load_pipeline_text(MINIMAL + OWN, "p.yaml").require_runnable()


@pytest.mark.parametrize(
    "text", [NEW, "evaluation:\n  " + NEW, "trigger: [nothing looks at this]\nevaluation:\n  " + NEW]
)
def test_what_a_section_leaves_out_is_as_in_the_pipeline(text: str) -> None:
    found = load_evaluation_text(text, "e.yaml", PIPELINE).require_runnable()
    assert found.evaluation is not None
    assert [handler.name for handler in found.evaluation.handlers] == ["new"]
    assert found.evaluation.confidence == 0.9
    assert [(data.dataset_id, data.batch_size) for data in evaluation_datasets(found)] == [("other", 7)]
    assert found.model == PIPELINE.model
    plain = load_pipeline_text(MINIMAL, "p.yaml").require_runnable()
    found = load_evaluation_text(text, "e.yaml", plain).require_runnable()
    assert [data.dataset_id for data in evaluation_datasets(found)] == ["numbers"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\n" + NEW + "labels: old\nlabels: new\n", ["labels: this key is given twice", "labels: value 'new'"]),
        ("pipeline: {name: p}\n", ["pipeline: unknown key; expected one of handlers", "handlers: this key is missing"]),
        ("trigger: 1\nevaluation:\n  x: 1\n", ["evaluation.handlers: this key is missing", "evaluation.x: unknown"]),
        (
            NEW.replace("name: new", "name: new, datasets: [numbers]"),
            ["handlers[0].datasets[0]: value 'numbers': expected the dataset_id of an evaluation dataset"],
        ),
        ("evaluation: null\n", ["evaluation: expected a mapping with handlers; got null"]),
    ],
)
def test_everything_that_is_wrong_is_said_with_its_line(text: str, lines: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_evaluation_text(text, "e.yaml", PIPELINE)
    message = caught.value.message
    assert message.startswith("e.yaml: ")
    for line in lines:
        assert line in message
    assert len(lines) == 1 or f"{len(lines)} problems" in message


def test_keys_without_effect_are_named_as_in_the_file() -> None:
    loaded = load_evaluation_text(NEW + "after_pipeline_evaluation_workers: 3\n", "e.yaml", PIPELINE)
    [notice] = loaded.notices
    assert notice.startswith("after_pipeline_evaluation_workers: has no effect")

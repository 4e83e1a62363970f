from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.config.pipeline import evaluation_datasets
from modyn.core.config.reader import load_pipeline_file, load_pipeline_text, resolved_yaml
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.core.plugins.triggers import TRIGGERS
from tests.helpers.pipelines import MINIMAL, PUBLISHED

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

EVALUATION = """\
evaluation:
  handlers:
    - strategy: {type: SlicingEvalStrategy, eval_every: 1d, eval_start_from: 0, eval_end_at: 100000}
"""


def problems(text: str) -> list[str]:
    """The problem lines of a pipeline with errors."""
    with pytest.raises(InvalidInputError) as caught:
        load_pipeline_text(text, "p.yaml")
    first, *lines = caught.value.message.splitlines()
    assert first.startswith("p.yaml: ")
    assert first.endswith(f"{len(lines)} problem" + ("s" if len(lines) > 1 else ""))
    return [line.strip() for line in lines]


def the_problem(text: str) -> str:
    lines = problems(text)
    assert len(lines) == 1, lines
    return lines[0]


def test_the_smallest_pipeline_has_working_defaults() -> None:
    loaded = load_pipeline_text(MINIMAL, "p.yaml")
    assert loaded.notices == loaded.planned == []
    config = loaded.require_runnable()
    assert config.trigger == TRIGGERS.parse({"id": "DataAmountTrigger", "num_samples": 100})
    assert config.selection_strategy.plugin_name == "NewDataStrategy"
    assert config.training.optimizers[0].name == "default"
    assert evaluation_datasets(config) == []


@pytest.mark.parametrize("text", [MINIMAL, MINIMAL + EVALUATION, PUBLISHED])
def test_a_resolved_pipeline_reads_back_equal(text: str) -> None:
    config = load_pipeline_text(text, "p.yaml").require_runnable()
    resolved = resolved_yaml(config)
    again = load_pipeline_text(resolved, "resolved.yaml")
    assert again.require_runnable() == config
    assert resolved_yaml(again.require_runnable()) == resolved


@given(text=st.text(min_size=1, max_size=50))
@settings(deadline=None)
def test_any_text_survives_resolving(text: str) -> None:
    config = load_pipeline_text(MINIMAL, "p.yaml").require_runnable()
    config = config.model_copy(update={"pipeline": config.pipeline.model_copy(update={"description": text})})
    assert load_pipeline_text(resolved_yaml(config), "r").require_runnable() == config


def test_every_example_is_valid() -> None:
    for path in set(EXAMPLES.glob("*/*.yaml")) - set(EXAMPLES.glob("*/policies.yaml")):
        load_pipeline_file(path).require_runnable()


def test_all_problems_are_reported_at_once_in_file_order() -> None:
    lines = problems(
        """\
pipeline: {nmae: x}
data: {dataset_id: 5}
model: {id: MPL}
trigger: {id: DataAmntTrigger, num_samples: 3}
batch_size: 3
training:
  batch_size: many
  epochs: 3
  optimizers: [{name: a}, {name: a}]
  lr_scheduler: {name: StepLR, step_every: epochs}
  device: gpu
  device: cpu
selection_strategy: {name: NewDataStrategy, limt: 3, tail_triggers: -1}
evaluation:
  handlers:
    - execution_time: after_training
      models: active
      strategy: {type: PeriodicEvalStrategy, every: 1q, interval: "[-1d; +1d]"}
"""
    )
    locations = [line.split(": ")[0] for line in lines]
    assert locations == [
        "pipeline.name",
        "pipeline.nmae",
        "data.dataset_id",
        "model.id",
        "trigger.id",
        "batch_size",
        "training.batch_size",
        "training.epochs",
        "training.optimizers[1].name",
        "training.lr_scheduler.step_every",
        "training.device",
        "selection_strategy.tail_triggers",
        "selection_strategy.limt",
        "evaluation.handlers[0].models",
        "evaluation.handlers[0].strategy.every",
    ]
    text = "\n".join(lines)
    assert "pipeline.nmae: unknown key (did you mean 'name'?) (line 1)" in text
    assert "data.dataset_id: value 5: expected text; put it in quotes (line 2)" in text
    assert "no model is named 'MPL' (did you mean 'MLP'?)" in text
    assert "no trigger is named 'DataAmntTrigger' (did you mean 'DataAmountTrigger'?)" in text
    assert "batch_size: unknown key; it belongs to the section 'training' (line 5)" in text
    assert "training.batch_size: value 'many': expected a whole number (line 7)" in text
    assert "value 'epochs': expected 'epoch' or 'batch' (did you mean 'epoch'?)" in text
    assert "this key is given twice, on lines 11 and 12" in text
    assert "selection_strategy.limt: unknown key (did you mean 'limit'?)" in text


def test_an_unknown_key_without_a_near_one_lists_the_known_ones() -> None:
    line = the_problem(MINIMAL.replace("num_samples: 100", "num_samples: 100, wobble: 1"))
    assert line == "trigger.wobble: unknown key; expected one of guards, num_samples (line 4)"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("training: 3", "training: value 3: expected a mapping"),
        ("training: {optimizers: 3}", "training.optimizers: value 3: expected a list"),
        ("training: {optimizers: []}", "training.optimizers: expected at least 1 entries"),
        ("training: {amp: maybe}", "training.amp: value 'maybe': expected true or false"),
        ("training: {batch_size: 0}", "training.batch_size: value 0: expected a number greater than 0"),
        ("training: {batch_size: 1.5}", "training.batch_size: value 1.5: expected a whole number"),
        ("training: {batch_size: null}", "training.batch_size: value null: expected a whole number"),
        ("training: {device: gpu}", "training.device: value 'gpu': expected cpu, cuda or cuda:N"),
        ("training: {seed: -1}", "training.seed: value -1: expected 0 or more"),
        ("training: {seed: 9223372036854775808}", "training.seed: value 9223372036854775808: expected a number less"),
        ("training: {lr_scheduler: {}}", "training.lr_scheduler.name: this key is missing; expected: Name of a class"),
        (
            "training: {lr_scheduler: {name: X, optimizers: [adam]}, optimizers: [{name: adams}]}",
            "training.lr_scheduler.optimizers[0]: value 'adam': no optimizer has this name (did you mean 'adams'?)",
        ),
        (
            "training: {lr_scheduler: {name: X, optimizers: [default, default]}}",
            "training.lr_scheduler.optimizers: expected one optimizer",
        ),
        ("training: {initial_model: pretrained}", "training.initial_model_id: initial_model: pretrained needs"),
        (
            "training: {initial_model: pretrained, initial_model_id: 3, use_previous_model: false}",
            "training.initial_model_id: value 3: initial_model: pretrained needs use_previous_model",
        ),
        ("selection_strategy: {limit: 3}", "selection_strategy.name: this key is missing: expected one of"),
        ("selection_strategy: {name: 3}", "selection_strategy.name: value 3: expected one of"),
        ("selection_strategy: NewDataStrategy", "selection_strategy: value 'NewDataStrategy': expected a mapping"),
        (
            "selection_strategy: {name: CoresetStrategy, presampling_config: {strategy: Random, ratio: 200}}",
            "selection_strategy.presampling_config.ratio: value 200: expected at most ratio_max (100)",
        ),
        (
            "selection_strategy: {name: CoresetStrategy, presampling_config: {strategy: Randon, ratio: 2}}",
            (
                "selection_strategy.presampling_config.strategy: no presampling strategy is named 'Randon' "
                "(did you mean 'Random'?)"
            ),
        ),
        ("evaluation: {handlers: []}", "evaluation.handlers: expected at least 1 entries"),
        ("evaluation: {}", "evaluation.handlers: this key is missing"),
        ("schema_version: 99", "schema_version: value 99: expected 1 or less"),
    ],
)
def test_one_wrong_entry(section: str, expected: str) -> None:
    line = the_problem(MINIMAL + section)
    assert line.startswith(expected)
    assert line.endswith("(line 5)")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("parser: {name: none}", "data.parser.name: no parser is named 'none'"),
        ("parser: not a reference", "data.parser: value 'not a reference': expected module:attribute, or a mapping"),
        ("parser: 5", "data.parser: value 5: expected a mapping with the key 'name'"),
        ("parser: 'm:f', bytes_parser_function: 'm:f'", "data.bytes_parser_function: value 'm:f': give either"),
        (
            "bytes_parser_function: 'def f(x): return x'",
            "data.bytes_parser_function: value 'def f(x): return x': inline",
        ),
        ("transformations: ['(']", "data.transformations[0]: value '(': inline Python does not compile"),
        ("dataset_id: ''", "data.dataset_id: value '': expected at least 1 character(s)"),
        ("source: {format: nothing, path: x}", "data.source.format: no file format is named 'nothing'"),
    ],
)
def test_one_wrong_entry_of_data(data: str, expected: str) -> None:
    tree = MINIMAL.replace("dataset_id: numbers", data if "dataset_id" in data else f"dataset_id: numbers, {data}")
    assert the_problem(tree).startswith(expected)


def test_model_config_is_checked_by_the_model() -> None:
    line = the_problem(MINIMAL.replace("num_classes: 2", "num_classes: two"))
    assert line.startswith("model.config.num_classes: value 'two': expected a whole number")
    line = the_problem(MINIMAL.replace("num_classes: 2", "num_classes: 2, num_clases: 3"))
    assert line.startswith("model.config.num_clases: unknown key (did you mean 'num_classes'?)")


def test_user_models_check_their_own_config() -> None:
    text = MINIMAL.replace("MLP, config: {in_features: 4, num_classes: 2}", '"my.module:Net", config: {any: thing}')
    config = load_pipeline_text(text, "p").require_runnable()
    assert config.model.config == {"any": "thing"}
    assert the_problem(MINIMAL.replace("id: MLP", 'id: "my.module:"')).startswith(
        "model.id: value 'my.module:': expected module:attribute"
    )


def test_downsampling_needs_one_process() -> None:
    policy = """
selection_strategy:
  name: CoresetStrategy
  tail_triggers: 0
  limit: -1
  downsampling_config: {strategy: Uniform, ratio: 50}
"""
    load_pipeline_text(MINIMAL + policy + "training: {processes: 1}", "p.yaml")
    (line,) = problems(MINIMAL + policy + "training: {processes: 2}")
    assert "training.processes: value 2: downsampling" in line
    assert "expected 1, or no downsampling" in line
    (line,) = problems(MINIMAL + policy + "training: {device: cuda, gpus: 4}")
    assert "training.gpus: value 4" in line


def test_evaluation_names_must_exist() -> None:
    text = MINIMAL + EVALUATION + "      datasets: [numbrs]\n"
    assert the_problem(text).startswith(
        "evaluation.handlers[0].datasets[0]: value 'numbrs': expected the dataset_id of an evaluation dataset "
        "(did you mean 'numbers'?)"
    )
    assert load_pipeline_text(text.replace("numbrs", "numbers"), "p").config is not None


def test_evaluation_datasets_and_results_must_differ() -> None:
    text = MINIMAL + EVALUATION + "  datasets: [{dataset_id: a}, {dataset_id: a}]\n"
    assert the_problem(text).startswith("evaluation.datasets[1].dataset_id: value 'a': another evaluation dataset")
    text = MINIMAL + EVALUATION + "  datasets: [{dataset_id: a, metrics: [{name: Accuracy}, {name: Accuracy}]}]\n"
    assert the_problem(text).startswith("evaluation.datasets[0].metrics[1]: another metric of this dataset")


def test_repeated_handler_names_are_numbered() -> None:
    strategy = "strategy: {type: SlicingEvalStrategy, eval_every: 1d, eval_start_from: 0, eval_end_at: 100000}"
    names = ["", "name: evaluation-2, ", "", "name: x, ", "name: x, "]
    text = MINIMAL + "evaluation:\n  handlers:\n" + "".join(f"    - {{{name}{strategy}}}\n" for name in names)
    config = load_pipeline_text(text, "p").require_runnable()
    assert config.evaluation is not None
    found = [handler.name for handler in config.evaluation.handlers]
    assert found == ["evaluation", "evaluation-2", "evaluation-3", "x", "x-2"]
    assert load_pipeline_text(resolved_yaml(config), "r").config == config


def test_right_after_a_training_every_model_is_scored() -> None:
    text = MINIMAL + EVALUATION + "      execution_time: after_training\n"
    config = load_pipeline_text(text, "p").require_runnable()
    assert config.evaluation is not None
    assert config.evaluation.handlers[0].models == "matrix"
    assert the_problem(text + "      models: active\n").startswith(
        "evaluation.handlers[0].models: value 'active': expected matrix"
    )


def test_evaluation_uses_the_training_dataset_by_default() -> None:
    text = MINIMAL.replace("dataset_id: numbers", 'dataset_id: numbers, parser: "m:f"') + EVALUATION
    config = load_pipeline_text(text, "p").require_runnable()
    (dataset,) = evaluation_datasets(config)
    assert (dataset.dataset_id, dataset.parser) == ("numbers", "m:f")
    assert [metric.result_name for metric in dataset.metrics] == ["Accuracy"]


@pytest.mark.parametrize(
    ("dataset", "parser"),
    [
        ("{dataset_id: numbers, batch_size: 7}", "m:f"),
        ('{dataset_id: numbers, parser: "m:g"}', "m:g"),
        ("{dataset_id: others}", None),
        ('{dataset_id: numbers, bytes_parser_function: "m:g"}', None),
    ],
)
def test_an_evaluation_dataset_inherits_decoding_only_from_the_same_dataset(dataset: str, parser: str | None) -> None:
    text = MINIMAL.replace("dataset_id: numbers", 'dataset_id: numbers, parser: "m:f"') + EVALUATION
    config = load_pipeline_text(text + f"  datasets: [{dataset}]\n", "p").require_runnable()
    (resolved,) = evaluation_datasets(config)
    assert resolved.parser == parser


PLANNED = "training: {lr_scheduler: {name: DLRMScheduler, source: Custom}}\n"


def test_a_pipeline_that_needs_a_later_release_says_all_of_it() -> None:
    lines = [line for line in MINIMAL.splitlines() if not line.startswith("model:")]
    text = "\n".join([*lines, "model: {id: FmowNet, config: {num_classes: 62}}", ""])
    loaded = load_pipeline_text(text + PLANNED, "p.yaml")
    assert loaded.config is None
    assert sorted(loaded.planned) == [
        "model.id: model 'FmowNet' is not in this release yet",
        "training.lr_scheduler.source: learning-rate scheduler 'DLRMScheduler' is not in this release yet",
    ]
    with pytest.raises(NotAvailableError, match=r"p\.yaml is valid but cannot run yet") as caught:
        loaded.require_runnable()
    assert all(line in caught.value.message for line in loaded.planned)


def test_errors_outweigh_what_is_planned() -> None:
    text = MINIMAL + PLANNED.replace("}}", "}, batch_size: x}")
    assert the_problem(text).startswith("training.batch_size")


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


_TREE = yaml.safe_load(PUBLISHED)


@given(path=st.sampled_from(_paths(_TREE)[1:]), value=st.sampled_from([None, 3, -7.5, "text", [], {}, [1], {"x": {}}]))
@settings(max_examples=150, deadline=None)
def test_any_mutation_is_read_or_refused_in_words(path: tuple[Any, ...], value: object) -> None:
    """Whatever one entry is replaced by: a configuration or problems at existing places, never a crash."""
    tree = yaml.safe_load(PUBLISHED)
    node = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    try:
        loaded = load_pipeline_text(yaml.safe_dump(tree), "p")
    except InvalidInputError as error:
        lines = error.message.splitlines()[1:]
    else:
        assert loaded.config is None or load_pipeline_text(resolved_yaml(loaded.config), "r").config == loaded.config
        return
    assert lines
    # evaluation names the datasets, so that it can be at fault where another section changed
    assert all(str(path[0]) in line or "evaluation" in line for line in lines), lines

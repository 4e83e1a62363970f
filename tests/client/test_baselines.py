"""The pipelines that a downsampling strategy is compared with."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from modyn.client.baselines import baseline_yaml, check_has_downsampling
from modyn.core.config.reader import load_pipeline_text, resolved_yaml
from modyn.core.errors import InvalidInputError
from modyn.core.report import BaselineKind, Report, TriggerPart
from tests.client.reports import downsampled, downsampling, report, trigger

PIPELINE = """
pipeline: {{name: {name}}}
data:
  dataset_id: d
  bytes_parser_function: |
    def bytes_parser_function(data):
        return bytes(data)  # as it is
model: {{id: MLP, config: {{in_features: 2, num_classes: 2}}}}
trigger: {{id: DataAmountTrigger, num_samples: 100}}
selection_strategy: {selection}
training: {{epochs_per_trigger: 4}}
"""


def pipeline(downsampling_config: str, *, name: str = "p", warmup: int = 0) -> str:
    """As the report has it: every default filled in."""
    selection = f"{{name: CoresetStrategy, warmup_triggers: {warmup}, downsampling_config: {downsampling_config}}}"
    return resolved(PIPELINE.format(name=name, selection=selection))


def resolved(text: str) -> str:
    return resolved_yaml(load_pipeline_text(text, "p.yaml").require_runnable())


def trained(*triggers: TriggerPart) -> Report:
    return report(triggers=list(triggers), part=downsampling())


def selection_of(text: str) -> dict[str, Any]:
    selection = yaml.safe_load(text)["selection_strategy"]
    assert isinstance(selection, dict)
    return selection


def replaced(compared: Report, text: str, kind: BaselineKind) -> Any:
    return selection_of(baseline_yaml(compared, text, kind))["downsampling_config"]


def test_a_strategy_that_trains_on_its_ratio_is_replaced_by_the_same_ratio() -> None:
    text = pipeline("{strategy: Loss, ratio: 25, sample_then_batch: true, period: 2}")
    compared = trained(downsampled(0, trained=100, offered=400), downsampled(1, samples=10, trained=8, offered=40))
    assert replaced(compared, text, "uniform") == {"strategy": "Uniform", "ratio": 25, "ratio_max": 100, "period": 2}
    assert replaced(compared, text, "fewer_epochs") == {"strategy": "FewerEpochs", "ratio": 25, "ratio_max": 100}


def test_otherwise_the_share_is_the_one_that_was_trained() -> None:
    text = pipeline("{strategy: InfoBatch, ratio: 50}")
    compared = trained(downsampled(0, trained=300, offered=400), downsampled(1, trained=327, offered=400))
    expected = {"ratio": 627, "ratio_max": 800}
    assert replaced(compared, text, "uniform") == {"strategy": "Uniform", **expected, "period": 1}
    assert replaced(compared, text, "fewer_epochs") == {"strategy": "FewerEpochs", **expected}


@pytest.mark.parametrize(("samples", "kept", "epochs"), [(101, 50, 3), (60_001, 7, 5), (7, 6, 1), (3, 3, 2)])
def test_the_baseline_trains_on_exactly_as_many(samples: int, kept: int, epochs: int) -> None:
    text = pipeline("{strategy: InfoBatch, ratio: 1, ratio_max: 1000}")
    compared = trained(downsampled(0, samples=samples, trained=kept * epochs, offered=samples * epochs))
    config = load_pipeline_text(baseline_yaml(compared, text, "uniform"), "b").require_runnable()
    strategy = config.selection_strategy.downsampling(0)
    assert strategy is not None
    assert strategy.target_size(samples) == kept


def test_batch_then_sample_chooses_anew_in_every_epoch() -> None:
    text = pipeline("{strategy: Loss, ratio: 50, sample_then_batch: false, period: 0}")
    assert replaced(trained(downsampled(0)), text, "uniform")["period"] == 1
    text = pipeline("{strategy: Loss, ratio: 50, sample_then_batch: true, period: 0}")
    assert replaced(trained(downsampled(0)), text, "uniform")["period"] == 0


def test_each_strategy_of_a_schedule_is_replaced_by_what_it_trained() -> None:
    schedule = (
        "{downsampling_thresholds: [1, 2, 3], downsampling_list: [{strategy: 'No'}, {strategy: InfoBatch, ratio: 50}, "
        "{strategy: Loss, ratio: 25, sample_then_batch: true, period: 3}, {strategy: InfoBatch, ratio: 10}]}"
    )
    text = pipeline(schedule, warmup=2)
    compared = trained(
        trigger(0),
        trigger(1),
        trigger(2),
        downsampled(3, trained=300, offered=400),
        downsampled(4, trained=100, offered=400),
        # the last strategy was never used: there is nothing to measure
    )
    changed = selection_of(baseline_yaml(compared, text, "uniform"))
    before = selection_of(text)
    assert changed["downsampling_config"]["downsampling_list"] == [
        before["downsampling_config"]["downsampling_list"][0],
        {"strategy": "Uniform", "ratio": 3, "ratio_max": 4, "period": 1},
        {"strategy": "Uniform", "ratio": 25, "ratio_max": 100, "period": 3},
        {"strategy": "Uniform", "ratio": 10, "ratio_max": 100, "period": 1},
    ]
    for part in (before, changed):
        del part["downsampling_config"]["downsampling_list"]
    assert changed == before, "warm-up and thresholds stay"


def test_nothing_else_changes_but_the_name() -> None:
    text = pipeline("{strategy: Loss, ratio: 50}", name="'yes: # no'")
    before = yaml.safe_load(text)
    after = yaml.safe_load(baseline_yaml(trained(downsampled(0)), text, "fewer_epochs"))
    assert after["pipeline"].pop("name") == "yes: # no (baseline: fewer epochs)"
    assert before["pipeline"].pop("name") == "yes: # no"
    for tree in (before, after):
        del tree["selection_strategy"]["downsampling_config"]
    assert after == before
    long = baseline_yaml(trained(downsampled(0)), pipeline("{strategy: Loss, ratio: 50}", name="x" * 200), "uniform")
    assert yaml.safe_load(long)["pipeline"]["name"] == "x" * 180 + " (baseline: uniform)"


def test_what_cannot_be_compared_is_refused() -> None:
    text = pipeline("{strategy: Loss, ratio: 50}")
    with pytest.raises(InvalidInputError, match="pipeline 1 trained nothing with a downsampling strategy"):
        baseline_yaml(report(), text, "uniform")
    live = trained(downsampled(0))
    live.run.mode = "live"
    with pytest.raises(InvalidInputError, match="pipeline 1 ran live"):
        baseline_yaml(live, text, "uniform")


@pytest.mark.parametrize(
    "selection",
    [
        "{name: NewDataStrategy}",
        "{name: CoresetStrategy, presampling_config: {strategy: Random, ratio: 50}}",
        "{name: CoresetStrategy, downsampling_config: {downsampling_list: [{strategy: 'No'}]}}",
    ],
)
def test_without_a_strategy_there_is_nothing_to_compare(selection: str) -> None:
    config = load_pipeline_text(PIPELINE.format(name="p", selection=selection), "p").require_runnable()
    with pytest.raises(InvalidInputError, match="--baselines compares a downsampling strategy") as caught:
        check_has_downsampling(config)
    assert config.selection_strategy.plugin_name in str(caught.value)
    schedule = "{downsampling_thresholds: [3], downsampling_list: [{strategy: 'No'}, {strategy: Loss, ratio: 50}]}"
    check_has_downsampling(load_pipeline_text(pipeline(schedule), "p").require_runnable())

"""Pipelines written for the published system validate; what has no effect is said once, what is to come is listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from modyn.core.config.published import Described, Reading, accept_published_keys
from modyn.core.config.reader import load_pipeline_text
from modyn.core.config.source import YamlMapping
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.selection import SELECTION_POLICIES
from tests.helpers.pipelines import MINIMAL, PUBLISHED

INEFFECTIVE = [
    "selection_strategy.maximum_keys_in_memory",
    "selection_strategy.processor_type",
    "selection_strategy.storage_backend",
    "selection_strategy.uses_weights",
    "selection_strategy.presampling_config.force_column_balancing",
    "selection_strategy.presampling_config.force_required_target_size",
    "training.num_prefetched_partitions",
    "training.parallel_prefetch_requests",
    "model_storage.full_model_strategy",
    "model_storage.incremental_model_strategy.config",
    "evaluation.after_training_evaluation_workers",
    "evaluation.after_pipeline_evaluation_workers",
    "evaluation.datasets[0].dataloader_workers",
    "evaluation.datasets[1].dataloader_workers",
]


def test_a_published_pipeline_runs_with_one_notice_for_each_key_without_effect() -> None:
    loaded = load_pipeline_text(PUBLISHED, "p.yaml")
    assert loaded.planned == []
    assert sorted(notice.split(": ")[0] for notice in loaded.notices) == sorted(INEFFECTIVE)
    assert all("has no effect: " in notice for notice in loaded.notices)


def test_published_values_keep_their_meaning() -> None:
    config = load_pipeline_text(PUBLISHED, "p.yaml").require_runnable()
    training = config.training
    assert (training.initial_model, training.initial_model_id, training.seed) == ("pretrained", "12", 42)
    assert training.optimizers[0].param_groups[0].config == {"lr": 0.1, "momentum": 0.001}
    policy = config.selection_strategy.model_dump()
    assert (policy["limit"], policy["tail_triggers"], policy["warmup_triggers"]) == (None, 3, 1)
    assert config.evaluation is not None
    assert [handler.models for handler in config.evaluation.handlers] == ["matrix", "active", "training"]


def test_a_null_seed_is_zero() -> None:
    config = load_pipeline_text(MINIMAL + "training: {seed: null}", "p").require_runnable()
    assert config.training.seed == 0


THRESHOLD = "decision_criterion: {id: ThresholdDecisionCriterion, threshold: 0.5}"
QUANTILE = "decision_criterion: {id: DynamicQuantileThresholdCriterion, window_size: 5, quantile: 0.1}"
ROLLING = "decision_criterion: {id: DynamicRollingAverageThresholdCriterion, deviation: 0.1, absolute: true}"
BATCHED = "evaluation_interval_data_points: 100, warmup_intervals: 3, warmup_policy: {id: TimeTrigger, every: 1d}"
EVALUATED = (
    "evaluation: {device: cpu, dataset: {dataset_id: numbers, batch_size: 8, dataloader_workers: 1, "
    "bytes_parser_function: 'def bytes_parser_function(data): return data', metrics: [{name: Accuracy}]}}, "
    "mode: hindsight, forecasting_method: ridge_regression, data_density_window_size: 20, "
    "performance_triggers_window_size: 10"
)
STATIC = "{id: StaticPerformanceThresholdCriterion, metric: Accuracy, metric_threshold: 0.7}"
AVOIDABLE = (
    "{id: StaticNumberMisclassificationCriterion, avoidable_misclassification_threshold: 9, expected_accuracy: 1}"
)


@pytest.mark.parametrize(
    "trigger",
    [
        *(
            f"id: DataDriftTrigger, {BATCHED}, sample_size: 100, metrics: {{m: {{id: {metric}}}}}"
            for metric in (
                f"AlibiDetectMmdDriftMetric, p_val: 0.05, device: cpu, {THRESHOLD}",
                f"AlibiDetectKSDriftMetric, correction: fdr, alternative_hypothesis: two-sided, {QUANTILE}",
                f"AlibiDetectCVMDriftMetric, correction: bonferroni, {ROLLING}",
                f"EvidentlyModelDriftMetric, num_pca_component: 2, quantile_probability: 0.9, {THRESHOLD}",
                f"EvidentlyRatioDriftMetric, component_stattest: wasserstein, {THRESHOLD}",
                f"EvidentlySimpleDistanceDriftMetric, distance_metric: euclidean, bootstrap: false, {THRESHOLD}",
                f"EvidentlyHellingerDistanceDriftMetric, num_pca_component: null, {THRESHOLD}",
            )
        ),
        (
            f"id: DataDriftTrigger, {BATCHED}, metrics: {{m: {{id: AlibiDetectMmdDriftMetric, {THRESHOLD}}}}}, "
            "windowing_strategy: {id: TimeWindowingStrategy, limit_ref: 2d, limit_cur: 1d, allow_overlap: true}, "
            "aggregation_strategy: {id: AtLeastN, n: 1}"
        ),
        f"id: PerformanceTrigger, {BATCHED}, {EVALUATED}, decision_criteria: {{a: {STATIC}, b: {AVOIDABLE}}}",
        f"id: DataIncorporationLatencyCostTrigger, {BATCHED}, incorporation_delay_per_training_second: 3.5",
        (
            f"id: AvoidableMisclassificationCostTrigger, {BATCHED}, {EVALUATED}, expected_accuracy: 0.9, "
            "avoidable_misclassification_latency_per_training_second: 2"
        ),
        "id: EnsembleTrigger, subtriggers: {a: {id: TimeTrigger, every: 1d}}, ensemble_strategy: {id: AtLeastN, n: 1}",
    ],
)
def test_published_triggers_are_read(trigger: str) -> None:
    kept = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith("trigger:"))
    loaded = load_pipeline_text(f"{kept}trigger: {{{trigger}}}", "p")
    loaded.require_runnable()
    assert all("has no effect" in notice for notice in loaded.notices), loaded.notices


@pytest.mark.parametrize(
    "model",
    [
        "id: Dummy",
        *(
            f"id: {name}, config: {{num_input_channels: 1, num_classes: 2}}"
            for name in ("YearbookNet", "SmallYearbookNet")
        ),
        *(
            f"id: {name}, config: {{num_classes: 2, use_pretrained: false}}"
            for name in ("ResNet18", "ResNet50", "ResNet152")
        ),
    ],
)
def test_published_models_are_read(model: str) -> None:
    kept = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith("model:"))
    load_pipeline_text(f"{kept}model: {{{model}}}", "p").require_runnable()


def test_the_published_tokenizer_is_read() -> None:
    kept = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith("data:"))
    data = "data: {dataset_id: d, bytes_parser_function: 'm:f', tokenizer: DistilBertTokenizerTransform}"
    config = load_pipeline_text(kept + data, "p").require_runnable()
    assert config.data.tokenizer == "DistilBertTokenizerTransform"
    for tokenizer, what in (
        ("Other", "expected DistilBertTokenizerTransform, or"),
        ("'m:f', parser: {name: text}", "numbers"),
    ):
        with pytest.raises(InvalidInputError, match=what):
            load_pipeline_text(f"{kept}data: {{dataset_id: d, tokenizer: {tokenizer}}}", "p")


IL_TRAINING = (
    "il_training_config: {il_model_id: MLP, il_model_config: {in_features: 4, num_classes: 2}, gpus: 1, "
    "device: 'cuda:0', dataloader_workers: 1, batch_size: 8, use_previous_model: false, epochs_per_trigger: 2, "
    "shuffle: true, initial_model: random, checkpointing: {activated: false}, drop_last_batch: false, "
    "optimizers: [{name: default, algorithm: SGD, source: PyTorch, "
    "param_groups: [{module: model, config: {lr: 0.1}}]}], "
    "optimization_criterion: {name: CrossEntropyLoss}}"
)


@pytest.mark.parametrize(
    "strategy",
    [
        "name: FreshnessSamplingStrategy, unused_data_ratio: 60, tail_triggers: null, limit: 100",
        *(
            f"name: CoresetStrategy, tail_triggers: null, presampling_config: {{strategy: {name}, ratio: 50, "
            "ratio_max: 100, force_column_balancing: false, force_required_target_size: true}"
            for name in ("Random", "RandomNoReplacement", "LabelBalanced", "TriggerBalanced")
        ),
        *(
            f"name: CoresetStrategy, tail_triggers: 0, downsampling_config: {{{config}}}"
            for config in (
                "strategy: Loss, sample_then_batch: true, ratio: 50, ratio_max: 100, period: 2",
                "strategy: GradNorm, sample_then_batch: false, ratio: 50",
                "strategy: Uncertainty, score_metric: Entropy, balance: true, sample_then_batch: true, ratio: 25",
                "strategy: KcenterGreedy, balance: false, ratio: 25",
                "strategy: GradMatch, balance: true, full_grad_approximation: LastLayerWithEmbedding, ratio: 25",
                "strategy: Craig, selection_batch: 64, balance: false, greedy: StochasticGreedy, ratio: 25",
                (
                    "strategy: Submodular, submodular_function: LogDeterminant, submodular_optimizer: LazyGreedy, "
                    "selection_batch: 64, balance: true, ratio: 25"
                ),
                f"strategy: RHOLoss, ratio: 50, holdout_set_strategy: Twin, holdout_set_ratio: 50, {IL_TRAINING}",
                "strategy: RS2, ratio: 50, period: 1, sample_then_batch: true, with_replacement: true",
                (
                    "downsampling_list: [{strategy: Loss, ratio: 5}, {strategy: InfoBatch, ratio: 5}], "
                    "downsampling_thresholds: [3]"
                ),
            )
        ),
    ],
)
def test_published_selection_strategies_run(strategy: str) -> None:
    text = MINIMAL + f"selection_strategy: {{{strategy}, maximum_keys_in_memory: 1000, storage_backend: database}}"
    loaded = load_pipeline_text(text, "p.yaml")
    assert loaded.planned == []
    dumped = SELECTION_POLICIES.dump(loaded.require_runnable().selection_strategy)
    assert SELECTION_POLICIES.dump(SELECTION_POLICIES.parse(dumped)) == dumped


@pytest.mark.parametrize(
    ("what", "where"),
    [
        *(
            (f"model: {{id: {model}, config: {{num_classes: 2}}}}", "model.id")
            for model in ("ArticleNet", "DLRM", "FmowNet")
        ),
        (
            "training: {lr_scheduler: {name: DLRMScheduler, source: Custom, step_every: batch, optimizers: [default]}}",
            "training.lr_scheduler.source",
        ),
    ],
)
def test_what_a_later_release_will_have_is_no_error(what: str, where: str) -> None:
    section = what.partition(":")[0]
    kept = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith(f"{section}:"))
    loaded = load_pipeline_text(kept + what, "p")
    assert loaded.config is None
    assert len(loaded.planned) == 1
    assert loaded.planned[0].startswith(where)
    assert loaded.planned[0].endswith("is not in this release yet")


@pytest.mark.parametrize(
    "training",
    [
        "{optimizers: [{name: o, algorithm: FusedSGD, source: APEX, param_groups: [{module: model}]}]}",
        "{checkpointing: {activated: true, interval: 5, path: /checkpoints}}",
        "{gpus: 2, device: 'cuda:0', amp: true, enable_accurate_gpu_measurements: true}",
    ],
)
def test_published_trainings_are_read(training: str) -> None:
    assert load_pipeline_text(f"{MINIMAL}training: {training}\n", "p").require_runnable()


class _Renamed(Described):
    renamed_keys: ClassVar[Mapping[str, str]] = {"old": "new"}
    ignored_keys: ClassVar[Mapping[str, str]] = {"gone": "nobody needs it"}


def test_renamed_and_ignored_keys() -> None:
    reading = Reading()
    tree = YamlMapping({"old": 1, "gone": 2, "kept": 3})
    tree.location = ("section", 0)
    assert accept_published_keys(_Renamed, tree, reading) == {"new": 1, "kept": 3}
    assert tree == {"old": 1, "gone": 2, "kept": 3}
    assert reading.notices == [
        "section[0].old: this key is now called 'new'",
        "section[0].gone: has no effect: nobody needs it",
    ]
    with pytest.raises(ValueError, match="old name of 'new'"):
        accept_published_keys(_Renamed, {"old": 1, "new": 2}, None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("training: {batch_size: true}", "training.batch_size"),
        ("training: {threads: false}", "training.threads"),
        ("selection_strategy: {name: NewDataStrategy, limit: true}", "selection_strategy.limit"),
        (
            "selection_strategy: {name: CoresetStrategy, downsampling_config: {strategy: Loss, ratio: true}}",
            "selection_strategy.downsampling_config.ratio",
        ),
    ],
)
def test_true_is_no_number(text: str, where: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"{where}: value '(true|false)': expected a whole number"):
        load_pipeline_text(MINIMAL + text, "p")


def test_model_storage_has_its_meaning() -> None:
    storage = load_pipeline_text(PUBLISHED, "p.yaml").require_runnable().model_storage
    assert storage is not None
    assert storage.incremental_model_strategy is not None
    assert storage.incremental_model_strategy.full_model_interval == 5
    assert storage.retention.keep_reported
    text = MINIMAL + "model_storage: {retention: {keep_reported: false, keep_last: 2}}"
    storage = load_pipeline_text(text, "p").require_runnable().model_storage
    assert storage is not None
    assert storage.retention.keep_last == 2


@pytest.mark.parametrize(
    ("retention", "message"),
    [
        ("keep_last: 2", "say keep_reported: false too"),
        ("keep_reported: true, keep_last: 2", "say keep_reported: false too"),
        ("keep_reported: false", "expected how many models to keep"),
        ("keep_reported: false, keep_last: 0", "keep_last"),
    ],
)
def test_retention_says_what_is_removed(retention: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_pipeline_text(MINIMAL + f"model_storage: {{retention: {{{retention}}}}}", "p")

from __future__ import annotations

from typing import Any

import pytest

from modyn.core.config.training import TrainingSection
from modyn.core.errors import InvalidInputError, NotAllowedError
from modyn.core.values import to_value
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.selector_pb2 import TrainingSet
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.trainer_server.inputs import TrainingInputs

SET = TrainingSet(digest="set", content_digest="content", num_samples=5)


def digest(training_set: TrainingSet = SET, code: str = "code", **changes: Any) -> str:
    fields: dict[str, Any] = {
        "pipeline_id": "p",
        "dataset": "d",
        "training_set": "set",
        "seed": 1,
        "training": {"threads": 2},
        "model": {"id": "MLP", "config": {"in_features": 2, "num_classes": 2}},
        "data": {"dataset_id": "d"},
        **changes,
    }
    for key in ("training", "model", "data"):
        fields[key] = to_value(fields[key])
    return TrainingInputs.of(TrainRequest(**fields), allow_user_code=True).digest(training_set, code)


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "other"},
        {"seed": 2},
        {"trigger_index": 1},
        {"initial_model": "m"},
        {"num_samples_to_pass": 3},
        {"code": "other"},
        {"training": {"threads": 3}},
        {"training": {"threads": 2, "batch_size": 3}},
        {"training": {"threads": 2, "shuffle": False}},
        {"training": {"threads": 2, "device": "cuda:0"}},
        {"training": {"threads": 2, "optimizers": [{"algorithm": "SGD"}]}},
        {"training": {"threads": 2, "optimization_criterion": {"config": {"label_smoothing": 0.1}}}},
        {"model": {"id": "MLP", "config": {"in_features": 3, "num_classes": 2}}},
        {"data": {"dataset_id": "d", "parser": {"name": "columns", "scale": 0.5}}},
        {"data": {"dataset_id": "d", "label_transformer_function": "m:f"}},
        {"training_set": TrainingSet(digest="other", content_digest="content")},
        {"training_set": TrainingSet(digest="set", content_digest="other")},
    ],
)
def test_what_the_weights_depend_on_changes_the_digest(changes: dict[str, Any]) -> None:
    if isinstance(changes.get("training_set"), TrainingSet):
        assert digest(changes["training_set"]) != digest()
    else:
        assert digest(**changes) != digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline_id": "other"},
        {"reuse": True},
        {"code": "code"},
        {"training": {"threads": 2, "batch_size": 64}},  # the default
        {"training": {"threads": 2, "record_loss_every": 5, "use_previous_model": False, "seed": 7}},
    ],
)
def test_what_they_do_not_depend_on_does_not(changes: dict[str, Any]) -> None:
    assert digest(**changes) == digest()


Section = dict[str, Any]

MATTERS: dict[str, tuple[Section, Section]] = {
    # key: two training sections that differ in it
    "amp": ({}, {"amp": True}),
    "amp_dtype": ({"amp": True, "amp_dtype": "bfloat16"}, {"amp": True, "amp_dtype": "float16"}),
    "batch_size": ({}, {"batch_size": 7}),
    "callbacks": ({}, {"callbacks": ["my:callback"]}),
    "compile": ({}, {"compile": True}),
    "device": ({}, {"device": "cuda:1"}),
    "drop_last_batch": ({}, {"drop_last_batch": True}),
    "early_stopping": ({"early_stopping": {"patience": 1}}, {"early_stopping": {"patience": 2}}),
    "epochs_per_trigger": ({}, {"epochs_per_trigger": 2}),
    "gpus": ({"device": "cuda"}, {"device": "cuda", "gpus": 2}),
    "grad_scaler_config": ({}, {"grad_scaler_config": {"init_scale": 2.0}}),
    "gradient_accumulation": ({}, {"gradient_accumulation": 2}),
    "gradient_clipping": ({"gradient_clipping": {"max_norm": 1}}, {"gradient_clipping": {"max_value": 1}}),
    "lr_scheduler": ({}, {"lr_scheduler": {"name": "StepLR", "config": {"step_size": 1}}}),
    "new_classes": ({}, {"new_classes": "grow"}),
    "optimization_criterion": ({}, {"optimization_criterion": {"name": "NLLLoss"}}),
    "optimizer_state": ({}, {"optimizer_state": "keep"}),
    "optimizers": ({}, {"optimizers": [{"algorithm": "SGD"}]}),
    "processes": ({}, {"processes": 2}),
    "shuffle": ({}, {"shuffle": False}),
    "step": ({}, {"step": "my:step"}),
    "threads": ({}, {"threads": 3}),
}

DOES_NOT_MATTER: dict[str, Section] = {
    "checkpointing": {"checkpointing": {"activated": False}},
    "dataloader_workers": {"dataloader_workers": 2},
    "enable_accurate_gpu_measurements": {"enable_accurate_gpu_measurements": True},
    "record_loss_every": {"record_loss_every": 5},
    # The request says what of these matters.
    "initial_model": {"initial_model": "pretrained", "initial_model_id": "m"},
    "initial_model_id": {"initial_model": "pretrained", "initial_model_id": "m"},
    "initial_model_prefix": {"initial_model_prefix": "body."},
    "num_samples_to_pass": {"num_samples_to_pass": [5]},
    "seed": {"seed": 7},
    "use_previous_model": {"use_previous_model": False},
}


def test_every_key_of_a_training_either_matters_or_does_not() -> None:
    assert sorted([*MATTERS, *DOES_NOT_MATTER]) == sorted(TrainingSection.model_fields)
    for one, other in MATTERS.values():
        assert digest(training={"threads": 2, **one}) != digest(training={"threads": 2, **other}), other
    for section in DOES_NOT_MATTER.values():
        assert digest(training={"threads": 2, **section}) == digest(), section


def test_what_a_training_begins_with_matters() -> None:
    start: dict[str, Any] = {"initial_model": "m"}
    prefix: dict[str, Any] = {"training": {"threads": 2, "initial_model_prefix": "body."}}
    assert digest(**start, **prefix) != digest(**start)
    assert digest(**start, optimizer_state="s") != digest(**start)
    named = {"initial_model": "pretrained", "initial_model_id": "other", "initial_model_prefix": "body."}
    assert digest(**start, training={"threads": 2, **named}) == digest(**start)  # later triggers take the whole model
    own: dict[str, Any] = {"training": {"threads": 2, "step": "my:step"}}
    inputs_of_steps: list[dict[str, Any]] = [{"previous_model": "p"}, {"previous_training_sets": ["a"]}]
    for more in inputs_of_steps:
        assert digest(**more) == digest()
        assert digest(**own, **more) != digest(**own)


def test_threads_do_not_depend_on_the_machine_unless_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for cores in (2, 16):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        digests.append((digest(training={}), digest(training={"threads": None})))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


@pytest.mark.parametrize("pipeline", ["", "..", "a/b", ".hidden", "x" * 300])
def test_a_pipeline_id_is_a_file_name(pipeline: str) -> None:
    with pytest.raises(InvalidInputError, match="pipeline_id"):
        digest(pipeline_id=pipeline)


def test_sections_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="batch_size"):
        digest(training={"batch_size": 0})
    with pytest.raises(InvalidInputError, match="ResNet19"):
        digest(model={"id": "ResNet19"})


def test_user_code_needs_permission() -> None:
    request = TrainRequest(
        pipeline_id="p",
        training=to_value({}),
        model=to_value({"id": "torch.nn:Linear"}),
        data=to_value({"dataset_id": "d"}),
        code=CodeOrigin(root="/somewhere"),
    )
    with pytest.raises(NotAllowedError):
        TrainingInputs.of(request, allow_user_code=False)
    request.ClearField("code")
    assert TrainingInputs.of(request, allow_user_code=False).code_root is None

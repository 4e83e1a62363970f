from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import LrSchedulerSection, OptimizerSection
from modyn.core.errors import InvalidInputError
from modyn.trainer_server.optimizers import build_optimizers, build_scheduler
from modyn.trainer_server.schedule import Schedule

SCHEDULE = Schedule(samples_per_epoch=90, batches_per_epoch=10, epochs=3, total_samples=270, total_batches=30,
                    drop_last=False)  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.fc = nn.Linear(3, 2)


def section(*groups: dict[str, Any], algorithm: str = "SGD", name: str = "default") -> OptimizerSection:
    return OptimizerSection.model_validate({"name": name, "algorithm": algorithm, "param_groups": list(groups)})


ALGORITHMS = [
    name
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name not in {"Optimizer", "LBFGS"}
]


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"SparseAdam", "Muon"}))
def test_every_algorithm_trains(algorithm: str) -> None:
    model = Net()
    before = model.fc.weight.clone()
    optimizer = build_optimizers(model, [section({"config": {"lr": 0.1}}, algorithm=algorithm)])["default"]
    model.fc(model.body(torch.randn(5, 4))).pow(2).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.fc.weight)


def test_parameter_groups_and_several_optimizers() -> None:
    model = Net()
    optimizers = build_optimizers(
        model,
        [
            section({"module": "model.body.0", "config": {"lr": 0.1, "momentum": 0.9}}, name="body"),
            section({"module": "fc", "config": {"lr": 0.2, "betas": [0.5, 0.6]}}, algorithm="Adam", name="head"),
        ],
    )
    body, head = optimizers["body"].param_groups, optimizers["head"].param_groups
    assert body[0]["params"] == list(model.body.parameters())
    assert (body[0]["lr"], body[0]["momentum"]) == (0.1, 0.9)
    assert head[0]["params"] == list(model.fc.parameters())
    assert tuple(head[0]["betas"]) == (0.5, 0.6)


def test_a_submodule_named_model_can_be_reached() -> None:
    outer = nn.Module()
    outer.model = Net()
    optimizer = build_optimizers(outer, [section({"module": "model.model.fc"})])["default"]
    assert optimizer.param_groups[0]["params"] == list(outer.model.fc.parameters())
    optimizer = build_optimizers(outer, [section({"module": "model.fc"})])["default"]
    assert optimizer.param_groups[0]["params"] == list(outer.model.fc.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (section({}, algorithm="Adamm"), r"optimizers\[0\].algorithm: no optimizer 'Adamm'.*did you mean 'Adam"),
        (section({}, algorithm="LBFGS"), "LBFGS evaluates a batch many times"),
        (section({}, algorithm="lr_scheduler"), "no optimizer 'lr_scheduler'"),
        (
            section({"module": "model.fcc"}),
            r"groups\[0\].module: the model has no module 'model.fcc' \(did you mean 'fc'",
        ),
        (section({"module": "model.body.1"}), r"'model.body.1' \(ReLU\) has no parameters"),
        (
            section({}, {"module": "fc"}),
            r"groups\[1\].module: parameter 'fc.weight' is already in training.optimizers\[0\].param_groups\[0\]",
        ),
        (section({"config": {"lrr": 0.1}}), r"param_groups\[0\].config of SGD:.*lrr"),
        (section({"config": {"lr": -1}}), r"param_groups\[0\].config of SGD: Invalid learning rate"),
        (section({"module": "fc"}, {"module": "body", "config": {"momentumm": 1}}), r"groups\[1\].config.*momentumm"),
    ],
)
def test_errors_name_the_key(wrong: OptimizerSection, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build_optimizers(Net(), [wrong])


def test_two_optimizers_may_not_share_parameters() -> None:
    with pytest.raises(InvalidInputError, match=r"optimizers\[1\].param_groups\[0\].module: parameter 'body.0.weight'"):
        build_optimizers(Net(), [section({}), section({"module": "body"}, name="other")])


def scheduler(name: str, **config: Any) -> torch.optim.lr_scheduler.LRScheduler:
    optimizers = build_optimizers(Net(), [section({"config": {"lr": 1.0}})])
    built = build_scheduler(LrSchedulerSection(name=name, config=config), optimizers, SCHEDULE)
    assert isinstance(built, torch.optim.lr_scheduler.LRScheduler)
    return built


def test_placeholders_are_replaced_at_any_depth() -> None:
    cycle = scheduler("OneCycleLR", max_lr=1.0, total_steps="MODYN_NUM_BATCHES")
    assert cycle.total_steps == 30  # type: ignore[attr-defined]
    steps = scheduler("MultiStepLR", milestones=["MODYN_NUM_EPOCHS", "MODYN_NUM_BATCHES", 100])
    assert sorted(steps.milestones) == [3, 30, 100]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("StepLr", {}, r"lr_scheduler.name: no class 'StepLr'.*did you mean 'StepLR'"),
        ("StepLR", {}, "lr_scheduler.config of StepLR:.*step_size"),
        ("StepLR", {"step_size": 1, "gama": 2}, "lr_scheduler.config of StepLR:.*gama"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": -3}, "config of OneCycleLR: .*total_steps"),
        ("LambdaLR", {"lr_lambda": "x"}, "config of LambdaLR"),
        ("SequentialLR", {"schedulers": [], "milestones": []}, "config of SequentialLR"),
    ],
)
def test_scheduler_errors_name_the_key(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        scheduler(name, **config)

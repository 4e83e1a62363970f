"""Options of the loop against plain PyTorch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from modyn.core.config.pipeline import LrSchedulerSection, OptimizerSection, TrainingSection
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.trainer_server.optimizers import build_optimizers, build_scheduler
from modyn.trainer_server.schedule import Schedule
from tests.helpers.code import CodeRoot
from tests.helpers.looping import Fitted, TensorFeed, sgd

N = 50
GENERATOR = torch.Generator().manual_seed(5)
INPUTS = torch.randn(N, 6, generator=GENERATOR)
LABELS = torch.randint(0, 3, (N,), generator=GENERATOR)
WEIGHTS = torch.rand(N, generator=GENERATOR) + 0.1


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def feed(batch_size: int, *, weighted: bool = False) -> TensorFeed:
    return TensorFeed(INPUTS, LABELS, batch_size, WEIGHTS if weighted else None)


def trained(batch_size: int, training: dict[str, Any], *, weighted: bool = False, **fields: Any) -> nn.Sequential:
    model = network()
    Fitted(model, feed(batch_size, weighted=weighted), training, num_samples=N, **fields)
    return model


def backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def assert_same(one: nn.Module, other: nn.Module, rtol: float = 0.0, atol: float = 0.0) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=rtol, atol=atol)


# --------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("criterion", [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}])
def test_accumulated_batches_are_one_large_batch(weighted: bool, criterion: dict[str, Any]) -> None:
    """50 samples: batches of 4 in groups of 3 are batches of 12, also the last ones: 2 samples of 14 batches."""
    options = {
        **sgd(lr=0.02, momentum=0.9),
        "epochs_per_trigger": 2,
        "optimization_criterion": {"name": "CrossEntropyLoss", "config": criterion},
        "gradient_clipping": {"max_norm": 0.5},
    }
    small = trained(4, {**options, "gradient_accumulation": 3}, weighted=weighted)
    assert_same(small, trained(12, options, weighted=weighted), rtol=1e-4, atol=1e-6)


def test_learning_rates_follow_optimizer_steps_to_the_end() -> None:
    """13 batches an epoch are 4 whole groups and one of a batch; 2 whole epochs and 20 samples: 5 + 5 + 2 steps."""
    model = network()
    fitted = Fitted(
        model,
        feed(4),
        {
            **sgd(lr=0.1),
            "gradient_accumulation": 3,
            "lr_scheduler": {
                "name": "OneCycleLR",
                "step_every": "batch",
                "config": {"max_lr": 0.3, "total_steps": "MODYN_NUM_BATCHES"},
            },
        },
        num_samples=N,
        to_pass=2 * N + 20,
    )
    scheduler = fitted.setup.scheduler
    assert isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR)
    assert scheduler.total_steps == 12
    assert scheduler.last_epoch == 12
    assert (fitted.progress.samples, fitted.progress.batches) == (2 * N + 20, 31)


@pytest.mark.parametrize("accumulation", [1, 2, 5, 100])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("to_pass", [None, 1, 77, 100, 333])
def test_total_steps_are_those_a_walk_counts(accumulation: int, drop_last: bool, to_pass: int | None) -> None:
    section = TrainingSection(
        batch_size=7, gradient_accumulation=accumulation, drop_last_batch=drop_last, epochs_per_trigger=3
    )
    schedule = Schedule.of(N, section, to_pass)
    steps = 0
    left = schedule.total_batches
    while left:
        batches = min(left, schedule.batches_per_epoch)
        steps += math.ceil(batches / accumulation)
        left -= batches
    assert schedule.total_steps == steps


# ------------------------------------------------------------------------------------------- gradients, precision


@pytest.mark.parametrize("clipping", [{"max_norm": 0.3}, {"max_norm": 0.3, "norm_type": 1.0}, {"max_value": 0.01}])
def test_clipping_is_torch_s_over_all_optimizers(clipping: dict[str, float]) -> None:
    two = [
        {"name": "body", "algorithm": "SGD", "param_groups": [{"module": "model.0", "config": {"lr": 0.2}}]},
        {"name": "head", "algorithm": "Adam", "param_groups": [{"module": "model.2", "config": {"lr": 0.01}}]},
    ]
    model = trained(10, {"optimizers": two, "gradient_clipping": clipping})

    plain = network()
    optimizers = [torch.optim.SGD(plain[0].parameters(), lr=0.2), torch.optim.Adam(plain[2].parameters(), lr=0.01)]
    for batch in feed(10).epoch(0, last=True):
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert isinstance(batch.inputs, torch.Tensor)
        backward(cross_entropy(plain(batch.inputs), batch.labels))
        if "max_value" in clipping:
            nn.utils.clip_grad_value_(plain.parameters(), clipping["max_value"])
        else:
            nn.utils.clip_grad_norm_(plain.parameters(), clipping["max_norm"], clipping.get("norm_type", 2.0))
        for optimizer in optimizers:
            optimizer.step()
    assert_same(model, plain)


def test_amp_on_a_cpu_is_bfloat16() -> None:
    model = trained(10, {**sgd(lr=0.2), "amp": True})
    plain = network()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.2)
    for batch in feed(10).epoch(0, last=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert isinstance(batch.inputs, torch.Tensor)
            loss = cross_entropy(plain(batch.inputs), batch.labels)
        backward(loss)
        optimizer.step()
    assert_same(model, plain)


def test_steps_that_the_scaler_leaves_out_leave_learning_rates_as_they_are() -> None:
    """The scale is far too large at first: gradients are infinite in the first steps, until it is small enough."""
    options = {
        **sgd(lr=1.0),
        "amp": True,
        "amp_dtype": "float16",
        "grad_scaler_config": {"init_scale": 2.0**24, "growth_interval": 1000},
        "gradient_clipping": {"max_norm": 1.0},
        "lr_scheduler": {"name": "StepLR", "step_every": "batch", "config": {"step_size": 1, "gamma": 0.5}},
        "epochs_per_trigger": 3,
    }
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = Fitted(model, feed(10), options, num_samples=N)
    scale = fitted.setup.updates.state()["scaler"]["scale"]
    skipped = round(math.log2(2.0**24 / scale))
    assert 0 < skipped < 15
    (group,) = fitted.setup.optimizers["default"].param_groups
    assert group["lr"] == 0.5 ** (15 - skipped)


# ------------------------------------------------------------------------------------- schedulers, optimizers


def test_a_scheduler_of_one_s_own_gets_its_optimizers_in_order(code_root: CodeRoot) -> None:
    code_root.write(
        "schedules.py",
        """
        class Halving:
            def __init__(self, optimizers, every, total):
                self.optimizers, self.every, self.total, self.steps = optimizers, every, total, 0

            def step(self):
                self.steps += 1
                if self.steps % self.every == 0:
                    for number, optimizer in enumerate(self.optimizers):
                        for group in optimizer.param_groups:
                            group["lr"] /= 2 * (number + 1)

            def state_dict(self):
                return {"steps": self.steps}

            def load_state_dict(self, state):
                self.steps = state["steps"]

        def stateless(optimizers):
            return object()

        def broken(optimizers):
            raise KeyError("warmup")
        """,
    )
    sections = [
        OptimizerSection.model_validate(
            {"name": name, "algorithm": "SGD", "param_groups": [{"module": module, "config": {"lr": 1.0}}]}
        )
        for name, module in (("body", "0"), ("head", "2"))
    ]
    optimizers = build_optimizers(network(), sections)
    schedule = Schedule.of(N, TrainingSection(batch_size=10), None)

    def build(name: str, **config: Any) -> Any:
        section = LrSchedulerSection(
            name=f"schedules:{name}", source="Custom", optimizers=["head", "body"], config=config
        )
        return build_scheduler(section, optimizers, schedule, str(code_root))

    scheduler = build("Halving", every=2, total="MODYN_NUM_BATCHES")
    assert scheduler.total == 5
    scheduler.step()
    scheduler.step()
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    assert rates == {"head": 0.5, "body": 0.25}
    with pytest.raises(InvalidInputError, match=r"'schedules:stateless' returned \(object\) has no step\(\)"):
        build("stateless")
    with pytest.raises(
        InvalidInputError, match=r"schedules:broken\(optimizers, \*\*config\) raised KeyError: 'warmup'"
    ):
        build("broken")


def test_apex_that_is_not_installed_is_said_with_a_remedy() -> None:
    section = OptimizerSection(algorithm="FusedSGD", source="APEX")
    with pytest.raises(NotAvailableError, match=r"optimizers\[0\].source: APEX: .*set source: PyTorch"):
        build_optimizers(network(), [section])


# ------------------------------------------------------------------------------------------- early stopping


@pytest.mark.parametrize("accumulation", [1, 4])
def test_early_stopping_restores_the_best_epoch(accumulation: int) -> None:
    """Validation labels are other ones than those trained on, so that it gets worse after some epochs."""
    judged = TensorFeed(INPUTS, torch.where(torch.arange(N) % 3 == 0, (LABELS + 1) % 3, LABELS), 8)
    options = {**sgd(lr=0.5, momentum=0.9), "epochs_per_trigger": 60, "early_stopping": {"patience": 3}}
    options["gradient_accumulation"] = accumulation  # the last step of an epoch may come after its last batch
    options["callbacks"] = [{"name": "ExponentialMovingAverage", "decay": 0.5}]
    averaged = network()
    fitted = Fitted(averaged, feed(10), options, num_samples=N, validation=judged)
    assert fitted.stopping is not None
    losses, best = fitted.stopping.losses, fitted.stopping.best_epoch
    assert best is not None
    assert losses.index(min(losses)) == best
    assert len(losses) == best + 1 + 3 == len(fitted.progress.epoch_losses)

    # What is stored, and the average of its weights, are those of a training that ends with that epoch.
    assert_same(averaged, trained(10, {**options, "early_stopping": None, "epochs_per_trigger": best + 1}))
    last = {**options, "early_stopping": {"patience": 3, "restore_best": False}}
    model = network()
    Fitted(model, feed(10), last, num_samples=N, validation=judged)
    assert_same(model, trained(10, {**options, "early_stopping": None, "epochs_per_trigger": best + 4}))


def test_plateaus_are_those_of_the_validation_loss() -> None:
    judged = TensorFeed(INPUTS, (LABELS + 1) % 3, 8)
    options = {
        **sgd(lr=0.1),
        "epochs_per_trigger": 4,
        "early_stopping": {"patience": 9},
        "lr_scheduler": {"name": "ReduceLROnPlateau", "config": {"patience": 0, "factor": 0.1}},
    }
    fitted = Fitted(network(), feed(10), options, num_samples=N, validation=judged)
    assert fitted.stopping is not None
    assert fitted.stopping.losses == sorted(fitted.stopping.losses)  # while that of training falls
    assert fitted.setup.optimizers["default"].param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**3)


# ------------------------------------------------------------------------------------------------- compile


def test_compiled_models_train_alike_and_keep_their_names() -> None:
    plain = trained(10, sgd(lr=0.1))
    model = trained(10, {**sgd(lr=0.1), "compile": {"backend": "aot_eager"}})
    assert list(model.state_dict()) == list(plain.state_dict())
    assert_same(model, plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "inductr"}, r"training.compile.backend: 'inductr' is not known \(did you mean 'inductor'"),
        ({"backend": "eager", "mode": "max-autotune"}, "training.compile.mode: 'max-autotune' is for .* inductor"),
    ],
)
def test_wrong_compiler_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        trained(10, {"compile": options})


def test_what_cannot_be_compiled_as_one_graph_is_said() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            outputs: torch.Tensor = self.fc(inputs)
            return outputs

    options = {"compile": {"backend": "eager", "fullgraph": True}}
    with pytest.raises(InvalidInputError, match=r"training.compile: torch.compile failed: .*leave compile out"):
        Fitted(Broken(), feed(10), options, num_samples=N)
    with pytest.raises(InvalidInputError, match=r"layer '0' \(Linear\) expects inputs of 7 features"):
        Fitted(nn.Sequential(nn.Linear(7, 3)), feed(10), options, num_samples=N)

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from modyn.core.config.pipeline import TrainingSection
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.callbacks import CALLBACKS, TrainingEvents, TrainingView
from modyn.trainer_server.hooks import Hooks, Named
from tests.helpers.looping import Fitted, TensorFeed, sgd
from tests.helpers.recording import RECORDER

# One configuration per registered callback; a new one is tested once it is listed here.
CASES: dict[str, dict[str, Any]] = {
    "ExponentialMovingAverage": {"decay": 0.9},
    "FreezeLayers": {"modules": ["model.0"], "epochs": 1},
}

INPUTS = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(2))


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def feed() -> TensorFeed:
    return TensorFeed(INPUTS, LABELS, 8)


def fitted(model: nn.Module, *callbacks: dict[str, Any], **training: Any) -> Fitted:
    options = {**sgd(lr=0.1), "callbacks": list(callbacks), **training}
    return Fitted(model, feed(), options, num_samples=30)


def view(model: nn.Module, epoch: int = 0) -> TrainingView:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return TrainingView(model, {"default": optimizer}, epoch, batches=0, samples=0, is_main=True)


# ---------------------------------------------------------------------------------------------- the contract


def test_every_registered_callback_has_a_case() -> None:
    assert sorted(CASES) == CALLBACKS.names()


@pytest.mark.parametrize("name", sorted(CASES))
def test_says_what_it_does_and_means_by_its_keys(name: str) -> None:
    cls = CALLBACKS.get(name)
    assert inspect.getdoc(cls)
    assert all(field.description for field in cls.model_fields.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_trains_repeatably_and_hands_the_model_back_as_it_was(name: str) -> None:
    models = [network(), network()]
    for model in models:
        fitted(model, {"name": name, **CASES[name]}, epochs_per_trigger=2)
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert all(module.training for module in model.modules())
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(CASES))
def test_goes_on_from_its_state(name: str) -> None:
    """One is cut after each batch and goes on as a new one; the other is not."""
    plugin = CALLBACKS.get(name).model_validate(CASES[name])
    ends = []
    for cut in (False, True):
        model = network()
        events = plugin.build()
        events.on_begin(view(model))
        generator = torch.Generator().manual_seed(4)
        for _ in range(5):
            events.on_before_step(view(model))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator))
            events.on_batch_end(view(model), torch.tensor(1.0))
            if cut:
                state = events.state()
                events = plugin.build()
                events.resume(state)
                events.on_begin(view(model))
        events.on_end(view(model))
        ends.append(model.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key])


# ------------------------------------------------------------------------------------------ the built-in ones


def test_averages_are_those_of_a_plain_loop() -> None:
    model = network()
    fitted(model, {"name": "ExponentialMovingAverage", "decay": 0.9}, gradient_accumulation=3, epochs_per_trigger=2)

    plain = network()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    average = [parameter.detach().clone() for parameter in plain.parameters()]
    step = 0
    for _ in range(2):
        for start, end in ((0, 24), (24, 30)):
            optimizer.zero_grad()
            cross_entropy(plain(INPUTS[start:end]), LABELS[start:end]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            decay = min(0.9, (1 + step) / (10 + step))
            average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, plain.parameters(), strict=True)]
            step += 1
    for parameter, expected in zip(model.parameters(), average, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6)


def test_frozen_layers_stay_as_they_were_until_their_epoch() -> None:
    def moved(model: nn.Module) -> list[bool]:
        initial = network().state_dict()
        return [not torch.equal(model.state_dict()[name], initial[name]) for name in ("0.weight", "2.weight")]

    model = network()
    fitted(model, {"name": "FreezeLayers", "modules": ["model.0"]}, epochs_per_trigger=3)
    assert moved(model) == [False, True]
    fitted(model, {"name": "FreezeLayers", "modules": ["0"], "epochs": 1}, epochs_per_trigger=2)
    assert moved(model) == [True, True]


def test_a_module_that_is_not_there_is_said() -> None:
    with pytest.raises(
        InvalidInputError, match=r"FreezeLayers.modules: the model has no module 'model.7'.*one of 0, 1"
    ):
        fitted(network(), {"name": "FreezeLayers", "modules": ["model.7"]})


def test_a_model_that_is_all_frozen_is_said() -> None:
    with pytest.raises(InvalidInputError, match=r"0, 2 are all that the model trains; leave some of it"):
        fitted(network(), {"name": "FreezeLayers", "modules": ["0", "2"], "epochs": 1})


# ------------------------------------------------------------------------------------------ the user's own


OWN = "tests.helpers.recording"


def test_events_come_in_order() -> None:
    RECORDER.seen.clear()
    options = {**sgd(lr=0.1), "callbacks": [f"{OWN}:recorder"], "gradient_accumulation": 3}
    Fitted(network(), feed(), options, num_samples=30)
    assert RECORDER.seen == [
        "begin",
        *("batch 0.0", "end 1 8 False", "batch 0.1", "end 2 16 False"),
        *("batch 0.2", "before", "end 3 24 False", "batch 0.3", "end 4 30 False"),
        *("before", "epoch 0 True", "done"),
    ]


def test_what_a_callback_raises_names_it() -> None:
    hooks = Hooks.build([f"{OWN}:Broken"], None)
    message = (
        r"training.callbacks\[0\] \(.*:Broken\): on_batch_end raised RuntimeError: disk full \(line \d+ of recording"
    )
    with pytest.raises(InvalidInputError, match=message):
        hooks.call("on_batch_end", view(network()), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r"callbacks\[0\] \(.*:number\) gave a int; expected a subclass of .*TrainingEvents"),
        ("needs_more", r"callbacks\[0\] \(.*:needs_more\) raised TypeError.*without arguments"),
        ("RECORDER", r"callbacks\[0\] \(.*:RECORDER\) is a Recorder; expected a class or a function"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_what_is_no_callback_is_said(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Hooks.build([f"{OWN}:{name}"], None)


def test_only_those_who_listen_are_called() -> None:
    class Silent(TrainingEvents):
        pass

    hooks = Hooks([Named("silent", Silent())])
    assert not any(hooks.on(event) for event in ("on_begin", "on_batch_begin", "on_batch_end", "on_end"))


@pytest.mark.parametrize("callbacks", [["nothing"], [{"name": "Nothing"}], [{"name": "FreezeLayers"}]])
def test_wrong_configurations_are_refused(callbacks: list[Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingSection.model_validate({"callbacks": callbacks})

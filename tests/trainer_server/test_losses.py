from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import CriterionSection
from modyn.core.errors import InvalidInputError
from modyn.core.pps import inclusion_probabilities, systematic_sample
from modyn.trainer_server.losses import Loss

KEYS = np.arange(100, 106)
CPU = torch.device("cpu")
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])
SCORES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0, 1.0])


def loss(name: str, outputs: Any, labels: torch.Tensor, weights: torch.Tensor | None = None, **config: Any) -> float:
    return float(Loss(CriterionSection(name=name, config=config), CPU)(outputs, labels, weights, KEYS))


# criterion, config, outputs, labels as stored, labels as torch wants them
CASES: list[tuple[str, dict[str, Any], torch.Tensor, torch.Tensor, torch.Tensor]] = [
    ("CrossEntropyLoss", {}, SCORES, CLASSES, CLASSES),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "ignore_index": 2}, SCORES, CLASSES, CLASSES),
    ("CrossEntropyLoss", {}, SCORES, SCORES.softmax(1), SCORES.softmax(1)),
    ("CrossEntropyLoss", {"reduction": "sum"}, SCORES, CLASSES, CLASSES),
    ("NLLLoss", {}, SCORES.log_softmax(1), CLASSES, CLASSES),
    ("MultiMarginLoss", {}, SCORES, CLASSES, CLASSES),
    ("BCEWithLogitsLoss", {}, SCORES[:, :1], CLASSES % 2, (CLASSES % 2).float().reshape(6, 1)),
    ("BCEWithLogitsLoss", {}, SCORES[:, 0], CLASSES % 2, (CLASSES % 2).float()),
    ("BCELoss", {}, SCORES.sigmoid(), nn.functional.one_hot(CLASSES), nn.functional.one_hot(CLASSES).float()),
    ("MSELoss", {}, SCORES[:, :1], CLASSES, CLASSES.float().reshape(6, 1)),
    ("L1Loss", {}, SCORES, SCORES.flip(0), SCORES.flip(0)),
    ("HuberLoss", {"delta": 0.5}, SCORES[:, 0], CLASSES, CLASSES.float()),
    ("MultiLabelMarginLoss", {}, SCORES, CLASSES.reshape(6, 1).expand(6, 3) * 0, torch.zeros(6, 3).long()),
]


@pytest.mark.parametrize(("name", "config", "outputs", "labels", "target"), CASES)
def test_without_weights_it_is_the_criterion(
    name: str, config: dict[str, Any], outputs: torch.Tensor, labels: torch.Tensor, target: torch.Tensor
) -> None:
    expected = getattr(nn, name)(**config)(outputs, target)
    assert loss(name, outputs, labels, **config) == float(expected)


@pytest.mark.parametrize(("name", "config", "outputs", "labels", "target"), CASES)
def test_weights_multiply_what_samples_contribute(
    name: str, config: dict[str, Any], outputs: torch.Tensor, labels: torch.Tensor, target: torch.Tensor
) -> None:
    criterion = getattr(nn, name)(**{**config, "reduction": "none"})
    each = criterion(outputs, target).reshape(6, -1).sum(dim=1).double()
    share = float(getattr(nn, name)(**config)(outputs, target)) / float(each.sum())
    expected = float((each * WEIGHTS).sum()) * share
    if "weight" in config or "ignore_index" in config:  # the mean that the weights stand for is that of these labels
        classes = config.get("weight", torch.ones(3))[target.clamp(min=0)] * (
            target != config.get("ignore_index", -100)
        )
        expected = float((each * WEIGHTS).sum() / (classes * WEIGHTS).sum() * WEIGHTS.mean())
    assert loss(name, outputs, labels, WEIGHTS, **config) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "config", "outputs", "labels", "target"), CASES)
def test_unit_weights_change_nothing(
    name: str, config: dict[str, Any], outputs: torch.Tensor, labels: torch.Tensor, target: torch.Tensor
) -> None:
    plain = loss(name, outputs, labels, **config)
    assert loss(name, outputs, labels, torch.ones(6), **config) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(("name", "config", "outputs", "labels", "target"), CASES)
def test_the_loss_of_each_sample(
    name: str, config: dict[str, Any], outputs: torch.Tensor, labels: torch.Tensor, target: torch.Tensor
) -> None:
    criterion = getattr(nn, name)(**{**config, "reduction": "none"})
    expected = [float(criterion(outputs[i : i + 1], target[i : i + 1]).mean()) for i in range(6)]
    built = Loss(CriterionSection(name=name, config=config), CPU)
    assert built.each(outputs, labels, KEYS).tolist() == pytest.approx(expected, rel=1e-5)
    total, each = built.with_each(outputs, labels, WEIGHTS, KEYS)
    assert each.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(total) == pytest.approx(loss(name, outputs, labels, WEIGHTS, **config), rel=1e-6)
    assert float(built.with_each(outputs, labels, None, KEYS)[0]) == pytest.approx(
        loss(name, outputs, labels, **config), rel=1e-5
    )


@pytest.mark.parametrize("config", [{}, {"weight": [1, 9, 3]}, {"ignore_index": 0}])
def test_weights_of_inverse_probabilities_give_the_mean_of_all(config: dict[str, Any]) -> None:
    """Whatever chance of being chosen has to do with labels and losses."""
    rng = np.random.default_rng(1)
    n, size = 4000, 1000
    labels = torch.from_numpy(rng.integers(0, 3, n))
    scores = torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32)) + 2 * nn.functional.one_hot(labels, 3)
    built = Loss(CriterionSection(name="CrossEntropyLoss", config=config), CPU)
    keys = np.arange(n)
    everything = float(built(scores, labels, None, keys))
    chances = inclusion_probabilities(built.each(scores, labels, keys).double().numpy(), size, floor=0.1)
    found = []
    for _ in range(200):
        rows = systematic_sample(chances, rng)
        weights = torch.from_numpy((size / (n * chances[rows])).astype(np.float32))
        found.append(float(built(scores[rows], labels[rows], weights, keys[rows])))
    assert np.mean(found) == pytest.approx(everything, abs=4 * np.std(found) / 200**0.5 + 0.002 * everything)


def test_class_weights_may_be_lists() -> None:
    expected = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))(SCORES, CLASSES)
    assert loss("CrossEntropyLoss", SCORES, CLASSES, weight=[1, 2, 3]) == float(expected)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "CrossEntropy"}, r"name: no loss 'CrossEntropy' in torch.nn \(did you mean 'CrossEntropyLoss'"),
        ({"name": "Linear"}, "no loss 'Linear'"),
        ({"config": {"label_smooting": 0.1}}, "config of CrossEntropyLoss.*label_smooting"),
        ({"config": {"reduction": "none"}}, "'none'; expected mean or sum"),
        ({"config": {"weight": "big"}}, "config of CrossEntropyLoss"),
    ],
)
def test_wrong_sections(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Loss(CriterionSection(**section), CPU)


@pytest.mark.parametrize("bad", [3, -1])
def test_label_outside_the_classes_is_named(bad: int) -> None:
    labels = CLASSES.clone()
    labels[4] = bad
    with pytest.raises(InvalidInputError, match=rf"label {bad} \(sample key 104\) is outside the model's 3 classes"):
        loss("CrossEntropyLoss", SCORES, labels)


def test_label_outside_probabilities_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"label 2 \(sample key 102\) is outside \[0, 1\]"):
        loss("BCEWithLogitsLoss", SCORES[:, 0], CLASSES)


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        ("CrossEntropyLoss", SCORES[:, 0], CLASSES, r"float32 \[6\], the labels are int64 \[6\]: expected one score"),
        ("CrossEntropyLoss", SCORES, CLASSES.float(), r"labels are float32 \[6\]: expected integer class labels"),
        ("CrossEntropyLoss", SCORES[:3], CLASSES, r"puts out float32 \[3, 3\].*one output row for each label"),
        ("MSELoss", SCORES, CLASSES, r"MSELoss does not fit.*float32 \[6, 3\].*int64 \[6\]: expected both in the same"),
        ("TripletMarginLoss", SCORES, SCORES, "does not fit.*missing"),
        ("CrossEntropyLoss", (SCORES, SCORES), CLASSES, "returned a tuple; expected one tensor"),
    ],
)
def test_misfits_show_all_shapes(name: str, outputs: Any, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        loss(name, outputs, labels)

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from modyn.core.config.pipeline import ModelSection
from modyn.core.plugins.models import MODELS
from modyn.models.building import build_model
from modyn.models.embedding import EmbeddingTap
from modyn.models.weights import dump, load
from tests.helpers.zoo import inputs_of

# One config per registered model, and the shape of one input; a new model is tested once it is listed here.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "MLP": ({"in_features": 12, "hidden": [5, 4], "num_classes": 3, "dropout": 0.5}, (12,)),
    "SmallCNN": ({"in_channels": 1, "num_classes": 3}, (1, 8, 8)),
    "ResNet18": ({"num_classes": 3, "stem": "small"}, (3, 32, 32)),
    "ResNet50": ({"num_classes": 3, "in_channels": 1}, (1, 64, 64)),
    "ResNet152": ({"num_classes": 3, "stem": "small"}, (3, 8, 8)),
    "YearbookNet": ({"num_input_channels": 1, "num_classes": 3}, (1, 32, 32)),
    "SmallYearbookNet": ({"num_input_channels": 1, "num_classes": 3}, (1, 32, 32)),
    "Dummy": ({}, (2,)),
    "TextClassifier": ({"vocabulary_size": 50, "dim": 4, "hidden": [5], "num_classes": 3}, (7,)),
    "TabularMLP": ({"numeric": 2, "categorical": {"a.b": 9, "c": 5}, "dim": 4, "num_classes": 3}, (2,)),
}


NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "ResNet152" else []) for name in sorted(CASES)]


def build(name: str) -> torch.nn.Module:
    return build_model(ModelSection(id=name, config=CASES[name][0]), None)


def test_every_registered_model_has_a_case() -> None:
    assert sorted(CASES) == MODELS.names()


@pytest.mark.parametrize("name", NAMES)
def test_puts_out_one_row_of_scores_per_sample(name: str) -> None:
    model = build(name).train()
    outputs = model(inputs_of(name, CASES[name][1], 2))
    assert outputs.shape == (2, 2 if name == "Dummy" else 3)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_follow_the_torch_seed(name: str) -> None:
    blobs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        blobs.append(dump(build(name)))
    assert blobs[0] == blobs[1] != blobs[2]


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_storage_bit_for_bit(name: str) -> None:
    first, second = build(name), build(name)
    load(second, dump(first))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    assert dump(second) == dump(first)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_key_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="num_clases"):
        ModelSection(id=name, config={**CASES[name][0], "num_clases": 3})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ResNet18", 11_689_512),
        ("ResNet50", 25_557_032),
        ("ResNet152", 60_192_808),
    ],  # as published with torchvision's models
)
def test_resnets_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        model = build_model(ModelSection(id=name), None)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_resnet_state_dict_has_the_names_of_torchvision() -> None:
    names = set(build_model(ModelSection(id="ResNet50"), None).state_dict())
    assert {
        "conv1.weight", "bn1.running_mean", "layer1.0.conv3.weight", "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.num_batches_tracked", "layer3.5.bn2.bias", "layer4.2.conv1.weight", "fc.bias",
    } <= names  # fmt: skip
    assert len(names) == 320  # entries of torchvision's resnet50 state dict
    assert len(build_model(ModelSection(id="ResNet18"), None).state_dict()) == 122


def test_resnet_starts_as_identity_where_asked() -> None:
    model = build_model(ModelSection(id="ResNet18", config={"zero_init_residual": True}), None)
    scales = {name: value for name, value in model.state_dict().items() if name.endswith("bn2.weight")}
    assert len(scales) == 8
    assert all(not value.any() for value in scales.values())


def test_yearbook_net_is_four_blocks_of_32_channels() -> None:
    model = build("YearbookNet")
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32] * 4
    features = torch.randn(2, 1, 32, 32)
    taps = EmbeddingTap(model, "YearbookNet")
    with torch.inference_mode(), taps.catching():
        model(features)
    assert taps.embeddings(2).shape == (2, 32)


def test_text_classifier_sees_the_mean_of_what_is_no_padding() -> None:
    model = build("TextClassifier").eval()
    inputs = inputs_of("TextClassifier", (), 2)
    assert isinstance(inputs, dict)
    taps = EmbeddingTap(model, "TextClassifier")
    short = {name: part[:, :4] for name, part in inputs.items()}
    torch.testing.assert_close(model(inputs), model(short))
    empty = {"ids": inputs["ids"], "mask": torch.zeros_like(inputs["mask"])}
    assert torch.isfinite(model(empty)).all()
    with torch.inference_mode(), taps.catching():
        model(inputs)
    assert taps.embeddings(2).shape == (2, 5)


@pytest.mark.parametrize("size", [8, 14, 28, 33, 64])
@pytest.mark.parametrize("channels", [[4], [4, 6], [4, 6, 8]])
def test_small_cnn_takes_many_image_sizes(size: int, channels: list[int]) -> None:
    model = build_model(ModelSection(id="SmallCNN", config={"channels": channels, "num_classes": 5}), None)
    assert model(torch.randn(1, 3, size, size)).shape == (1, 5)


def test_mlp_without_hidden_layers_is_linear() -> None:
    model = build_model(ModelSection(id="MLP", config={"in_features": 4, "hidden": [], "num_classes": 2}), None)
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(model(a + b) + model(torch.zeros(3, 4)), model(a) + model(b))


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_pretrained_weights_need_torchvision() -> None:
    with pytest.raises(ValidationError, match="torchvision"):
        ModelSection(id="ResNet18", config={"use_pretrained": True})


def test_configs_are_checked_without_importing_torch() -> None:
    code = (
        "import sys; from modyn.core.config.pipeline import ModelSection; import modyn.models.decoding; "
        "ModelSection(id='ResNet18'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

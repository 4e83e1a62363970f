"""What parsers make of text, categories and images is trained on; who parses makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import InvalidInputError
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

COUNT = 192
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, COUNT)
WORDS = [["good", "fine", "great"], ["bad", "awful", "poor"]]
OPTIMIZERS = [{"name": "default", "algorithm": "Adam", "param_groups": [{"config": {"lr": 0.05}}]}]


def train(server: TrainingServer, payload: dict[str, Any], **sections: Any) -> Any:
    dataset = server.dataset(pa.array(LABELS), **payload)
    training = {"batch_size": 32, "epochs_per_trigger": 4, "optimizers": OPTIMIZERS, **sections.pop("training", {})}
    return server.train(
        server.request(dataset, server.sets.put(dataset, np.arange(COUNT)), training=training, **sections)
    )


def test_text_is_learned(server: TrainingServer) -> None:
    texts = [f"The {WORDS[label][i % 3]} thing, No. {i}!" for i, label in enumerate(LABELS.tolist())]
    result = train(
        server,
        {"body": pa.array(texts)},
        data={"parser": {"name": "text", "max_length": 8, "vocabulary_size": 5000}},
        model={"id": "TextClassifier", "config": {"vocabulary_size": 5000, "dim": 8, "num_classes": 2}},
    )
    assert result.epoch_losses[-1] < 0.3 < result.epoch_losses[0]


def test_categories_are_learned(server: TrainingServer) -> None:
    cities = [f"city {label * 10 + i % 10}" for i, label in enumerate(LABELS.tolist())]
    result = train(
        server,
        {"city": pa.array(cities), "noise": pa.array(RNG.normal(size=COUNT))},
        data={"parser": {"name": "columns", "categorical": {"city": 10_000}}},
        model={"id": "TabularMLP", "config": {"numeric": 1, "categorical": {"city": 10_000}, "num_classes": 2}},
    )
    assert result.epoch_losses[-1] < 0.3 < result.epoch_losses[0]


def test_random_user_code_trains_the_same_weights_with_any_number_of_workers(
    server: TrainingServer, code_root: CodeRoot
) -> None:
    code_root.write(
        "noisy.py",
        """
        import numpy as np
        import torch

        def bytes_parser_function(data):
            if data[0] == 255:
                raise ValueError("255 is not for us")
            return torch.from_numpy(np.frombuffer(data, np.uint8) / 255 + np.random.normal(size=4))

        def jitter(sample):
            return (sample + torch.rand(4)).float()
        """,
    )
    keys: dict[str, Any] = {
        "data": {"bytes_parser_function": "noisy:bytes_parser_function", "transformations": ["noisy:jitter"]},
        "model": {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 2, "dropout": 0.5}},
        "root": code_root,
    }
    samples = RNG.integers(0, 255, size=(COUNT, 4), dtype=np.uint8)
    payload = {"data": pa.array([row.tobytes() for row in samples])}
    models = [train(server, payload, training={"dataloader_workers": workers}, **keys).model for workers in (0, 1, 3)]
    assert models[0] == models[1] == models[2]
    samples[100] = 255
    payload = {"data": pa.array([row.tobytes() for row in samples])}
    with pytest.raises(InvalidInputError, match=r"ValueError: 255 is not for us \(line \d+ of noisy.py.*sample key"):
        train(server, payload, training={"dataloader_workers": 2}, **keys)

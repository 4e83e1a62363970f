"""The code on the pages about training options and callbacks works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from modyn.core.config.pipeline import TrainingSection
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PAGES = ("training_options.md", "callbacks.md", "own_training_step.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (HOWTO / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_yaml_is_valid(page: str) -> None:
    for block in blocks(page, "yaml"):
        TrainingSection.model_validate(yaml.safe_load(block)["training"])


def test_a_schedule_and_a_callback_of_one_s_own(server: TrainingServer, code_root: CodeRoot) -> None:
    for page in PAGES[:2]:
        for block in blocks(page, "python"):
            code_root.write(block.splitlines()[0].removeprefix("# "), block)
    dataset = server.dataset(np.arange(60) % 3, x=np.linspace(0, 1, 60), y=np.linspace(1, 0, 60))
    schedule = {"source": "Custom", "name": "my_schedules:WarmUp", "step_every": "batch", "config": {"steps": 10}}
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, 60),
        model={"id": "MLP", "config": {"in_features": 2, "num_classes": 3}},
        training={
            "batch_size": 8,
            "epochs_per_trigger": 2,
            "lr_scheduler": schedule,
            "callbacks": ["my_callbacks:GradientNorms"],
        },
        root=code_root,
    )
    assert server.train(request).batches == 16
    log = (server.state.folder("jobs") / "p" / "train-0.log").read_text()
    assert re.search(r"epoch 0: gradient norm \d.*\nepoch 1: gradient norm \d", log)

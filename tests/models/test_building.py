from __future__ import annotations

from typing import Any

import pytest
import torch

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError
from modyn.models.building import build_model
from tests.helpers.code import CodeRoot

USER_MODELS = """
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self, width, outputs=2):
            super().__init__()
            if width < 1:
                raise ValueError("width must be positive")
            self.fc = torch.nn.Linear(width, outputs)

        def forward(self, x):
            return self.fc(x)

    def make(width):
        return Tiny(width, outputs=7)

    class Published:
        def __init__(self, model_configuration, device, amp):
            self.model = Tiny(**model_configuration)

    def nothing():
        return "a model"

    number = 3
"""


def build(root: Any, attribute: str, **config: Any) -> torch.nn.Module:
    return build_model(ModelSection(id=f"user_models:{attribute}", config=config), str(root))


@pytest.fixture
def root(code_root: CodeRoot) -> Any:
    code_root.write("user_models.py", USER_MODELS)
    return code_root


def test_class_function_and_published_contract(root: Any) -> None:
    inputs = torch.zeros(1, 4)
    assert build(root, "Tiny", width=4)(inputs).shape == (1, 2)
    assert build(root, "make", width=4)(inputs).shape == (1, 7)
    assert build(root, "Published", width=4, outputs=3)(inputs).shape == (1, 3)


def test_installed_packages_need_no_root() -> None:
    model = build_model(ModelSection(id="torch.nn:Linear", config={"in_features": 2, "out_features": 3}), None)
    assert isinstance(model, torch.nn.Linear)


@pytest.mark.parametrize(
    ("attribute", "config", "message"),
    [
        ("Tiny", {"width": 0}, r"ValueError: width must be positive \(line 8 of user_models.py, in __init__\)"),
        ("Tiny", {"widht": 4}, "unexpected keyword argument 'widht'"),
        ("nothing", {}, "returned a str; expected a torch.nn.Module"),
        ("number", {}, "is a int; expected a class or function"),
        ("missing", {}, "has no attribute 'missing'"),
    ],
)
def test_errors_say_what_is_wrong(root: Any, attribute: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build(root, attribute, **config)

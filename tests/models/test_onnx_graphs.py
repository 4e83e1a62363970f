"""ONNX graphs answer what their models answer, whatever the size of the batch."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.onnx_graphs import to_onnx


class Mixed(nn.Module):
    """Words and numbers, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.norm = nn.BatchNorm1d(6)
        self.out = nn.Linear(6, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        both = torch.cat([self.words(batch["ids"]).mean(dim=1), batch["x"]], dim=1)
        return self.out(self.norm(both))  # type: ignore[no-any-return]


class Branches(nn.Module):
    """What it does depends on what it sees, which a graph cannot tell."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_graph_with_named_inputs_answers_as_its_model() -> None:
    model = Mixed().eval()
    graph = onnx.load_from_string(to_onnx(model, {"ids": torch.tensor([[1, 2, 3]]), "x": torch.ones(1, 2)}))
    evaluator = ReferenceEvaluator(graph)
    assert evaluator.input_names == ["input_ids", "input_x"]
    ids, x = torch.randint(10, (5, 3)), torch.randn(5, 2)
    [answer] = evaluator.run(None, {"input_ids": ids.numpy(), "input_x": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(np.asarray(answer), model({"ids": ids, "x": x}).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_model_that_cannot_be_exported_is_a_clear_error() -> None:
    with pytest.raises(InvalidInputError, match=r"the model cannot be exported to ONNX: .*; leave --onnx out"):
        to_onnx(Branches(), torch.ones(1, 4))


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(NotAvailableError, match=r"onnxscript: pip install 'modyn\[onnx\]'"):
        to_onnx(Branches(), torch.ones(1, 4))

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.decoding import Decoder
from tests.helpers.code import CodeRoot

BYTES = {"data": pa.array([b"ab", b"cd", b"ef"])}
NUMBERS = {"x": pa.array([1, 2, 3]), "y": pa.array([0.5, 1.5, 2.5])}


def decoder(root: Any = None, **data: Any) -> Decoder:
    return Decoder(DataSection(dataset_id="d", **data), None if root is None else str(root))


def inline(body: str) -> dict[str, str]:
    return {"bytes_parser_function": f"import numpy as np\ndef bytes_parser_function(data):\n    {body}\n"}


def test_numeric_columns_need_no_parser() -> None:
    inputs = decoder().inputs(NUMBERS)
    assert isinstance(inputs, torch.Tensor)
    torch.testing.assert_close(inputs, torch.tensor([[1, 0.5], [2, 1.5], [3, 2.5]]))


def test_other_payloads_need_one() -> None:
    with pytest.raises(InvalidInputError, match=r"data\.parser is not set.*data: binary.*samples are bytes"):
        decoder().inputs(BYTES)
    with pytest.raises(InvalidInputError, match=r"no numbers in s"):
        decoder().inputs({"s": pa.array(["a"]), "x": pa.array([1])})


def test_built_in_parser_and_its_columns() -> None:
    chosen = decoder(parser={"name": "columns", "columns": ["y"]})
    assert chosen.columns == ("y",)
    assert chosen.inputs(NUMBERS).shape == (3, 1)  # type: ignore[union-attr]
    assert decoder().columns == ()


def test_user_parser_sees_arrow_columns(code_root: CodeRoot) -> None:
    code_root.write(
        "mine.py",
        """
        import numpy as np, torch

        def array(columns):
            return np.stack([columns["x"].to_numpy(), columns["y"].to_numpy()], axis=1)

        def parts(columns):
            return {"a": torch.tensor(columns["x"].to_pylist()), "b": columns["y"]}

        def short(columns):
            return array(columns)[:2]

        def text(columns):
            return "three rows"

        def fails(columns):
            return columns["z"]
        """,
    )
    matrix = decoder(code_root, parser="mine:array").inputs(NUMBERS)
    assert isinstance(matrix, torch.Tensor)
    assert matrix.dtype is torch.float32  # float64 is narrowed
    parts = decoder(code_root, parser="mine:parts").inputs(NUMBERS)
    assert isinstance(parts, dict)
    assert {name: part.dtype for name, part in parts.items()} == {"a": torch.int64, "b": torch.float32}
    with pytest.raises(InvalidInputError, match=r"'mine:short' returned shape \[2, 2\] for 3 samples"):
        decoder(code_root, parser="mine:short").inputs(NUMBERS)
    with pytest.raises(InvalidInputError, match="returned a str; expected an array"):
        decoder(code_root, parser="mine:text").inputs(NUMBERS)
    with pytest.raises(InvalidInputError, match=r"'mine:fails' raised KeyError: 'z' \(line \d+ of mine.py, in fails"):
        decoder(code_root, parser="mine:fails").inputs(NUMBERS)


@pytest.mark.parametrize(
    ("body", "shape", "dtype"),
    [
        ("return np.frombuffer(data, dtype=np.uint8).astype(np.float32)", (3, 2), torch.float32),
        ("import torch; return torch.tensor([data[0]])", (3, 1), torch.int64),
        ("return data[0] / 2", (3,), torch.float32),
    ],
)
def test_inline_parser_of_one_sample(body: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = decoder(**inline(body)).inputs(BYTES)
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == shape
    assert inputs.dtype is dtype
    assert float(inputs.reshape(3, -1)[1, 0]) in {ord("c"), ord("c") / 2}


def test_inline_parser_may_return_several_inputs() -> None:
    inputs = decoder(**inline("return {'first': data[0], 'all': np.frombuffer(data, np.uint8)}")).inputs(BYTES)
    assert isinstance(inputs, dict)
    assert inputs["first"].tolist() == [ord("a"), ord("c"), ord("e")]
    assert inputs["all"].shape == (3, 2)


def test_inline_parser_errors() -> None:
    with pytest.raises(InvalidInputError, match=r"data\.bytes_parser_function raised ZeroDivisionError"):
        decoder(**inline("return 1 / 0")).inputs(BYTES)
    with pytest.raises(InvalidInputError, match="cannot be stacked"):
        decoder(**inline("return np.zeros(data[0])")).inputs(BYTES)
    with pytest.raises(InvalidInputError, match="exactly one column of bytes"):
        decoder(**inline("return data")).inputs(NUMBERS)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1, 0, 2], pa.int32()), torch.tensor([1, 0, 2])),
        (pa.array([True, False, True]), torch.tensor([1, 0, 1])),
        (pa.array([1.5, 0.0, 2.0]), torch.tensor([1.5, 0.0, 2.0])),
        (pa.array([[1, 0], [0, 1], [1, 1]]), torch.tensor([[1, 0], [0, 1], [1, 1]])),
        (pa.array([9, 1, 0, 2], pa.int64()).slice(1), torch.tensor([1, 0, 2])),
    ],
)
def test_labels(labels: pa.Array, expected: torch.Tensor) -> None:
    found = decoder().labels(labels)
    assert found.dtype is expected.dtype
    assert torch.equal(found, expected)


def test_label_function() -> None:
    source = "def label_transformer_function(labels):\n    return (labels > 1).long()\n"
    assert decoder(label_transformer_function=source).labels(pa.array([0, 1, 2])).tolist() == [0, 0, 1]
    bad = "def label_transformer_function(labels):\n    return labels[:1]\n"
    with pytest.raises(InvalidInputError, match=r"label_transformer_function returned shape \[1\] for 3 samples"):
        decoder(label_transformer_function=bad).labels(pa.array([0, 1, 2]))


@pytest.mark.parametrize("labels", [pa.array(["a"]), pa.array([[1], [1, 2]])])
def test_labels_that_are_no_numbers(labels: pa.Array) -> None:
    with pytest.raises(InvalidInputError, match="labels"):
        decoder().labels(labels)


def test_transformations_by_reference(code_root: CodeRoot) -> None:
    code_root.write("mine.py", "def double(sample):\n    return sample * 2\n")
    inputs = decoder(code_root, transformations=["mine:double", "mine:double"]).inputs(NUMBERS)
    assert isinstance(inputs, torch.Tensor)
    assert inputs[:, 0].tolist() == [4, 8, 12]


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_transformation_expressions_need_torchvision() -> None:
    with pytest.raises(NotAvailableError, match=r"data\.transformations\[0\] needs torchvision"):
        decoder(transformations=["transforms.Normalize(0.5, 0.5)"])


def test_tensors_do_not_share_arrow_memory() -> None:
    column = pa.array(np.arange(4, dtype=np.float32).tobytes() for _ in range(2))
    inputs = decoder(parser={"name": "numeric_record"}).inputs({"data": column})
    assert isinstance(inputs, torch.Tensor)
    inputs.zero_()
    assert np.frombuffer(column[0].as_py(), np.float32).tolist() == [0, 1, 2, 3]

"""``data.tokenizer``: the user's own, and the published one with a stand-in for the package it comes from."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.decoding import Decoder
from modyn.models.usercode import code_identity
from tests.helpers.code import CodeRoot

TEXTS = {"text": pa.array(["ab", "c", ""])}
PUBLISHED = "DistilBertTokenizerTransform"


def inputs(root: CodeRoot | None, columns: dict[str, pa.Array], **data: Any) -> Any:
    return Decoder(DataSection(dataset_id="d", **data), None if root is None else str(root)).inputs(columns)


@pytest.fixture
def mine(code_root: CodeRoot) -> CodeRoot:
    code_root.write(
        "tok.py",
        """
        def ids(texts):
            return {"ids": [[len(text), 0] for text in texts], "mask": [[1, 0] for _ in texts]}

        class Lengths:
            def __call__(self, texts):
                return [[len(text)] for text in texts]

        def texts(columns):
            return [value.decode() for value in columns["raw"].to_pylist()]

        def twice(sample):
            return sample * 2

        def fails(texts):
            return texts["no"]

        number = 3
        """,
    )
    return code_root


def test_own_tokenizers_get_texts(mine: CodeRoot) -> None:
    found = inputs(mine, TEXTS, tokenizer="tok:ids")
    assert found["ids"].tolist() == [[2, 0], [1, 0], [0, 0]]
    assert found["mask"].dtype is torch.int64
    raw = {"raw": pa.array([b"abc", b"d"])}
    assert inputs(mine, raw, tokenizer="tok:Lengths").tolist() == [[3], [1]]  # bytes of UTF-8
    assert inputs(mine, raw, tokenizer="tok:Lengths", parser="tok:texts").tolist() == [[3], [1]]
    source = "def bytes_parser_function(data): return data.decode() + '!'"
    assert inputs(mine, raw, tokenizer="tok:Lengths", bytes_parser_function=source).tolist() == [[4], [2]]
    assert inputs(mine, raw, tokenizer="tok:Lengths", transformations=["tok:twice"]).shape == (2, 2)  # of lists


def test_errors_name_the_tokenizer(mine: CodeRoot) -> None:
    with pytest.raises(InvalidInputError, match=r"data.tokenizer 'tok:fails' raised TypeError.*line \d+ of tok.py"):
        inputs(mine, TEXTS, tokenizer="tok:fails")
    with pytest.raises(InvalidInputError, match="'tok:number' is a int; expected a function"):
        inputs(mine, TEXTS, tokenizer="tok:number")
    source = "def bytes_parser_function(data): return data"
    with pytest.raises(InvalidInputError, match="the parser returned a bytes for a sample; expected text"):
        inputs(mine, {"raw": pa.array([b"a"])}, tokenizer="tok:ids", bytes_parser_function=source)
    with pytest.raises(
        InvalidInputError, match=r"expected exactly one column of text or bytes, the payload has .x: int64"
    ):
        inputs(mine, {"x": pa.array([1])}, tokenizer="tok:ids")


def test_own_tokenizers_count_as_code(mine: CodeRoot) -> None:
    data = DataSection(dataset_id="d", tokenizer="tok:ids")
    before = code_identity(None, data, str(mine)).digest
    mine.write("tok.py", "def ids(texts):\n    return [[1] for _ in texts]\n")
    assert code_identity(None, data, str(mine)).digest != before


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_the_published_tokenizer_needs_its_package() -> None:
    with pytest.raises(NotAvailableError, match=r"needs the package transformers.*\{name: text\}"):
        inputs(None, TEXTS, tokenizer=PUBLISHED)


class FakeTokenizer:
    """The part of the package that is used."""

    there: ClassVar[bool] = True
    vocab_size: ClassVar[int] = 30522

    @classmethod
    def from_pretrained(cls, name: str, *, local_files_only: bool) -> FakeTokenizer:
        assert name == "distilbert-base-uncased"
        assert local_files_only
        if not cls.there:
            raise OSError("no such files")
        return cls()

    def __call__(self, texts: list[str], **keys: Any) -> dict[str, Any]:
        assert keys == {"padding": "max_length", "truncation": True, "max_length": 300, "return_tensors": "np"}
        ids = np.zeros((len(texts), 300), np.int64)
        ids[:, 0] = [len(text) for text in texts]
        return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def test_the_published_tokenizer_gives_ids_and_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("transformers")
    package.DistilBertTokenizerFast = FakeTokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", package)
    found = inputs(None, TEXTS, tokenizer=PUBLISHED)
    assert found.shape == (3, 300, 2)
    assert found.dtype is torch.int64
    assert found[:, 0].tolist() == [[2, 1], [1, 1], [0, 0]]
    monkeypatch.setattr(FakeTokenizer, "there", False)
    with pytest.raises(NotAvailableError, match=r"cannot be read .no such files.; put the files of distilbert"):
        inputs(None, TEXTS, tokenizer=PUBLISHED)
    # What transformers 5 makes where there are no files: no error, and no words.
    monkeypatch.setattr(FakeTokenizer, "there", True)
    monkeypatch.setattr(FakeTokenizer, "vocab_size", 5)
    with pytest.raises(NotAvailableError, match="has 5 tokens on this machine; expected 30522; put the files"):
        inputs(None, TEXTS, tokenizer=PUBLISHED)

"""Text and categories against plain loops."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.parsers import PARSERS
from modyn.models.parsers.ragged import hashed_integers, hashed_texts

MASK = 2**64 - 1


def mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def hash_of(token: bytes) -> int:
    """The definition, with Python's integers."""
    gamma = 0x9E3779B97F4A7C15
    total = sum((mix((place + 1) * gamma & MASK) | 1) * (byte + 1) for place, byte in enumerate(token))
    return mix(mix((total + gamma) & MASK))


def ids_of(text: str, tokens: str, size: int) -> list[int]:
    raw = text.encode()
    if tokens == "bytes":
        return [byte + 1 for byte in raw]
    found = [c.encode() for c in text] if tokens == "characters" else re.findall(rb"[A-Za-z0-9_\x80-\xff]+", raw)
    return [hash_of(token) % (size - 1) + 1 for token in found]


TEXT = st.text(alphabet=st.sampled_from("aB z9_,.éß世𝄞\n"), max_size=30)


@given(
    texts=st.lists(TEXT, min_size=1, max_size=8),
    tokens=st.sampled_from(["words", "characters", "bytes"]),
    kind=st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.string_view()]),
    longest=st.booleans(),
    skip=st.integers(0, 3),
)
@settings(max_examples=120, deadline=None)
def test_text_equals_a_loop_over_its_tokens(
    texts: list[str], tokens: str, kind: pa.DataType, longest: bool, skip: int
) -> None:
    length, size = 6, 300
    parser = PARSERS.parse(
        {
            "name": "text",
            "tokens": tokens,
            "vocabulary_size": size,
            "max_length": length,
            "lowercase": False,
            "padding": "longest" if longest else "max_length",
        }
    )
    column = pa.array([*["skipped"] * skip, *texts]).cast(kind).slice(skip)
    inputs = parser.parse({"text": column})
    assert isinstance(inputs, dict)
    wanted = [ids_of(text, tokens, size)[:length] for text in texts]
    assert [row[mask].tolist() for row, mask in zip(inputs["ids"], inputs["mask"], strict=True)] == wanted
    assert not inputs["ids"][np.logical_not(inputs["mask"])].any()
    assert inputs["ids"].shape == (len(texts), max(map(len, wanted)) if longest else length)
    assert parser.separable != longest


def test_hashes_never_change() -> None:
    """Models learn them: other values would make stored models useless."""
    assert hashed_texts(pa.array(["", "a", "Zürich"])).tolist() == [
        hash_of(b""),
        hash_of(b"a"),
        hash_of("Zürich".encode()),
    ]
    assert hashed_texts(pa.array(["a"])).tolist() == [WORD_A]
    assert hashed_integers(np.array([7], np.int8)).tolist() == hashed_integers(np.array([7], np.uint64)).tolist()
    assert hashed_integers(np.array([7])).tolist() == [SEVEN]


WORD_A, SEVEN = 9119514738423107538, 8409816773569330625


def test_buckets_are_filled_evenly() -> None:
    count, buckets = 20_000, 100
    for column in (pa.array([f"user-{i}" for i in range(count)]), pa.array(range(count))):
        parser = PARSERS.parse({"name": "columns", "categorical": {"c": buckets}})
        inputs = parser.parse({"c": column})
        assert isinstance(inputs, dict)
        assert list(inputs) == ["c"]  # no numbers beside it
        filled = np.bincount(inputs["c"].astype(np.int64), minlength=buckets)
        # chi-square with 99 degrees of freedom: mean 99, standard deviation 14
        assert 50 < ((filled - count / buckets) ** 2 / (count / buckets)).sum() < 160


def test_lists_of_tokens_are_hashed_like_words() -> None:
    parser = PARSERS.parse({"name": "text", "max_length": 4})
    words = parser.parse({"t": pa.array(["one two", "three"])})
    lists = parser.parse({"t": pa.array([["one", "two"], ["three"]])})
    assert isinstance(words, dict)
    assert isinstance(lists, dict)
    assert np.array_equal(words["ids"], lists["ids"])


def test_case_counts_where_asked() -> None:
    columns = {"t": pa.array(["Été", "été"])}
    for lowercase in (True, False):
        inputs = PARSERS.parse({"name": "text", "lowercase": lowercase}).parse(columns)
        assert isinstance(inputs, dict)
        assert np.array_equal(inputs["ids"][0], inputs["ids"][1]) == lowercase


@pytest.mark.parametrize(
    ("config", "column", "message"),
    [
        ({}, pa.array([b"\xff\xfe"]), "column 't' has bytes that are no UTF-8 text"),
        ({}, pa.array([1.5]), "expected exactly one column of text, bytes or lists"),
        ({"column": "t"}, pa.array([1.5]), "column 't' is double; expected text"),
        ({"column": "u"}, pa.array(["a"]), "no column 'u' in the payload; it has t"),
        ({"vocabulary_size": 300}, pa.array([[1, 300]]), "column 't' has the id 300; expected 0 to 299"),
        ({}, pa.array([[1, None]]), "column 't' has missing values in its lists"),
        ({}, pa.array([[1.5]]), r"column 't' is list<.*>; expected lists of ids or of tokens"),
    ],
)
def test_text_errors(config: dict[str, Any], column: pa.Array, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PARSERS.parse({"name": "text", **config}).parse({"t": column})


def test_configurations_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="tokens: bytes needs a vocabulary_size of at least 257"):
        PARSERS.parse({"name": "text", "tokens": "bytes", "vocabulary_size": 100})
    with pytest.raises(ValidationError, match="cannot be called 'numeric'"):
        PARSERS.parse({"name": "columns", "categorical": {"numeric": 3}})
    with pytest.raises(ValidationError, match="a: expected either in columns or in categorical"):
        PARSERS.parse({"name": "columns", "columns": ["a"], "categorical": {"a": 3}})
    with pytest.raises(InvalidInputError, match="categorical column 'a' is double"):
        PARSERS.parse({"name": "columns", "categorical": {"a": 3}}).parse({"a": pa.array([0.5])})

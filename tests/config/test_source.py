from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.config.source import YamlMapping, dotted, read_document, read_text, write_yaml
from modyn.core.errors import InvalidInputError


def test_entries_know_their_lines_and_mappings_their_location() -> None:
    document = read_document("a:\n  - b: 1\n    c: 2\n  - d\n", "f.yaml")
    assert document.tree == {"a": [{"b": 1, "c": 2}, "d"]}
    assert document.lines[("a", 0, "c")] == 3
    assert document.line_of(("a", 1)) == 4
    assert document.line_of(("a", 0, "missing", "below")) == 2
    inner = document.tree["a"][0]
    assert isinstance(inner, YamlMapping)
    assert inner.location == ("a", 0)


def test_locations_read_like_code() -> None:
    assert dotted(("a", 0, "b", 1, 2, "c")) == "a[0].b[1][2].c"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        (".inf", float("inf")),
        ("12", 12),
        ("1.5", 1.5),
        ("2020-01-31", "2020-01-31"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("1d", "1d"),
        ("yes", True),
        ("null", None),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    parsed = read_document(f"x: {text}", "f").tree["x"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_keys_are_text_as_written() -> None:
    assert read_document("on: 1\n1: 2\nnull: 3\n", "f").tree == {"on": 1, "1": 2, "null": 3}


def test_every_duplicate_key_is_named_with_both_lines() -> None:
    document = read_document("a: 1\nb: {c: 1, c: 2}\na: 2\n", "f")
    assert {location for location, _ in document.problems} == {("a",), ("b", "c")}
    assert "lines 1 and 3" in dict(document.problems)[("a",)]


def test_merge_keys_and_aliases_work() -> None:
    document = read_document("base: &base {x: 1, y: 2}\nuse:\n  <<: *base\n  y: 3\nagain: *base\n", "f")
    assert document.tree["use"] == {"x": 1, "y": 3}
    assert document.tree["again"] == {"x": 1, "y": 2}
    assert document.problems == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "f.yaml:1:1: expected a mapping of sections.*got a list"),
        ("just text", "f.yaml:1:1: expected a mapping.*got a single value"),
        ("a: 1\n\tb: 2\n", "f.yaml:2:1: not valid YAML.*indent with spaces"),
        ("a: [1, 2\nb: 3\n", r"f.yaml:2:2: not valid YAML"),
        ("a: b: c\n", r"f.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: *nowhere\n", "f.yaml:1:4: not valid YAML: found undefined alias"),
        ("a: !!python/object/apply:os.getcwd []\n", None),
        ("a: !!python/name:os.system x\n", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("{[1, 2]: 3}", "a key must be a single value"),
        ("a: &x [*x]", "an alias contains itself|undefined alias"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_pipeline_is_one_line_with_its_place(text: str, expected: str | None) -> None:
    if expected is None:  # an unknown tag on a list is read as the list: nothing is executed
        assert read_document(text, "f.yaml").tree == {"a": []}
        return
    with pytest.raises(InvalidInputError, match=expected) as caught:
        read_document(text, "f.yaml")
    assert "\n" not in caught.value.message


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(InvalidInputError, match="aliases repeat too much"):
        read_document("\n".join(lines), "f")


def test_deep_nesting_and_huge_files_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        read_document("a: " + "[" * 5000, "f")
    with pytest.raises(InvalidInputError, match="too many"):
        read_document("a" * (1 << 21), "f")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.yaml: cannot be read"):
        read_text(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(InvalidInputError, match="byte 3 is not UTF-8"):
        read_text(tmp_path / "latin.yaml")


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_trees = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1), _trees, max_size=4))
def test_whatever_is_written_is_read(tree: dict[str, object]) -> None:
    if tree:
        assert read_document(write_yaml(tree), "f").tree == tree

from __future__ import annotations

from pathlib import Path

import pytest

from modyn.core.config.inline import check_expression, check_function, is_reference


@pytest.mark.parametrize("text", ["package.module:function", "m:A.b", " m:f "])
def test_references(text: str) -> None:
    assert is_reference(text)
    assert check_function(text, "parse") == text


@pytest.mark.parametrize("text", ["m.f", "m:", ":f", "m:f(x)", "lambda x: x", "a b:c", "m:f:g", "1m:f"])
def test_what_is_no_reference(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    "source",
    [
        "def parse(x): return x",
        "import os\nparse = lambda x: x",
        "from json import loads as parse",
        "from json import parse",
        "if True:\n  def parse(x): return x\nelse:\n  parse = None",
        "try:\n  from json import loads as parse\nexcept ImportError:\n  parse = None",
        "class parse: pass",
        "parse: object = len",
    ],
)
def test_sources_that_define_the_function(source: str) -> None:
    assert check_function(source, "parse") == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def other(x): return x", "must define a function named 'parse'"),
        ("def f():\n  def parse(x): return x", "must define"),
        ("def parse(x) return x", "does not compile: line 1"),
        ("x = 1\ndef parse(:\n  pass", "does not compile: line 2"),
        ("return 5", "does not compile: line 1"),
        ("", "must define"),
        ("((((" * 500, "does not compile|nested too deeply"),
        ("def parse(x): return '\0'", "does not compile"),
    ],
)
def test_sources_that_do_not(source: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        check_function(source, "parse")


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    check_function(f"open({str(mark)!r}, 'w')\ndef parse(x): return x", "parse")
    check_expression(f"open({str(mark)!r}, 'w')")
    assert not mark.exists()


def test_expressions() -> None:
    assert check_expression("transforms.ToTensor()") == "transforms.ToTensor()"
    assert check_expression("m:f") == "m:f"
    with pytest.raises(ValueError, match="does not compile"):
        check_expression("x = 1")

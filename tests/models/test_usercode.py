from __future__ import annotations

from typing import Any

import pytest

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, NotAllowedError
from modyn.models.usercode import check_allowed, compile_function, load_attribute, load_function
from tests.helpers.code import CodeRoot

INLINE = "def bytes_parser_function(data):\n    return data\n"


def test_loads_from_the_root_and_from_installed_packages(code_root: CodeRoot) -> None:
    code_root.write("lib/__init__.py", "")
    code_root.write("lib/parts.py", "class Box:\n    size = 3\n")
    assert load_attribute("lib.parts:Box.size", str(code_root)) == 3
    assert load_attribute("numpy.linalg:norm", None).__name__ == "norm"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package\n", "no_such_package.*install it"),
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(line 1 of mine.py"),
        ("def broken(:\n", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported(code_root: CodeRoot, source: str, message: str) -> None:
    code_root.write("mine.py", source)
    with pytest.raises(InvalidInputError, match=message):
        load_attribute("mine:parse", str(code_root))


def test_missing_modules_name_where_was_looked(code_root: CodeRoot) -> None:
    with pytest.raises(InvalidInputError, match="no module named 'absent_module' in the folder"):
        load_attribute("absent_module:f", str(code_root))
    with pytest.raises(InvalidInputError, match="in installed packages"):
        load_attribute("absent_module:f", None)


@pytest.mark.parametrize("reference", ["os:system", "subprocess:getoutput", "builtins:exec"])
def test_the_standard_library_is_no_source_of_models(reference: str) -> None:
    with pytest.raises(InvalidInputError, match="standard library"):
        load_attribute(reference, None)


def test_a_name_that_hides_an_installed_module_is_refused(code_root: CodeRoot) -> None:
    code_root.write("numpy.py", "def f(): ...\n")
    with pytest.raises(InvalidInputError, match="rename yours"):
        load_attribute("numpy:f", str(code_root))


def test_inline_source() -> None:
    assert compile_function("def f(x):\n    return x + 1\n", "f", "data.f")(1) == 2
    with pytest.raises(InvalidInputError, match=r"data\.f: line 2: .*Python source"):
        compile_function("def f(x):\nreturn x\n", "f", "data.f")
    with pytest.raises(InvalidInputError, match="defines no function named 'f'"):
        compile_function("g = 1\n", "f", "data.f")
    with pytest.raises(InvalidInputError, match="ZeroDivisionError"):
        compile_function("1 / 0\n", "f", "data.f")


def test_function_from_reference_or_source(code_root: CodeRoot) -> None:
    code_root.write("mine.py", "def parse(data):\n    return len(data)\n")
    assert load_function("mine:parse", "data.bytes_parser_function", str(code_root))(b"abc") == 3
    assert load_function(INLINE, "data.bytes_parser_function", None)(b"abc") == b"abc"


@pytest.mark.parametrize(
    ("data", "root", "key"),
    [
        ({"bytes_parser_function": INLINE}, None, "data.bytes_parser_function"),
        (
            {"label_transformer_function": "def label_transformer_function(y):\n    return y"},
            None,
            "data.label_transformer_function",
        ),
        ({"transformations": ["transforms.ToTensor()"]}, None, "data.transformations"),
        ({}, "/somewhere", "/somewhere"),
    ],
)
def test_servers_refuse_inline_code_unless_allowed(data: dict[str, Any], root: str | None, key: str) -> None:
    section = DataSection(dataset_id="d", **data)
    with pytest.raises(NotAllowedError, match=key):
        check_allowed(section, root, allow_user_code=False)
    check_allowed(section, root, allow_user_code=True)


def test_installed_references_are_always_allowed() -> None:
    section = DataSection(dataset_id="d", parser="pkg:parse", label_transformer_function="pkg:labels")
    check_allowed(section, None, allow_user_code=False)

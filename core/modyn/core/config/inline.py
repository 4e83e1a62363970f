"""Python in YAML: ``module:attribute`` references and inline source. Checked here, never executed."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

REFERENCE_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
"""Of a ``module:attribute`` reference, as a regular expression."""

_REFERENCE = re.compile(REFERENCE_PATTERN)


def is_reference(text: str) -> bool:
    """Whether a text is a ``module:attribute`` reference rather than Python source.

    >>> is_reference("my_project.parsers:parse"), is_reference("def f(x): return x")
    (True, False)
    """
    return _REFERENCE.match(text.strip()) is not None


def check_function(text: str, name: str) -> str:
    """Checks a function given as a reference or as inline source that defines ``name``.

    Raises:
        ValueError: the source does not compile or does not define the name.
    """
    if is_reference(text):
        return text
    module = _parsed(text, "exec")
    assert isinstance(module, ast.Module)
    if name not in _names(module.body):
        raise ValueError(
            f"inline Python must define a function named {name!r}, or give module:attribute of one in a file"
        )
    return text


def check_expression(text: str) -> str:
    """Checks a Python expression given inline, or a reference.

    Raises:
        ValueError: it does not compile.
    """
    if not is_reference(text):
        _parsed(text.strip(), "eval")
    return text


def _parsed(text: str, mode: str) -> ast.AST:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(text, "<inline>", mode, dont_inherit=True)
            return ast.parse(text, mode=mode)
    except SyntaxError as error:
        raise ValueError(f"inline Python does not compile: line {error.lineno}: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError("inline Python is nested too deeply") from error


def _names(body: list[ast.stmt]) -> set[str]:
    return {name for statement in body for name in _bound_by(statement)}


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name) for alias in names)
        case ast.If(body=body, orelse=other):
            yield from _names(body) | _names(other)
        case ast.Try(body=body, orelse=other):
            handlers = [child for handler in statement.handlers for child in handler.body]
            yield from _names(body) | _names(other) | _names(handlers)

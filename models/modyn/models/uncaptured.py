"""Finds inputs of user code that a digest of its source cannot capture: files, the environment, dynamic imports.

Only obvious calls are found; the point is that a result is not reused silently after such an input changed.
"""

from __future__ import annotations

import ast

_FUNCTIONS = frozenset({"open", "exec", "eval", "__import__", "urlopen", "import_module", "getenv", "read_image"})
"""Calls by these names, alone or as an attribute (unless what they open is bytes in memory)."""

_METHODS = frozenset(
    {
        "read_text", "read_bytes", "read_csv", "read_parquet", "read_json", "read_feather", "read_table", "read_excel",
        "read_pickle", "loadtxt", "genfromtxt", "fromfile", "memmap", "memory_map", "imread", "from_pretrained",
        "load_file", "load_state_dict_from_url", "urlretrieve", "safe_open",
    }
)  # fmt: skip
"""Calls by these names that read a file."""

_LOADERS = frozenset({"np", "numpy", "torch", "hub", "joblib"})
"""Modules whose ``load`` reads a file."""

_ENVIRONMENT = frozenset({"environ", "argv"})


def first_uncaptured(tree: ast.AST) -> str | None:
    """Where a module reads what its source does not say, such as ``line 3 calls open``; None if nowhere obvious."""
    in_memory = _names_of_buffers(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _called(node)
            if name is not None and not _reads_memory(node, in_memory):
                return f"line {node.lineno} calls {name}, and what that reads is not known"
        elif isinstance(node, ast.Attribute) and node.attr in _ENVIRONMENT and isinstance(node.value, ast.Name):
            return f"line {node.lineno} uses {node.value.id}.{node.attr}, whose content is not known"
    return None


def _called(node: ast.Call) -> str | None:
    """The name of a call that may read something, else None."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id if function.id in _FUNCTIONS | _METHODS else None
    if not isinstance(function, ast.Attribute):
        return None
    owner = ast.unparse(function.value)
    if function.attr == "eval" and not node.args:
        return None  # module.eval()
    if function.attr in _FUNCTIONS | _METHODS or (function.attr == "load" and owner.rpartition(".")[2] in _LOADERS):
        return f"{owner}.{function.attr}"
    return None


def _names_of_buffers(tree: ast.AST) -> set[str]:
    """Variables that are assigned nothing but ``BytesIO(…)``."""
    names: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = {target.id for target in node.targets if isinstance(target, ast.Name)}
            (names if _is_buffer(node.value) else others).update(targets)
    return names - others


def _is_buffer(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"BytesIO", "BufferReader"}


def _reads_memory(node: ast.Call, in_memory: set[str]) -> bool:
    """Whether the first argument is a buffer in memory, as in ``Image.open(io.BytesIO(data))``."""
    if not node.args:
        return False
    first = node.args[0]
    return _is_buffer(first) or (isinstance(first, ast.Name) and first.id in in_memory)

"""A pipeline with some of it exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modyn.core.config.reader import load_pipeline_text
from modyn.core.config.source import read_document, read_text, write_yaml
from modyn.core.errors import InvalidInputError


def read_tree(pipeline: Mapping[str, Any] | Path | str) -> tuple[dict[str, Any], Path]:
    """The sections of a pipeline, and the folder that its relative paths refer to.

    Args:
        pipeline: a file, YAML text (recognised by its line breaks), or sections.

    Raises:
        InvalidInputError: it cannot be read.
    """
    if isinstance(pipeline, Mapping):
        return dict(pipeline), Path.cwd()
    if isinstance(pipeline, str) and "\n" in pipeline:
        return _tree(pipeline, "pipeline"), Path.cwd()
    path = Path(pipeline)
    return _tree(read_text(path), str(path)), path.absolute().parent


def overridden(
    tree: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any] | None], changes: Mapping[str, Any]
) -> str:
    """A pipeline with other sections and other single values, as YAML text.

    Args:
        tree: its sections.
        sections: each replaces the section of its name, whole; None: as it is.
        changes: values by dotted key, such as ``training.batch_size``, made after that. Mappings on the way that are
            missing are made; entries of lists are not reached.

    Raises:
        InvalidInputError: a key leads into something that is no mapping, or a value cannot be written as YAML.
    """
    changed: dict[str, Any] = {**tree, **{name: dict(given) for name, given in sections.items() if given is not None}}
    for key, value in changes.items():
        changed = _with(changed, key.split("."), value, key)
    try:
        return write_yaml(changed)
    except yaml.representer.RepresenterError as error:
        raise InvalidInputError(
            f"the pipeline holds a {type(error.args[-1]).__name__} ({error.args[-1]!r}), which YAML does not know; "
            "expected text, numbers, true or false, lists and mappings"
        ) from error


def _tree(text: str, name: str) -> dict[str, Any]:
    document = read_document(text, name)
    if document.problems:
        load_pipeline_text(text, name)  # says all that is wrong, by line
    return dict(document.tree)


def _with(tree: Mapping[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**tree, first: value}
    inner = tree.get(first)
    if inner is None:
        inner = {}
    if not isinstance(inner, Mapping):
        raise InvalidInputError(
            f"changes: {key!r} leads into {first!r}, which is no mapping; replace the section of it as a whole"
        )
    return {**tree, first: _with(inner, rest, value, key)}

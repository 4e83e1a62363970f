from __future__ import annotations

from pathlib import Path

import pytest

from modyn.client.overrides import overridden, read_tree
from modyn.core.config.source import read_document
from modyn.core.errors import InvalidInputError

TREE = {"pipeline": {"name": "a"}, "training": {"batch_size": 32, "epochs_per_trigger": 2}}


def test_sections_are_replaced_as_a_whole_and_single_values_by_their_key() -> None:
    text = overridden(
        TREE,
        {"training": {"batch_size": 64}, "trigger": {"id": "TimeTrigger", "every": "1d"}, "model": None},
        {"training.seed": 7, "evaluation.device": "cpu", "pipeline.name": "1e-3"},
    )
    assert read_document(text, "x").tree == {
        "pipeline": {"name": "1e-3"},
        "training": {"batch_size": 64, "seed": 7},
        "trigger": {"id": "TimeTrigger", "every": "1d"},
        "evaluation": {"device": "cpu"},
    }
    assert TREE["training"] == {"batch_size": 32, "epochs_per_trigger": 2}, "the caller's mapping is left alone"


def test_what_cannot_be_changed_is_explained() -> None:
    with pytest.raises(InvalidInputError, match=r"'pipeline.name.x' leads into 'name', which is no mapping"):
        overridden(TREE, {}, {"pipeline.name.x": 1})
    with pytest.raises(InvalidInputError, match="PosixPath"):
        overridden(TREE, {}, {"data.source.path": Path("data")})


def test_relative_paths_refer_to_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("pipeline: {name: a}\n")
    assert read_tree(path) == ({"pipeline": {"name": "a"}}, tmp_path)
    assert read_tree(TREE)[0] == TREE
    path.write_text("pipeline: {name: a}\npipeline: {name: b}\n")
    with pytest.raises(InvalidInputError, match="given twice"):
        read_tree(path)

"""The code on the page about own models and parsers works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.helpers.training import TrainingServer

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own_model_and_parser.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def sections() -> dict[str, Any]:
    """All YAML on the page, later blocks over earlier ones within a section."""
    merged: dict[str, Any] = {}
    for block in blocks("yaml"):
        for name, section in yaml.safe_load(block).items():
            merged[name] = {**merged.get(name, {}), **section}
    return merged


def files_into(folder: Path) -> None:
    for block in blocks("python"):
        name = block.splitlines()[0].removeprefix("# ")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block)


def test_the_model_and_the_parser(server: TrainingServer, tmp_path: Path) -> None:
    files_into(tmp_path)
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=40) for name in ("a", "b", "trust")}
    dataset = server.dataset(rng.integers(0, 3, 40), **columns)
    page = sections()
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, 40),
        model=page["model"],
        training=page["training"],
        data={"parser": page["data"]["parser"]},
        root=tmp_path,
    )
    assert server.train(request).samples_trained == 40


def test_the_inline_parser_and_label_function(server: TrainingServer) -> None:
    rng = np.random.default_rng(0)
    dataset = server.dataset(rng.integers(0, 9, 40), data=[rng.bytes(4) for _ in range(40)])
    data = sections()["data"]
    request = server.request(
        dataset,
        server.sets.put_range(dataset, 0, 40),
        model={"id": "MLP", "config": {"in_features": 4, "num_classes": 2}},
        data={key: data[key] for key in ("bytes_parser_function", "label_transformer_function")},
    )
    assert server.train(request).samples_trained == 40


def test_the_plug_in(tmp_path: Path) -> None:
    import pyarrow as pa

    from modyn.core.plugins.parsers import PARSERS

    files_into(tmp_path)
    namespace: dict[str, Any] = {"__name__": "my_package.records"}
    exec((tmp_path / "my_package" / "records.py").read_text(), namespace)
    try:
        parsed = PARSERS.parse({"name": "hashed", "buckets": 10}).parse({"x": pa.array([7, 13])})
        assert isinstance(parsed, np.ndarray)
        assert parsed.tolist() == [[7], [3]]
    finally:
        PARSERS._classes.pop("hashed", None)

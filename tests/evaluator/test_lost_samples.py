"""Samples that cannot be read, decoded or labelled: their windows are not scored, all others are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import CorruptDataError, InvalidInputError, NotAvailableError
from modyn.core.values import to_value
from modyn.evaluator.isolating import Isolation
from modyn.proto.storage_pb2 import IngestRequest, RegisterDatasetRequest
from tests.helpers.evaluating import Answer, EvaluationServer

N = 400
RNG = np.random.default_rng(2)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
COLUMNS = {f"x{i}": FEATURES[:, i] for i in range(4)}
WINDOWS = [(0, 100), (50, 150), (150, 300), (300, N), (0, N)]
BASELINES = {"last_label", "majority_class", "same_hour_of_day", "same_hour_of_week"}

PICKY = """
import torch

def parse(columns):
    x = torch.stack([torch.tensor(columns[f"x{i}"].to_pylist()) for i in range(4)], dim=1)
    if not torch.isfinite(x).all():
        raise ValueError("no number")
    return x
"""

FAILING = """
from modyn.models.modules.mlp import mlp

class Failing(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*mlp(4, [8], 3, "relu", 0.0))

    def forward(self, x):
        raise RuntimeError("too hot")
"""


def plain_dataset(server: EvaluationServer) -> str:
    return server.dataset(LABELS, np.arange(N), **COLUMNS)


def good_windows(bad: list[int]) -> set[int]:
    """Those without a bad sample; keys are timestamps here."""
    return {index for index, (start, end) in enumerate(WINDOWS) if not any(start <= key < end for key in bad)}


def check(answer: Answer, plain: Answer, bad: list[int], spared: set[str], said: str) -> None:
    """All is scored as on whole data, but for the windows with bad samples, which are named.

    Args:
        spared: subjects that are scored there all the same.
    """
    good = good_windows(bad)
    assert answer.values() == {
        key: value for key, value in plain.values().items() if key[1] in good or key[0] in spared
    }
    assert {index for _, index in answer.failed_windows} == set(range(len(WINDOWS))) - good
    for (_, index), message in answer.failed_windows.items():
        start, end = WINDOWS[index]
        within = [key for key in bad if start <= key < end]
        assert f"of {len(within)} of {end - start} samples (keys {within[0]}" in message
        assert said in message


# ------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize(
    ("parser", "bad"),
    [("the user's", [0, 16, 32, 299]), ("the user's", list(range(160, 200))), ("built in", [120, 121, 298])],
    ids=["here and there", "whole batches", "built-in parser"],
)
def test_samples_that_cannot_be_decoded_fail_their_windows_alone(
    server: EvaluationServer, tmp_path: Path, bad: list[int], parser: str
) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    models = [server.model(1), server.model(2)]
    wanted = {models[0]: range(5), models[1]: [1, 2]}
    plain = server.evaluate(plain_dataset(server), WINDOWS, wanted, baselines=True)
    hit = np.isin(np.arange(N), bad)
    data: dict[str, Any]
    if parser == "built in":
        values = pa.array(FEATURES.reshape(-1), mask=np.repeat(hit, 4))
        name = server.dataset(LABELS, np.arange(N), x=pa.FixedSizeListArray.from_arrays(values, 4))
        data = {"parser": {"name": "columns"}}
    else:
        name = server.dataset(
            LABELS, np.arange(N), **{**COLUMNS, "x2": np.where(hit, np.float32("nan"), COLUMNS["x2"])}
        )
        data = {"parser": "picky:parse"}
    said = "missing values" if parser == "built in" else "ValueError: no number"
    for again in (False, True):  # the second time, only the bad ones are left to be predicted
        answer = server.evaluate(name, WINDOWS, wanted, data=data, root=tmp_path, baselines=True, reuse=True)
        check(answer, plain, bad, BASELINES, said)
        lost = len(bad) + sum(50 <= key < 300 for key in bad)
        assert answer.predictions == (0 if again else plain.predictions - lost)
        assert answer.reused == (plain.predictions - lost if again else 0)
        assert {model for model, _ in answer.failed_windows} == {""}, "both models were to see each of these windows"


def test_more_bad_samples_than_are_looked_for_one_by_one(server: EvaluationServer, tmp_path: Path) -> None:
    count = 6_000
    labels, times = np.arange(count) % 3, np.arange(count)
    columns = {f"x{i}": RNG.normal(size=count).astype(np.float32) for i in range(4)}
    model = server.model(1)
    windows = [(0, 1_008), (1_008, 5_008), (5_008, count)]
    plain = server.evaluate(server.dataset(labels, times, **columns), windows, {model: [0, 1, 2]})
    columns["x0"][1_008:5_008:2] = np.nan
    name = server.dataset(labels, times, **columns)
    (tmp_path / "picky.py").write_text(PICKY)
    answer = server.evaluate(name, windows, {model: [0, 1, 2]}, data={"parser": "picky:parse"}, root=tmp_path)
    assert answer.values() == {key: value for key, value in plain.values().items() if key[1] != 1}
    assert "of 4000 samples (keys 1008, 1010, 1012, 1014, 1016, …)" in answer.failed_windows["", 1]


def test_a_bad_sample_and_a_model_that_fails_leave_the_baselines(server: EvaluationServer, tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(PICKY + FAILING)
    name = server.dataset(LABELS, np.arange(N), **{**COLUMNS, "x2": np.where(np.arange(N) == 3, np.nan, COLUMNS["x2"])})
    model, data = server.model(1), {"parser": "picky:parse"}
    section = {"id": "picky:Failing", "config": {}}
    answer = server.evaluate(name, WINDOWS, {model: range(5)}, model=section, data=data, root=tmp_path, baselines=True)
    assert "too hot" in answer.failures[model]
    assert {subject for subject, _ in answer.scores} == BASELINES


# ------------------------------------------------------------------------------------------------ reading


def test_samples_that_cannot_be_read_fail_their_windows_alone(server: EvaluationServer, tmp_path: Path) -> None:
    """Samples are files of their own; some are gone, and one is another one."""
    bad = [17, 120, 121, 122, 299]
    models = [server.model(1), server.model(2)]
    wanted = {models[0]: range(5), models[1]: [1, 2]}
    plain = server.evaluate(plain_dataset(server), WINDOWS, wanted, baselines=True)
    (folder := tmp_path / "samples").mkdir()
    for key, (row, label) in enumerate(zip(FEATURES, LABELS, strict=True)):
        (folder / f"{key:03}.bin").write_bytes(row.tobytes())
        (folder / f"{key:03}.label").write_text(str(label))
        for path in folder.glob(f"{key:03}.*"):
            os.utime(path, (key, key))
    source = {"format": "files", "path": str(folder), "pack": False, "file_extension": "bin"}
    source["label_file_extension"] = "label"
    request = RegisterDatasetRequest(name="files", source=to_value(source))
    server.peers.storage.RegisterDataset(request)
    list(server.peers.storage.Ingest(IngestRequest(dataset="files")))
    for key in bad[1:]:
        (folder / f"{key:03}.bin").unlink()
    (folder / f"{bad[0]:03}.bin").write_bytes(b"something else")
    data = {"parser": {"name": "numeric_record", "dtype": "float32"}}
    for again in (False, True):
        answer = server.evaluate("files", WINDOWS, wanted, data=data, baselines=True, reuse=True)
        check(answer, plain, bad, BASELINES, "017.bin")
        assert answer.predictions == (0 if again else plain.predictions - 9)
    # Predictions that are stored need no samples any more.
    for path in folder.glob("*.bin"):
        path.unlink()
    stored = server.evaluate("files", WINDOWS, {models[0]: [3]}, data=data, reuse=True)
    assert (stored.value(models[0], 3), stored.reused) == (plain.value(models[0], 3), 100)
    with pytest.raises(CorruptDataError, match=r"\d\d\d\.bin"):
        server.evaluate("files", WINDOWS, {models[0]: [3]}, data=data)


# ------------------------------------------------------------------------------------------------ labels


def test_labels_that_cannot_be_transformed_fail_their_windows_for_baselines_too(server: EvaluationServer) -> None:
    bad, model = [120, 121, 299], server.model(1)
    plain = server.evaluate(plain_dataset(server), WINDOWS, {model: range(5)}, baselines=True)
    name = server.dataset(np.where(np.isin(np.arange(N), bad), 99, LABELS), np.arange(N), **COLUMNS)
    source = "def label_transformer_function(y):\n    assert (y < 99).all(), 'unknown'\n    return y\n"
    answer = server.evaluate(
        name, WINDOWS, {model: range(5)}, data={"label_transformer_function": source}, baselines=True
    )
    last = [key for key in plain.values() if key[0] in BASELINES and key[1] == 3]
    assert {key: answer.values()[key][:2] for key in last} == {key: plain.values()[key][:2] for key in last}
    for unlike in (answer, plain):  # baselines may know less of later windows
        unlike.scores = {key: score for key, score in unlike.scores.items() if key[0] == model or key[1] == 0}
    check(answer, plain, bad, set(), "AssertionError: unknown")


# ------------------------------------------------------------------------------------------------ finding them


@given(bad=st.sets(st.integers(0, 99)), attempts=st.integers(1, 300))
def test_bad_samples_are_found_and_the_work_is_bounded(bad: set[int], attempts: int) -> None:
    isolation, failures = Isolation(attempts), 0

    def attempt(start: int, end: int) -> range:
        nonlocal failures
        if bad & set(range(start, end)):
            failures += 1
            raise InvalidInputError("bad")
        return range(start, end)

    found = list(isolation.stretches(0, 100, attempt))
    assert [part.start for part in found][1:] == [part.end for part in found][:-1]
    assert (found[0].start, found[-1].end) == (0, 100)
    good = {key for part in found if part.value is not None for key in part.value}
    assert not good & bad
    if failures < attempts:
        assert good == set(range(100)) - bad
    assert failures <= max(attempts, 0) + len([part for part in found if part.error is not None])
    assert isolation.is_hopeless == (failures >= attempts and not good)


def test_errors_that_are_not_about_samples_end_the_search() -> None:
    def attempt(start: int, end: int) -> None:
        raise NotAvailableError("pillow is not installed")

    with pytest.raises(NotAvailableError):
        list(Isolation().stretches(0, 100, attempt))

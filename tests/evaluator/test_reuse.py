"""Predict once: how often samples are read and models run, and what stored outcomes save."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.errors import UnavailableError
from modyn.evaluator import store
from modyn.evaluator.outcomes import ModelOutcomes, OutcomeFile, OutcomeWriter
from modyn.evaluator.predictions import Predictions
from modyn.evaluator.tables import outcomes
from modyn.proto.common_pb2 import CollectGarbageRequest
from tests.helpers.evaluating import Answer, EvaluationServer

N = 300
RNG = np.random.default_rng(8)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
TIMES = RNG.permutation(np.arange(N) // 2)
SLIDING: list[tuple[int | None, int | None]] = [(start, start + 50) for start in range(0, 100, 5)]

COUNTING = """
import pathlib
import torch
from modyn.models.building import build_model
from modyn.core.config.pipeline import ModelSection

LOG = pathlib.Path(__file__).parent

def parse(columns):
    x = torch.stack([torch.tensor(columns[f"x{i}"].to_pylist()) for i in range(4)], dim=1)
    with (LOG / "decoded").open("a") as log:
        log.writelines(f"{value}\\n" for value in x[:, 0].tolist())
    return x

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = build_model(
            ModelSection(id="MLP", config={"in_features": 4, "hidden": [8], "num_classes": 3}), None
        )

    def forward(self, x):
        assert not self.training and not torch.is_grad_enabled()
        with (LOG / f"seen-{id(self)}").open("a") as log:
            log.writelines(f"{value}\\n" for value in x[:, 0].tolist())
        x *= 1.0  # in place: must not be seen by the other model's forward pass
        x += 100.0
        return self.inner(x - 100.0)

def load_state(self, *args, **kwargs):
    return self.inner.load_state_dict(*args, **kwargs)

Model.load_state_dict = load_state
Model.state_dict = lambda self, *args, **kwargs: self.inner.state_dict(*args, **kwargs)
"""


def dataset(server: EvaluationServer) -> str:
    return server.dataset(LABELS, TIMES, **{f"x{i}": FEATURES[:, i] for i in range(4)})


def rows_within(*windows: tuple[int, int]) -> int:
    return int(np.logical_or.reduce([(start <= TIMES) & (end > TIMES) for start, end in windows]).sum())


@pytest.fixture
def name(server: EvaluationServer) -> str:
    return dataset(server)


def test_each_sample_is_decoded_once_and_seen_once_by_each_model(
    server: EvaluationServer, name: str, tmp_path: Path
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    models = [server.model(1), server.model(2)]
    answer = server.evaluate(
        name,
        SLIDING,
        {model: range(len(SLIDING)) for model in models},
        model={"id": "counting:Model"},
        data={"parser": "counting:parse"},
        root=tmp_path,
    )
    needed = (TIMES >= 0) & (TIMES < 145)
    expected = sorted(FEATURES[needed, 0].tolist())
    decoded = [float(line) for line in (tmp_path / "decoded").read_text().split()]
    seen = sorted(tmp_path.glob("seen-*"))
    assert len(seen) == 2
    # A model that works in place costs another decoding of the batch for the model after it; nothing is read again.
    assert sorted(set(decoded)) == expected
    for log in seen:
        assert sorted(float(line) for line in log.read_text().split()) == pytest.approx(expected)
    assert answer.predictions == 2 * needed.sum()
    plain = server.evaluate(name, SLIDING, {model: range(len(SLIDING)) for model in models})
    for key, (size, unlabelled, value) in plain.values().items():
        assert answer.values()[key][:2] == (size, unlabelled)
        assert answer.values()[key][2] == pytest.approx(value, abs=0.05)


def test_decoding_happens_once_for_models_that_leave_their_input_alone(
    server: EvaluationServer, name: str, tmp_path: Path
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING.replace("        x *= 1.0", "        x = x * 1.0"))
    server.evaluate(
        name,
        SLIDING,
        {server.model(1): range(len(SLIDING)), server.model(2): range(len(SLIDING))},
        model={"id": "counting:Model"},
        data={"parser": "counting:parse"},
        root=tmp_path,
    )
    decoded = [float(line) for line in (tmp_path / "decoded").read_text().split()]
    assert sorted(decoded) == sorted(FEATURES[TIMES < 145, 0].tolist())


# ------------------------------------------------------------------------------------------------ putting together


@st.composite
def pieces(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Keys of samples, and of files: runs of them, parts of them in another order, and others."""
    keys = draw(st.one_of(st.integers(0, 12).map(lambda n: list(range(n))), st.permutations(range(12))))
    run = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda cut: [*keys, 90, 91][min(cut) : max(cut)])
    beyond = run.map(lambda part: [80, *part, 81])
    any_order = st.lists(st.integers(0, 14), unique=True, max_size=14)
    return list(keys), draw(st.lists(st.one_of(run, beyond, any_order), max_size=5))


@given(parts=pieces(), data=st.data())
def test_predictions_of_many_files_equal_a_dictionary(parts: tuple[list[int], list[list[int]]], data: Any) -> None:
    keys, files = parts
    needed = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    predictions = Predictions(np.array(keys, dtype=np.int64), np.array(needed, dtype=np.bool_))
    known: dict[int, int] = {}
    for number, own in enumerate(files):
        said = np.array(own, dtype=np.int64) + 1_000 * (number + 1)
        scores = np.stack([said, -said], axis=1).astype(np.float32)
        for values in (said, scores):
            values.setflags(write=False)  # as a mapped file is
        new = {key for key, need in zip(keys, needed, strict=True) if need and key in own and key not in known}
        count = predictions.add(ModelOutcomes(np.array(own, dtype=np.int64), said, scores), keep_scores=True)
        assert count == len(new)
        known.update({key: key + 1_000 * (number + 1) for key in new})
    assert predictions.missing.tolist() == [need and key not in known for key, need in zip(keys, needed, strict=True)]
    for place, key in enumerate(keys):
        if key in known:
            assert predictions.predictions[place] == known[key]
            assert predictions.scores is not None
            assert predictions.scores[place].tolist() == [known[key], -known[key]]


def test_outcomes_are_taken_when_they_are_asked_for() -> None:
    keys = np.arange(10)
    parts = [ModelOutcomes(keys[:4], np.full(4, 3), None), ModelOutcomes(keys[4:], np.full(6, 3), None)]
    predictions = Predictions(keys, np.ones(10, dtype=np.bool_))
    assert predictions.add(*parts, keep_scores=False) == 10
    assert not predictions.missing.any()
    parts[1].predictions[:] = 5  # nothing was copied yet
    assert predictions.predictions.tolist() == [3] * 4 + [5] * 6
    parts[1].predictions[:] = 7
    assert predictions.predictions.tolist() == [3] * 4 + [5] * 6


def test_outcomes_of_all_samples_are_not_copied() -> None:
    keys = np.arange(10)[::-1].copy()
    outcomes = ModelOutcomes(keys, np.arange(10), np.zeros((10, 2), dtype=np.float32))
    predictions = Predictions(keys[2:7], np.array([True, False, True, True, True]))
    assert predictions.add(outcomes, keep_scores=True) == 4
    assert np.shares_memory(predictions.predictions, outcomes.predictions)
    assert predictions.scores is not None
    assert np.shares_memory(predictions.scores, outcomes.scores)


# ------------------------------------------------------------------------------------------------ stored outcomes


def ask(server: EvaluationServer, name: str, *windows: tuple[int, int], seed: int = 1, **options: Any) -> Answer:
    options = {"reuse": True, **options}
    return server.evaluate(name, windows, {server.model(seed): range(len(windows))}, **options)


def test_the_same_request_again_starts_no_job(server: EvaluationServer, name: str) -> None:
    first = ask(server, name, (0, 60), (30, 90))
    again = ask(server, name, (0, 60), (30, 90))
    assert server.launcher.launched == 1
    assert (first.predictions, first.reused) == (rows_within((0, 90)), 0)
    assert (again.predictions, again.reused) == (0, first.predictions)
    assert again.values() == first.values()


def test_what_was_used_again_costs_a_pipeline_what_it_took_once(server: EvaluationServer, name: str) -> None:
    def costs(*windows: tuple[int, int], **options: Any) -> tuple[float, float]:
        done = ask(server, name, *windows, **options).done
        assert done is not None
        return done.predict_seconds, done.reused_seconds

    made, nothing = costs((0, 120))
    assert made > 0
    assert nothing == 0
    assert costs((0, 120)) == (0, 0)  # its costs contain it already
    part = costs((0, 60), pipeline_id="8")[1]
    assert part == pytest.approx(made * rows_within((0, 60)) / rows_within((0, 120)))
    rest = costs((60, 120), pipeline_id="8")[1]
    assert part + rest == pytest.approx(made)
    assert costs((0, 120), (30, 70), pipeline_id="8") == (0, 0)
    again, _ = costs((0, 120), reuse=False)
    assert again > 0


def test_other_windows_predict_only_what_is_missing(server: EvaluationServer, name: str) -> None:
    first = ask(server, name, (0, 60))
    second = ask(server, name, (40, 100), (10, 20))
    third = ask(server, name, (0, 100), (110, 120))
    assert second.reused == rows_within((40, 60), (10, 20))
    assert second.predictions == rows_within((60, 100))
    assert third.reused == rows_within((0, 100))
    assert third.predictions == rows_within((110, 120))
    fresh = ask(server, name, (0, 100), (110, 120), reuse=False)
    assert fresh.predictions == rows_within((0, 100), (110, 120))
    assert fresh.values() == third.values()
    assert first.values().keys() < fresh.values().keys() | {(server.model(1), 0, "Accuracy")}


def test_more_data_only_predict_what_is_new(server: EvaluationServer, name: str) -> None:
    ask(server, name, (0, 60))
    server.extend(name, LABELS[:50], TIMES[:50], **{f"x{i}": FEATURES[:50, i] for i in range(4)})
    more = ask(server, name, (0, 60))
    assert more.reused == rows_within((0, 60))
    assert more.predictions == (TIMES[:50] < 60).sum()


def test_another_metric_of_classes_needs_no_model_but_one_of_scores_does(server: EvaluationServer, name: str) -> None:
    ask(server, name, (0, 60))
    f1 = ask(server, name, (0, 60), metrics=[{"name": "F1Score", "num_classes": 3}])
    assert (f1.predictions, server.launcher.launched) == (0, 1)
    top = ask(server, name, (0, 60), metrics=[{"name": "Accuracy", "topn": 2}])
    assert top.reused == 0
    assert top.predictions == rows_within((0, 60))
    again = ask(server, name, (0, 60), metrics=[{"name": "Accuracy", "topn": 2}, {"name": "Accuracy"}])
    assert (again.predictions, server.launcher.launched) == (0, 2)


@pytest.mark.parametrize("options", [{"seed": 2}, {"batch_size": 8}, {"threads": 3}, {"reuse": False}])
def test_other_inputs_share_nothing(server: EvaluationServer, name: str, options: dict[str, int]) -> None:
    ask(server, name, (0, 60))
    assert ask(server, name, (0, 60), **options).reused == 0


def test_two_models_of_which_one_is_known(server: EvaluationServer, name: str) -> None:
    ask(server, name, (0, 60))
    both = server.evaluate(name, [(0, 60), (50, 70)], {server.model(1): [0], server.model(2): [0, 1]}, reuse=True)
    assert (both.reused, both.predictions) == (rows_within((0, 60)), rows_within((0, 70)))


def test_predictions_of_other_content_under_the_same_keys_are_not_used(server: EvaluationServer, name: str) -> None:
    ask(server, name, (0, 60))
    with server.catalog.write() as connection:
        connection.execute(outcomes.update().values(content_digest="of a dataset that was here before"))
    assert ask(server, name, (0, 60)).reused == 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_damaged_files_are_made_again(fresh_server: EvaluationServer, damage: str) -> None:
    server, name = fresh_server, dataset(fresh_server)
    first = ask(server, name, (0, 60))
    server.restart()
    (file,) = (server.state.path / "outcomes").glob("*.arrow")
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = len(data) // 2
        file.write_bytes(data[:half] if damage == "truncated" else data[:half] + b"\xff" * 8 + data[half + 8 :])
    again = ask(server, name, (0, 60))
    assert (again.reused, again.values()) == (0, first.values())
    assert ask(server, name, (0, 60)).predictions == 0


def test_outcome_files_in_use_occupy_no_file_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "file.arrow"
    writer = OutcomeWriter(path, 2)
    writer.write("m", np.arange(9), np.arange(9) + 1, np.ones((9, 2), dtype=np.float32))
    writer.close()
    before = set(os.listdir("/proc/self/fd"))
    said = OutcomeFile(path).of("m")
    assert set(os.listdir("/proc/self/fd")) <= before
    path.unlink()
    assert (said.predictions.tolist(), said.scores is not None and said.scores.sum()) == (list(range(1, 10)), 18)


def test_what_is_stored_outlives_a_machine_that_can_open_no_more_files(
    fresh_server: EvaluationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    server, name = fresh_server, dataset(fresh_server)
    ask(server, name, (0, 60))
    server.restart()
    monkeypatch.setattr(store, "digest_file", full)
    with pytest.raises(UnavailableError, match="Too many open files; try again"):
        ask(server, name, (0, 60))
    monkeypatch.undo()
    assert ask(server, name, (0, 60)).predictions == 0


def test_code_that_cannot_be_captured_is_never_reused_and_says_so(
    fresh_server: EvaluationServer, tmp_path: Path
) -> None:
    server, name = fresh_server, dataset(fresh_server)
    (tmp_path / "counting.py").write_text(COUNTING)
    options: dict[str, Any] = {
        "model": {"id": "counting:Model"},
        "data": {"parser": "counting:parse"},
        "root": tmp_path,
    }
    for _ in range(2):
        answer = ask(server, name, (0, 60), **options)
        assert answer.reused == 0
        assert any("not reused" in notice for notice in answer.notices)
    assert list((server.state.path / "outcomes").iterdir()) == []
    with server.catalog.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(outcomes)).scalar_one() == 0


def test_leftovers_of_a_crash_are_removed_at_the_start(fresh_server: EvaluationServer) -> None:
    server = fresh_server
    leftover = server.state.path / "outcomes" / ".tmp-abc.arrow"
    leftover.write_bytes(b"half")
    server.restart()
    assert not leftover.exists()


def test_every_file_of_a_model_that_nobody_keeps_is_collected(fresh_server: EvaluationServer) -> None:
    server, name = fresh_server, dataset(fresh_server)
    ask(server, name, (0, 60))
    ask(server, name, (40, 100))
    ask(server, name, (0, 60), seed=2)
    request = CollectGarbageRequest(keep=[server.model(2)], dry_run=True)
    named = list(server.peers.evaluator.CollectOutcomeGarbage(request))
    assert len(named) == 2
    assert ask(server, name, (0, 100)).predictions == 0
    request.dry_run = False
    assert sorted(garbage.name for garbage in server.peers.evaluator.CollectOutcomeGarbage(request)) == sorted(
        garbage.name for garbage in named
    )
    assert len(list((server.state.path / "outcomes").iterdir())) == 1
    assert ask(server, name, (0, 60), seed=2).predictions == 0
    assert ask(server, name, (0, 60)).reused == 0

"""The rpc on real storage with real jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from modyn.core.errors import InvalidInputError, NotFoundError
from tests.helpers.evaluating import EvaluationServer, plain_loop

N = 200
RNG = np.random.default_rng(5)
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
TIMES = np.sort(RNG.integers(1_000, 1_100, N))  # two samples a second on average
SHUFFLED = RNG.permutation(TIMES)
"""Arrival order that is not the order of event time."""

WINDOWS: list[tuple[int | None, int | None]] = [
    (1_000, 1_030),
    (1_020, 1_060),
    (None, 1_050),
    (1_040, None),
    (5_000, 6_000),
    (None, None),
]
"""Overlapping, open and empty ones."""


def columns(features: np.ndarray) -> dict[str, np.ndarray]:
    return {f"x{i}": features[:, i] for i in range(features.shape[1])}


def dataset(server: EvaluationServer, times: np.ndarray = SHUFFLED, labels: Any = LABELS) -> str:
    return server.dataset(labels, times, **columns(FEATURES))


def inside(times: np.ndarray, window: tuple[int | None, int | None]) -> np.ndarray:
    start, end = window
    return (times >= (start if start is not None else -1)) & (times < (end if end is not None else 10**9))


@pytest.mark.parametrize("times", [TIMES, SHUFFLED], ids=["in time order", "shuffled"])
@pytest.mark.parametrize("batch_size", [1, 16, 1_000])
def test_scores_equal_a_plain_loop(server: EvaluationServer, times: np.ndarray, batch_size: int) -> None:
    models = {seed: server.model(seed) for seed in (1, 2)}
    answer = server.evaluate(
        dataset(server, times),
        WINDOWS,
        {models[1]: range(len(WINDOWS)), models[2]: [3, 0]},
        metrics=[{"name": "Accuracy"}, {"name": "F1Score", "num_classes": 3}, {"name": "Accuracy", "topn": 2}],
        batch_size=batch_size,
    )
    for seed, indices in ((1, range(len(WINDOWS))), (2, [3, 0])):
        outputs = plain_loop(seed, FEATURES)
        for index in indices:
            rows = inside(times, WINDOWS[index])
            score = answer.scores[models[seed], index]
            assert (score.num_samples, score.num_unlabelled) == (rows.sum(), 0)
            if not rows.any():
                assert not score.metrics
                continue
            said = outputs[rows].argmax(axis=1)
            assert answer.value(models[seed], index) == pytest.approx(sk.accuracy_score(LABELS[rows], said))
            assert answer.value(models[seed], index, "F1-macro") == pytest.approx(
                sk.f1_score(LABELS[rows], said, average="macro")
            )
            assert answer.value(models[seed], index, "Top-2-Accuracy") == pytest.approx(
                sk.top_k_accuracy_score(LABELS[rows], outputs[rows], k=2, labels=range(3))
            )
    assert len(answer.scores) == len(WINDOWS) + 2
    needed_by_the_second = inside(times, WINDOWS[0]) | inside(times, WINDOWS[3])
    assert answer.predictions == N + needed_by_the_second.sum()
    assert answer.progress[0] == (0, answer.predictions)
    assert answer.progress[-1] == (answer.predictions, answer.predictions)


@pytest.mark.parametrize("outputs", [1, 2])
def test_roc_auc_of_one_and_of_two_outputs(server: EvaluationServer, outputs: int) -> None:
    section = {"id": "MLP", "config": {"in_features": 4, "num_classes": outputs}}
    labels = LABELS % 2
    name = dataset(server, TIMES, labels)
    model = server.model(3, section)
    metrics = [{"name": "RocAuc"}, {"name": "Accuracy"}]
    answer = server.evaluate(name, [(None, None)], {model: [0]}, model=section, metrics=metrics)
    raw = plain_loop(3, FEATURES, section)
    margin = raw[:, 0] if outputs == 1 else raw[:, 1] - raw[:, 0]
    assert answer.value(model, 0, "ROC-AUC") == pytest.approx(sk.roc_auc_score(labels, margin), abs=1e-6)
    assert answer.value(model, 0) == pytest.approx(sk.accuracy_score(labels, margin > 0))


def test_unlabelled_samples_are_skipped_and_counted(server: EvaluationServer) -> None:
    missing = RNG.random(N) < 0.3
    name = dataset(server, SHUFFLED, pa.array(LABELS, mask=missing))
    model = server.model(1)
    answer = server.evaluate(name, WINDOWS, {model: range(len(WINDOWS))}, baselines=True)
    said = plain_loop(1, FEATURES).argmax(axis=1)
    for index, window in enumerate(WINDOWS):
        rows = inside(SHUFFLED, window)
        score = answer.scores[model, index]
        assert (score.num_samples, score.num_unlabelled) == ((rows & ~missing).sum(), (rows & missing).sum())
        if score.num_samples:
            rows &= ~missing
            assert answer.value(model, index) == pytest.approx(sk.accuracy_score(LABELS[rows], said[rows]))
    assert answer.predictions == (~missing).sum()


def test_a_dataset_without_any_label_has_no_scores(server: EvaluationServer) -> None:
    name = dataset(server, TIMES, pa.nulls(N, pa.int64()))
    model = server.model(1)
    answer = server.evaluate(name, [(None, None)], {model: [0]}, baselines=True)
    assert {(score.num_samples, score.num_unlabelled) for score in answer.scores.values()} == {(0, N)}
    assert server.launcher.launched == 0


def test_samples_from_the_end_key_on_are_ignored(server: EvaluationServer) -> None:
    model = server.model(1)
    answer = server.evaluate(dataset(server), [(None, 1_050)], {model: [0]}, end_key=120)
    rows = inside(SHUFFLED, (None, 1_050)) & (np.arange(N) < 120)
    assert answer.scores[model, 0].num_samples == rows.sum()
    said = plain_loop(1, FEATURES)[rows].argmax(axis=1)
    assert answer.value(model, 0) == pytest.approx(sk.accuracy_score(LABELS[rows], said))


def test_baselines_stand_beside_every_window_and_need_no_job(server: EvaluationServer) -> None:
    windows = [(1_000, 1_050), (1_050, 1_100), (9_000, None)]
    metrics = [{"name": "Accuracy"}, {"name": "Accuracy", "topn": 2}]
    answer = server.evaluate(dataset(server), windows, {}, baselines=True, metrics=metrics)
    order = np.lexsort((np.arange(N), SHUFFLED))
    times, labels = SHUFFLED[order], LABELS[order]
    majority = [np.bincount(labels[times < t]).argmax() if (times < t).any() else None for t in times]
    last = [None, *labels[:-1]]
    for name, said in (("majority_class", majority), ("last_label", last)):
        for index, window in enumerate(windows):
            rows = [i for i in np.flatnonzero(inside(times, window)) if said[i] is not None]
            score = answer.scores[name, index]
            assert score.num_samples == inside(times, window).sum()
            assert score.num_undefined == score.num_samples - len(rows)
            if rows:
                expected = np.mean([said[i] == labels[i] for i in rows])
                assert answer.value(name, index) == pytest.approx(expected)
                assert answer.value(name, index, "Top-2-Accuracy") is None
    assert server.launcher.launched == 0


def test_baselines_know_the_labels_before_the_first_window(server: EvaluationServer) -> None:
    labels = np.array([2, 2, 0, 1])
    name = server.dataset(labels, [10, 20, 30, 40], **columns(FEATURES[:4]))
    answer = server.evaluate(name, [(30, 50)], {}, baselines=True)
    assert answer.scores["majority_class", 0].num_samples == 2
    assert answer.value("majority_class", 0) == 0.0
    assert answer.value("last_label", 0) == 0.0


def test_baselines_know_the_labels_between_windows(server: EvaluationServer) -> None:
    times = np.arange(40)
    labels = np.repeat([0, 1, 0], [10, 20, 10])
    name = server.dataset(labels, times, **{f"x{i}": np.zeros(40, dtype=np.float32) for i in range(4)})
    both = server.evaluate(name, [(0, 5), (30, 40)], {}, baselines=True)
    alone = server.evaluate(name, [(30, 40)], {}, baselines=True)
    for baseline, right in (("last_label", 0.9), ("majority_class", 0.0)):
        assert both.value(baseline, 1) == alone.value(baseline, 0) == right


def test_a_label_transformer_applies_to_models_and_baselines(server: EvaluationServer, tmp_path: Path) -> None:
    name = dataset(server, TIMES, LABELS.astype(np.float64) / 10)
    model = server.model(1)
    data = {"label_transformer_function": "def label_transformer_function(y):\n    return (y * 10).round().long()\n"}
    answer = server.evaluate(name, [(None, None)], {model: [0]}, data=data, root=tmp_path, baselines=True)
    plain = server.evaluate(dataset(server, TIMES), [(None, None)], {model: [0]}, baselines=True)
    assert answer.values() == plain.values()


def test_equal_data_in_another_dataset_give_the_same_file(fresh_server: EvaluationServer) -> None:
    server = fresh_server
    model = server.model(1)
    for name in (dataset(server), dataset(server)):
        metrics = [{"name": "Accuracy", "topn": 2}]
        server.evaluate(name, WINDOWS, {model: [0, 3, 5]}, metrics=metrics)
    assert len(list((server.state.path / "outcomes").glob("*.arrow"))) == 1


def test_no_output_leaves_no_log(server: EvaluationServer) -> None:
    server.evaluate(dataset(server), WINDOWS, {server.model(1): [0]}, pipeline_id="quiet")
    assert list((server.state.path / "jobs" / "quiet").iterdir()) == []


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": []}, "metrics: expected at least one"),
        ({"metrics": [{"name": "Accuracy"}, {"name": "Accuracy", "topn": 1}]}, "2 of them report 'Accuracy'; keep one"),
        ({"metrics": [{"name": "Acuracy"}]}, "did you mean 'Accuracy'"),
        ({"metrics": [{"name": "Accuracy", "top": 3}]}, "top"),
        ({"model": {"id": "MLPP"}}, "did you mean 'MLP'"),
        ({"batch_size": 0}, "batch_size 0: expected at least 1"),
        ({"device": "tpu"}, "device 'tpu': expected cpu, cuda"),
        ({"threads": 0}, "threads 0: expected at least 1"),
        ({"pipeline_id": "../x"}, "pipeline_id '../x'"),
    ],
)
def test_bad_requests_say_what_was_expected(server: EvaluationServer, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        server.evaluate(dataset(server), [(None, None)], {server.model(1): [0]}, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": [{"name": "F1Score", "num_classes": 2}]}, "num_classes: 2: a label is 2"),
        ({"metrics": [{"name": "RocAuc"}]}, "a label is 2; expected only 0 and 1"),
    ],
)
def test_what_does_not_suit_a_model_is_that_models_failure(
    server: EvaluationServer, options: dict[str, Any], said: str
) -> None:
    model = server.model(1)
    answer = server.evaluate(dataset(server), [(None, None)], {model: [0]}, **options)
    assert said in answer.failures[model]
    assert not answer.scores[model, 0].metrics


def test_a_window_that_does_not_exist(server: EvaluationServer) -> None:
    with pytest.raises(InvalidInputError, match="there is no window 1; expected 0 to 0"):
        server.evaluate(dataset(server), [(None, None)], {server.model(1): [1]})


def test_an_empty_window(server: EvaluationServer) -> None:
    with pytest.raises(InvalidInputError, match="expected start < end"):
        server.evaluate(dataset(server), [(5, 5)], {server.model(1): [0]})


def test_an_unknown_dataset(server: EvaluationServer) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        server.evaluate("nowhere", [(None, None)], {server.model(1): [0]})


def test_labels_that_are_no_classes(server: EvaluationServer) -> None:
    with pytest.raises(InvalidInputError, match=r"labels of type double, .* integer classes"):
        server.evaluate(dataset(server, TIMES, LABELS / 10), [(None, None)], {server.model(1): [0]})


def test_a_parser_that_does_not_suit_the_data_fails_the_request_and_the_next_one_works(
    server: EvaluationServer,
) -> None:
    name, model = dataset(server), server.model(1)
    with pytest.raises(InvalidInputError, match="'y'"):
        server.evaluate(name, [(None, None)], {model: [0]}, data={"parser": {"name": "columns", "columns": ["y"]}})
    assert server.evaluate(name, [(None, None)], {model: [0]}).predictions == N


def test_without_a_gpu_a_cuda_device_is_refused_in_words(server: EvaluationServer) -> None:
    with pytest.raises(InvalidInputError, match=r"evaluation\.device: cuda:63"):
        server.evaluate(dataset(server), [(None, None)], {server.model(1): [0]}, device="cuda:63")

"""Downsampled trainings in real jobs: sizes, records, determinism, and what passes from trigger to trigger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES
from modyn.core.values import to_value
from modyn.models.building import build_model
from modyn.models.weights import load
from modyn.proto.trainer_server_pb2 import TrainResult
from modyn.selector.reader import read_sample_columns
from modyn.storage.reader import fetch_model
from modyn.trainer_server.irreducible import held_out
from tests.helpers.labelling import delete
from tests.helpers.training import TrainingServer

N, CLASSES = 300, 3
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, N)
X = (RNG.normal(size=(N, 4)) + LABELS[:, None]).astype(np.float32)
MLP: dict[str, Any] = {"id": "MLP", "config": {"in_features": 4, "num_classes": CLASSES, "hidden": [8]}}
TRAINING: dict[str, Any] = {"batch_size": 32, "epochs_per_trigger": 3}
IL = {"il_model_id": "MLP", "il_model_config": MLP["config"], "epochs_per_trigger": 2, "use_previous_model": True}

EXTRA: dict[str, dict[str, Any]] = {
    "RHOLoss": {"holdout_set_strategy": "Simple", "holdout_set_ratio": 20, "il_training_config": IL},
    "RS2": {"with_replacement": False},
    "Submodular": {"submodular_function": "FacilityLocation"},
    "Uncertainty": {"score_metric": "Entropy"},
}
INDEX_OR_PRUNING = {"FewerEpochs", "InfoBatch", "RS2", "Uniform"}
STRATEGIES: list[dict[str, Any]] = [
    {"strategy": name, "ratio": 30, **({} if name in INDEX_OR_PRUNING else mode), **EXTRA.get(name, {})}
    for name in DOWNSAMPLING_STRATEGIES.names()
    if name != "No"
    for mode in (({},) if name in INDEX_OR_PRUNING else ({}, {"sample_then_batch": True}))
]


def ids(strategy: dict[str, Any]) -> str:
    return str(strategy["strategy"]) + ("-stb" if strategy.get("sample_then_batch") else "")


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    columns = {f"x{i}": X[:, i] for i in range(4)}
    return server.dataset(pa.array(LABELS), **columns)


@pytest.fixture(scope="module")
def training_set(server: TrainingServer, dataset: str) -> str:
    return server.sets.put_range(dataset, 0, N)


def run(
    server: TrainingServer, dataset: str, training_set: str, strategy: dict[str, Any], **fields: Any
) -> TrainResult:
    training = {**TRAINING, **fields.pop("training", {})}
    request = server.request(dataset, training_set, model=fields.pop("model", MLP), training=training, **fields)
    request.downsampling.CopyFrom(to_value(strategy))
    return server.train(request)


def trained(server: TrainingServer, result: TrainResult) -> dict[int, list[int]]:
    """Keys by epoch, as recorded."""
    table = read_sample_columns(server.peers.selector, result.downsampling.trained)
    epochs, keys = table["epoch"].to_numpy(), table["key"].to_numpy()
    return {int(epoch): keys[epochs == epoch].tolist() for epoch in np.unique(epochs)}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=ids)
def test_every_strategy_trains_its_share_and_records_it(
    server: TrainingServer, dataset: str, training_set: str, strategy: dict[str, Any]
) -> None:
    result = run(server, dataset, training_set, strategy)
    record = trained(server, result)
    done = result.downsampling
    assert done.samples_offered == 3 * N
    name = strategy["strategy"]
    held = np.flatnonzero(held_out(np.arange(N), 0, 20, 100)) if name == "RHOLoss" else np.empty(0)
    size = (N - len(held)) * 30 // 100
    if name == "FewerEpochs":
        assert 3 * N * 0.3 <= result.samples_trained < 3 * N * 0.3 + 32
    elif name == "InfoBatch":
        assert len(record[0]) == N
        assert N < result.samples_trained < 3 * N
    else:
        assert result.samples_trained == 3 * size
        assert all(len(keys) == size == len(set(keys)) for epoch, keys in record.items() if epoch >= 0)
    scored = {"FewerEpochs": 0, "InfoBatch": 0, "RS2": 0, "Uniform": 0, "RHOLoss": 4 * (N - len(held))}.get(name, 3 * N)
    assert done.samples_scored == scored
    assert (done.score_seconds > 0) == (scored > 0)
    assert result.train_seconds >= done.score_seconds + done.choose_seconds + done.auxiliary_seconds
    again = run(server, dataset, training_set, strategy)
    assert (again.model, again.downsampling.trained) == (result.model, done.trained)
    if name != "FewerEpochs":
        other = run(server, dataset, training_set, strategy, seed=5)
        assert trained(server, other)[0] != record[0] or name == "InfoBatch"


def test_sample_then_batch_equals_choosing_by_hand(server: TrainingServer, dataset: str, training_set: str) -> None:
    """The most uncertain samples of the untrained model, once for the trigger."""
    strategy = {
        "strategy": "Uncertainty",
        "score_metric": "Margin",
        "ratio": 25,
        "sample_then_batch": True,
        "period": 0,
    }
    result = run(server, dataset, training_set, strategy)
    start = build_model(ModelSection(**MLP), None)
    initial = server.train(
        server.request(
            dataset,
            training_set,
            model=MLP,
            training={**TRAINING, "optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.0}}]}]},
        )
    )
    load(start, fetch_model(server.peers.storage, initial.model))
    start.eval()
    with torch.no_grad():
        top = torch.softmax(start(torch.from_numpy(X)), dim=1).topk(2, dim=1).values
    margins = (top[:, 0] - top[:, 1]).numpy()
    expected = np.sort(np.argsort(margins, kind="stable")[: N // 4])
    assert trained(server, result) == {0: expected.tolist()}


def test_what_scoring_sees_does_not_depend_on_batches(server: TrainingServer, training_set: str, dataset: str) -> None:
    """Gradients are those of each sample: a short last batch weighs no more."""
    strategy = {"strategy": "KcenterGreedy", "ratio": 20, "sample_then_batch": True, "period": 0}
    one = run(server, dataset, training_set, strategy, training={"batch_size": 32, "shuffle": False})
    two = run(server, dataset, training_set, strategy, training={"batch_size": 77, "shuffle": False})
    assert one.downsampling.trained == two.downsampling.trained


def test_weights_of_the_set_and_of_the_strategy_multiply(server: TrainingServer, dataset: str) -> None:
    weighted = server.sets.put(dataset, np.arange(N), np.full(N, 0.5))
    strategy = {"strategy": "Loss", "ratio": 50, "sample_then_batch": True, "period": 0}
    plain = run(server, dataset, server.sets.put(dataset, np.arange(N)), strategy)
    half = run(server, dataset, weighted, strategy)
    ours, theirs = (read_sample_columns(server.peers.selector, r.downsampling.trained) for r in (plain, half))
    assert ours["key"].equals(theirs["key"])
    assert np.allclose(ours["weight"].to_numpy() / 2, theirs["weight"].to_numpy())


def test_scores_pass_from_trigger_to_trigger(server: TrainingServer, dataset: str) -> None:
    strategy = {"strategy": "GradNorm", "ratio": 50, "sample_then_batch": True, "period": 0, "reuse_scores": True}
    first = run(server, dataset, server.sets.put_range(dataset, 0, 200), strategy)
    assert first.downsampling.HasField("scores")
    assert (first.downsampling.samples_scored, first.downsampling.scores_reused) == (200, 0)
    everything = server.sets.put_range(dataset, 0, N)
    second = run(
        server,
        dataset,
        everything,
        strategy,
        trigger_index=1,
        initial_model=first.model,
        scores=first.downsampling.scores,
    )
    assert (second.downsampling.samples_scored, second.downsampling.scores_reused) == (N - 200, 200)
    earlier, later = (read_sample_columns(server.peers.selector, r.downsampling.scores) for r in (first, second))
    assert later.slice(0, 200).equals(earlier)
    assert later["key"].to_pylist() == list(range(N))


def test_losses_pass_from_trigger_to_trigger(server: TrainingServer, dataset: str, training_set: str) -> None:
    strategy = {"strategy": "InfoBatch", "ratio": 50, "reuse_scores": True}
    first = run(server, dataset, training_set, strategy)
    second = run(
        server,
        dataset,
        training_set,
        strategy,
        trigger_index=1,
        initial_model=first.model,
        scores=first.downsampling.scores,
    )
    assert len(trained(server, first)[0]) == N
    assert len(trained(server, second)[0]) < N
    assert second.downsampling.scores_reused == N


def test_held_out_samples_are_never_trained_on(server: TrainingServer, dataset: str) -> None:
    strategy = {"strategy": "RHOLoss", "ratio": 50, **EXTRA["RHOLoss"]}
    held: list[set[int]] = []
    for end in (200, N):
        result = run(server, dataset, server.sets.put_range(dataset, 0, end), strategy)
        record = trained(server, result)
        held.append(set(record.pop(-1)))
        assert not held[-1] & {key for keys in record.values() for key in keys}
        assert result.downsampling.auxiliary_samples == 2 * len(held[-1])
        assert len(result.downsampling.auxiliary_models) == 1
    assert held[0] == {key for key in held[1] if key < 200}
    assert 0.1 < len(held[1]) / N < 0.3


def test_twins_judge_the_other_half(server: TrainingServer, dataset: str, training_set: str) -> None:
    extra = {"holdout_set_strategy": "Twin", "holdout_set_ratio": 50, "il_training_config": IL}
    result = run(server, dataset, training_set, {"strategy": "RHOLoss", "ratio": 50, **extra, "reuse_scores": True})
    assert len(result.downsampling.auxiliary_models) == 2
    mask = held_out(np.arange(N), 0, 50, 100)
    scores = read_sample_columns(server.peers.selector, result.downsampling.scores)["irreducible_loss"].to_numpy()
    for digest, judged in zip(result.downsampling.auxiliary_models, (~mask, mask), strict=True):
        model = build_model(ModelSection(**MLP), None)
        load(model, fetch_model(server.peers.storage, digest))
        model.eval()
        with torch.no_grad():
            losses = nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(LABELS), reduction="none")
        assert np.allclose(losses.numpy()[judged], scores[judged], atol=1e-5)
    again = run(
        server,
        dataset,
        training_set,
        {"strategy": "RHOLoss", "ratio": 50, **extra, "reuse_scores": True},
        trigger_index=1,
        scores=result.downsampling.scores,
        auxiliary_models=result.downsampling.auxiliary_models,
    )
    assert again.downsampling.auxiliary_samples == 0  # all irreducible losses are known
    assert list(again.downsampling.auxiliary_models) == list(result.downsampling.auxiliary_models)


@pytest.mark.parametrize(
    "strategy", [s for s in STRATEGIES if s["strategy"] in {"Loss", "Craig", "RHOLoss", "RS2"}], ids=ids
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_tiny_training_sets(server: TrainingServer, dataset: str, size: int, strategy: dict[str, Any]) -> None:
    result = run(server, dataset, server.sets.put_range(dataset, 10, 10 + size), strategy)
    assert result.samples_trained >= 3
    assert trained(server, result)


def test_deleted_and_unlabelled_samples_are_not_chosen(server: TrainingServer) -> None:
    labels = pa.array([None if key % 3 == 0 else key % 2 for key in range(90)], pa.int64())
    name = server.dataset(labels, x=np.arange(90, dtype=np.float32))
    model = {"id": "MLP", "config": {"in_features": 1, "num_classes": 2}}
    for strategy in STRATEGIES:
        result = run(server, name, server.sets.put_range(name, 0, 90), strategy, model=_small(model, strategy))
        assert all(key % 3 for epoch, keys in trained(server, result).items() for key in keys if epoch >= 0)


def _small(model: dict[str, Any], strategy: dict[str, Any]) -> dict[str, Any]:
    if strategy["strategy"] == "RHOLoss":
        strategy["il_training_config"] = {**IL, "il_model_config": model["config"]}
    return model


def test_pruned_epochs_follow_the_learning_rate_and_pass_what_they_are_told(
    server: TrainingServer, dataset: str, training_set: str
) -> None:
    """A cosine that ends at 0 is at its end after the last batch, whatever was left out."""
    strategy = {"strategy": "InfoBatch", "ratio": 20, "annealing": 1.0}
    scheduler = {
        "name": "OneCycleLR",
        "step_every": "batch",
        "config": {"max_lr": 0.1, "total_steps": "MODYN_NUM_BATCHES"},
    }
    training = {"epochs_per_trigger": 6, "lr_scheduler": scheduler}
    result = run(server, dataset, training_set, strategy, training=training)
    assert result.samples_trained < 6 * N
    passes = run(server, dataset, training_set, strategy, training=training, num_samples_to_pass=2000)
    assert 2000 <= passes.samples_trained < 2032


def test_batches_have_their_turn_without_shuffling(server: TrainingServer, dataset: str, training_set: str) -> None:
    training = {"batch_size": 4, "shuffle": False, "epochs_per_trigger": 40}
    result = run(server, dataset, training_set, {"strategy": "Loss", "ratio": 10}, training=training)
    record = trained(server, result)
    assert all(len(keys) == N // 10 for keys in record.values())
    assert len({key // 4 for keys in record.values() for key in keys}) == N // 4


def test_labels_that_are_no_classes(server: TrainingServer) -> None:
    values = np.linspace(0, 1, 40, dtype=np.float32)
    name = server.dataset(pa.array(values), x=values)
    model = {"id": "MLP", "config": {"in_features": 1, "num_classes": 1}}
    training = {"optimization_criterion": {"name": "MSELoss"}, "epochs_per_trigger": 1}
    everything = server.sets.put_range(name, 0, 40)
    craig = {"strategy": "Craig", "ratio": 50, "sample_then_batch": True}
    record = trained(server, run(server, name, everything, craig, model=model, training=training))
    assert max(record[0]) >= 30, "not those with the smallest labels"
    uncertain = {"strategy": "Uncertainty", "score_metric": "Margin", "ratio": 50}
    with pytest.raises(InvalidInputError, match=r"with MSELoss .* a sample has no class probabilities"):
        run(server, name, everything, uncertain, model=model, training=training)


def test_chosen_samples_that_are_all_gone_are_said_to_be(server: TrainingServer) -> None:
    name = server.dataset(pa.array(np.arange(20) % 2), x=np.arange(20, dtype=np.float32))
    everything = server.sets.put_range(name, 0, 20)
    delete(server.peers, name, list(range(16)))
    model = {"id": "MLP", "config": {"in_features": 1, "num_classes": 2}}
    uniform = {"strategy": "Uniform", "ratio": 10}
    for seed in range(4):
        result = run(server, name, everything, uniform, model=model, seed=seed)
        assert all(key >= 16 for keys in trained(server, result).values() for key in keys)


def test_finished_trainings_answer_what_they_did(server: TrainingServer, dataset: str, training_set: str) -> None:
    strategy = {"strategy": "Loss", "ratio": 40}
    first = run(server, dataset, training_set, strategy, reuse=True, seed=77)
    second = run(server, dataset, training_set, strategy, reuse=True, seed=77)
    assert second.reused
    assert second.downsampling == first.downsampling
    third = run(server, dataset, training_set, {**strategy, "ratio": 41}, reuse=True, seed=77)
    assert not third.reused


def test_an_unknown_strategy_is_refused_before_a_job_starts(
    server: TrainingServer, dataset: str, training_set: str
) -> None:
    with pytest.raises(InvalidInputError, match=r"downsampling_config.*Lozz.*did you mean 'Loss'"):
        run(server, dataset, training_set, {"strategy": "Lozz", "ratio": 3})
    with pytest.raises(InvalidInputError, match=r"downsampling_config: ratio: value 300"):
        run(server, dataset, training_set, {"strategy": "Loss", "ratio": 300})


def test_infinite_losses_are_named(server: TrainingServer) -> None:
    values = np.ones(50, dtype=np.float32)
    values[7] = np.inf
    name = server.dataset(pa.array([0, 1] * 25), x=values)
    model = {"id": "MLP", "config": {"in_features": 1, "num_classes": 2}}
    with pytest.raises(InvalidInputError, match="the loss of sample key 7 is not finite"):
        run(
            server,
            name,
            server.sets.put_range(name, 0, 50),
            {"strategy": "Loss", "ratio": 30, "sample_then_batch": True},
            model=model,
        )

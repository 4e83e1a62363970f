from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.apportion import proportional_budgets
from modyn.core.errors import InternalError, InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice, Float32Array, Score
from modyn.trainer_server.downsampling.gradient_norm import GradNorm
from modyn.trainer_server.downsampling.loss import Loss
from modyn.trainer_server.downsampling.scores import lowest
from modyn.trainer_server.downsampling.uncertainty import ScoreMetric, Uncertainty
from modyn.trainer_server.downsampling.weighted import ImportanceSampling

N = 60


def losses(kind: str) -> Float32Array:
    random = np.random.default_rng(11)
    columns: dict[str, npt.NDArray[np.floating]] = {
        "usual": random.exponential(size=N),
        "mostly zero": np.where(random.random(N) < 0.8, 0.0, random.exponential(size=N)),
        "all zero": np.zeros(N),
        "ties": random.integers(1, 3, N).astype(np.float64),
        "heavy tail": random.pareto(0.3, N),
        "tiny and huge": np.power(10.0, random.uniform(-30, 30, N)),
    }
    return columns[kind].astype(np.float32)


KINDS = ["usual", "mostly zero", "all zero", "ties", "heavy tail", "tiny and huge"]


def scored(strategy: ImportanceSampling, column: Float32Array) -> Candidates:
    """Candidates that have these scores."""
    classes = np.zeros(len(column), dtype=np.int64)
    if strategy.needs == (Score.LOSS,):
        return Candidates(classes, loss=column)
    split = np.array([0.6, -0.8], dtype=np.float32)
    return Candidates(classes, gradients=column[:, None] * split)


def drawn(strategy: ImportanceSampling, candidates: Candidates, size: int, seed: int) -> tuple[Choice, Float32Array]:
    choice = strategy.choose(candidates, size, np.random.default_rng(seed))
    assert len(choice) == size
    assert choice.positions.dtype == np.int64
    assert (np.diff(choice.positions) > 0).all()
    assert choice.weights is not None
    assert choice.weights.dtype == np.float32
    assert np.isfinite(choice.weights).all()
    return choice, choice.weights


def assert_mean(estimates: list[float], expected: float) -> None:
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - expected) <= 4 * error + 1e-5 * abs(expected), (np.mean(estimates), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [Loss(ratio=25), GradNorm(ratio=25)], ids=["Loss", "GradNorm"])
def test_the_weighted_loss_is_unbiased(strategy: ImportanceSampling, kind: str) -> None:
    column = losses(kind)
    candidates = scored(strategy, column)
    others = np.random.default_rng(5).normal(3, 1, N)  # what has nothing to do with the scores must be unbiased, too
    estimates: dict[str, list[float]] = {"itself": [], "others": [], "weights": []}
    size = strategy.target_size(N)
    for seed in range(600):
        choice, weights = drawn(strategy, candidates, size, seed)
        assert weights.max() <= 1 / strategy.floor + 1e-4
        estimates["itself"].append(float((weights * column[choice.positions].astype(np.float64)).sum() / size))
        estimates["others"].append(float((weights * others[choice.positions]).sum() / size))
        estimates["weights"].append(float(weights.mean()))
    assert_mean(estimates["itself"], float(column.astype(np.float64).mean()))
    assert_mean(estimates["others"], others.mean())
    assert_mean(estimates["weights"], 1.0)


def test_drawing_one_after_the_other_would_not_be() -> None:
    """The check above finds the bias of weights 1/(n·p) with successive draws."""
    column = losses("usual").astype(np.float64)
    p = column / column.sum()
    random = np.random.default_rng(0)
    means = [np.mean(1 / (N * p[random.choice(N, N // 2, replace=False, p=p)])) for _ in range(500)]
    with pytest.raises(AssertionError):
        assert_mean([float(mean) for mean in means], 1.0)


@pytest.mark.parametrize("strategy", [Loss(ratio=50), GradNorm(ratio=50)], ids=["Loss", "GradNorm"])
def test_higher_scores_are_chosen_in_proportion(strategy: ImportanceSampling) -> None:
    column = np.array([1, 1, 2, 4], dtype=np.float32)
    plain = strategy.model_copy(update={"floor": 1e-12})
    counts = np.zeros(4)
    for seed in range(2000):
        counts[drawn(plain, scored(plain, column), 2, seed)[0].positions] += 1
    assert counts[3] == 2000  # 2 · 4/8
    assert np.abs(counts[:3] / 2000 - [0.25, 0.25, 0.5]).max() < 0.045


def test_floors_bound_the_weights() -> None:
    column = losses("tiny and huge")
    for floor in (0.01, 0.1, 0.5, 1.0):
        heaviest = max(drawn(s, scored(s, column), 15, 0)[1].max() for s in [Loss(ratio=25, floor=floor)])
        assert heaviest <= 1 / floor * (1 + 1e-6)
    assert drawn(Loss(ratio=25, floor=1), scored(Loss(ratio=25), column), 15, 0)[1].tolist() == [1.0] * 15


@pytest.mark.parametrize("strategy", [Loss(ratio=50), GradNorm(ratio=50)], ids=["Loss", "GradNorm"])
def test_sizes_at_the_ends(strategy: ImportanceSampling) -> None:
    for column in (losses("heavy tail"), losses("all zero"), np.empty(0, dtype=np.float32)):
        candidates = scored(strategy, column)
        assert drawn(strategy, candidates, 0, 0)[0].positions.tolist() == []
        everything, weights = drawn(strategy, candidates, len(column), 0)
        assert everything.positions.tolist() == list(range(len(column)))
        assert np.allclose(weights, 1)


def test_losses_that_cannot_be_used() -> None:
    for bad, found in ((np.inf, "1 infinite"), (np.nan, "1 NaN"), (-0.5, "1 negative")):
        column = losses("usual")
        column[3] = bad
        with pytest.raises(InvalidInputError, match=f"loss: .*{found}; the first is .* at position 3"):
            Loss(ratio=10).choose(scored(Loss(ratio=10), column), 6, np.random.default_rng(0))
    gradients = np.ones((5, 2), dtype=np.float32)
    gradients[2, 1] = np.inf
    with pytest.raises(InvalidInputError, match="gradients of 1 of 5 samples are infinite"):
        GradNorm(ratio=10).choose(Candidates(np.zeros(5, np.int64), gradients=gradients), 2, np.random.default_rng(0))
    with pytest.raises(InternalError, match="'loss'"):
        Loss(ratio=10).choose(Candidates(np.zeros(5, np.int64)), 2, np.random.default_rng(0))


def test_norms_of_large_gradients_do_not_overflow() -> None:
    gradients = np.array([[3e30, 4e30], [3e-30, 4e-30]], dtype=np.float32)
    norms = GradNorm(ratio=10).scores(Candidates(np.zeros(2, np.int64), gradients=gradients))
    np.testing.assert_allclose(norms, [5e30, 5e-30], rtol=1e-6)


def probabilities(n: int, classes: int, seed: int) -> Float32Array:
    logits = np.random.default_rng(seed).normal(scale=2, size=(n, classes))
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def certainty(metric: str, row: list[float]) -> float:
    """Oracle."""
    ranked = sorted(row, reverse=True)
    if metric == "LeastConfidence":
        return ranked[0]
    if metric == "Margin":
        return ranked[0] - ranked[1]
    return sum(p * math.log(p) for p in row if p > 0)


def assert_lowest(values: list[float], chosen: set[int]) -> None:
    rest = [value for place, value in enumerate(values) if place not in chosen]
    assert not rest or not chosen or max(values[place] for place in chosen) <= min(rest) + 1e-6


@given(
    metric=st.sampled_from([str(metric) for metric in ScoreMetric]),
    n=st.integers(1, 40),
    classes=st.integers(2, 5),
    sure=st.integers(0, 40),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_uncertainty_chooses_the_least_sure(
    metric: str, n: int, classes: int, sure: int, seed: int, data: st.DataObject
) -> None:
    column = probabilities(n, classes, seed)
    column[:sure] = np.eye(classes, dtype=np.float32)[0]  # exact zeros and ties
    size = data.draw(st.integers(0, n))
    candidates = Candidates(np.arange(n) % 3, probabilities=column)
    strategy = Uncertainty(ratio=10, score_metric=metric)
    choice = strategy.choose(candidates, size, np.random.default_rng(seed))
    assert len(choice) == size
    assert choice.weights is None
    assert (np.diff(choice.positions) > 0).all()
    values = [certainty(metric, row) for row in column.astype(np.float64).tolist()]
    assert_lowest(values, set(choice.positions.tolist()))

    balanced = strategy.model_copy(update={"balance": True})
    positions = balanced.choose(candidates, size, np.random.default_rng(seed)).positions
    assert len(positions) == size
    assert (np.diff(positions) > 0).all()
    _, counts = np.unique(candidates.classes, return_counts=True)
    budgets = np.bincount(candidates.classes[positions], minlength=len(counts))
    assert sorted(budgets - counts * size // max(n, 1)) == sorted(
        proportional_budgets(counts, size) - counts * size // max(n, 1)
    )
    for label, budget in enumerate(budgets):
        members = [place for place in range(n) if place % 3 == label]
        chosen = {members.index(place) for place in positions.tolist() if place % 3 == label}
        assert len(chosen) == budget
        assert_lowest([values[place] for place in members], chosen)


def test_uncertainty_of_two_classes_is_the_same_by_all_metrics() -> None:
    candidates = Candidates(np.zeros(50, np.int64), probabilities=probabilities(50, 2, 0))
    chosen = [
        Uncertainty(ratio=20, score_metric=metric).choose(candidates, 10, np.random.default_rng(0)).positions.tolist()
        for metric in ScoreMetric
    ]
    assert chosen[0] == chosen[1] == chosen[2]


def test_no_class_is_left_out_for_ever() -> None:
    """Where there are fewer places than classes, each gets its turn."""
    candidates = Candidates(np.arange(50), probabilities=np.full((50, 3), 1 / 3, dtype=np.float32))
    strategy = Uncertainty(ratio=10, score_metric="Entropy", balance=True)
    chosen = [strategy.choose(candidates, 5, np.random.default_rng(seed)).positions for seed in range(100)]
    assert len(np.unique(np.concatenate(chosen))) == 50


def test_one_class_ties_everywhere() -> None:
    candidates = Candidates(np.zeros(9, np.int64), probabilities=np.ones((9, 1), dtype=np.float32))
    for metric in ScoreMetric:
        assert len(Uncertainty(ratio=20, score_metric=metric).choose(candidates, 4, np.random.default_rng(0))) == 4


def test_raw_outputs_are_no_probabilities() -> None:
    outputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    candidates = Candidates(np.zeros(20, np.int64), probabilities=outputs)
    with pytest.raises(InvalidInputError, match="probabilities: expected numbers from 0 to 1, got -"):
        Uncertainty(ratio=20, score_metric="Entropy").choose(candidates, 4, np.random.default_rng(0))


def test_ties_are_drawn() -> None:
    values = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    counts = np.zeros(6)
    for seed in range(2000):
        positions = lowest(values, 3, np.random.default_rng(seed))
        counts[positions] += 1
    assert counts[0] == 2000
    assert counts[5] == 0
    assert np.abs(counts[1:5] / 2000 - 0.5).max() < 0.05


STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "Loss", "ratio": 10},
    {"strategy": "GradNorm", "ratio": 10},
    *({"strategy": "Uncertainty", "ratio": 10, "score_metric": str(metric), "balance": True} for metric in ScoreMetric),
]


@pytest.mark.parametrize("tree", STRATEGIES, ids=str)
def test_no_state_from_one_epoch_to_the_next(tree: dict[str, Any]) -> None:
    strategy = DOWNSAMPLING_STRATEGIES.parse({**tree, "sample_then_batch": True, "period": 0, "ratio_max": 100})
    assert isinstance(strategy, (ImportanceSampling, Uncertainty))
    assert DOWNSAMPLING_STRATEGIES.parse(DOWNSAMPLING_STRATEGIES.dump(strategy)) == strategy
    random = np.random.default_rng(0)
    candidates = Candidates(
        random.integers(0, 10, 200),
        loss=random.exponential(size=200).astype(np.float32),
        gradients=random.normal(size=(200, 10)).astype(np.float32),
        probabilities=probabilities(200, 10, 0),
    )
    size = strategy.target_size(200)
    assert size == 20
    first = strategy.choose(candidates, size, np.random.default_rng(1))
    for seed in (2, 3, 4):
        later = strategy.choose(candidates, size, np.random.default_rng(seed))
        assert len(np.unique(later.positions)) == len(later) == size
    again = strategy.choose(candidates, size, np.random.default_rng(1))
    assert np.array_equal(first.positions, again.positions)
    if first.weights is None or again.weights is None:
        assert first.weights is again.weights
    else:
        assert np.array_equal(first.weights, again.weights)


def test_values_that_are_not_accepted() -> None:
    for cls, keys in (
        (Loss, {"floor": 0}),
        (Loss, {"floor": 1.5}),
        (Uncertainty, {}),
        (Uncertainty, {"score_metric": "Guess"}),
        (GradNorm, {"score_metric": "Entropy"}),
    ):
        with pytest.raises(ValidationError):
            cls.model_validate({"ratio": 10, **keys})

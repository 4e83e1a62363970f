"""The strategies Craig and Submodular: what YAML says, exact sizes, weights, and errors that name the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.apportion import proportional_budgets
from modyn.core.config.published import Reading
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice, Score, ScoringStrategy

FUNCTIONS = ("FacilityLocation", "GraphCut", "LogDeterminant")
STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "Craig"},
    *({"strategy": "Submodular", "submodular_function": name, "balance": b} for name in FUNCTIONS for b in (0, 1)),
]


def strategy_of(keys: dict[str, Any], context: Reading | None = None) -> ScoringStrategy:
    strategy = DOWNSAMPLING_STRATEGIES.parse({"ratio": 50, **keys}, context)
    assert isinstance(strategy, ScoringStrategy)
    return strategy


def candidates_of(classes: list[int] | np.ndarray[Any, Any], seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    n = len(classes)
    return Candidates(
        np.asarray(classes, dtype=np.int64),
        gradients=rng.normal(size=(n, 3)).astype(np.float32),
        embeddings=rng.normal(size=(n, 4)).astype(np.float32),
    )


def choose(strategy: ScoringStrategy, candidates: Candidates, size: int) -> Choice:
    return strategy.choose(candidates, size, np.random.default_rng(0))


@settings(max_examples=15, deadline=None)
@given(classes=st.lists(st.integers(-2, 4), max_size=40), share=st.floats(0, 1), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("keys", STRATEGIES, ids=str)
def test_sizes_are_exact(keys: dict[str, Any], classes: list[int], share: float, seed: int) -> None:
    size = int(share * len(classes))
    choice = choose(strategy_of(keys), candidates_of(classes, seed), size)
    assert len(choice) == size
    assert (np.diff(choice.positions) > 0).all()
    assert choice.positions.dtype == np.int64
    if size:
        assert 0 <= choice.positions[0] <= choice.positions[-1] < len(classes)
    if choice.weights is not None:
        assert choice.weights.dtype == np.float32
        assert (choice.weights > 0).all()
        assert size == 0 or choice.weights.mean() == pytest.approx(1)


@pytest.mark.parametrize("approximation", ["LastLayer", "LastLayerWithEmbedding"])
@pytest.mark.parametrize("keys", STRATEGIES, ids=str)
def test_nothing_is_drawn_or_remembered(keys: dict[str, Any], approximation: str) -> None:
    strategy = strategy_of({**keys, "full_grad_approximation": approximation})
    candidates = candidates_of(np.arange(60) % 4)
    first = choose(strategy, candidates, 20).positions.tolist()
    choose(strategy, candidates_of([0] * 30), 10)
    assert strategy.choose(candidates, 20, np.random.default_rng(9)).positions.tolist() == first


@pytest.mark.parametrize("keys", [keys for keys in STRATEGIES if keys.get("balance", 1)], ids=str)
def test_classes_get_largest_remainder_budgets(keys: dict[str, Any]) -> None:
    """100 classes of 19 samples at 10 % are 190 samples, not 100."""
    classes = np.repeat(np.arange(100), 19)
    choice = choose(strategy_of(keys), candidates_of(classes), 190)
    counts = np.bincount(classes[choice.positions], minlength=100)
    assert sorted(counts) == sorted(proportional_budgets(np.full(100, 19), 190))


def test_without_balance_all_samples_compete() -> None:
    classes = np.repeat([0, 1], [90, 10])
    gradients = np.zeros((100, 10), dtype=np.float32)
    gradients[:90, 0] = 1
    gradients[90:] = np.eye(10)
    candidates = Candidates(classes, gradients=gradients)
    keys = {"strategy": "Submodular", "submodular_function": "LogDeterminant"}
    assert choose(strategy_of(keys), candidates, 10).positions.tolist() == [0, *range(91, 100)]
    balanced = choose(strategy_of({**keys, "balance": True}), candidates, 10).positions
    assert classes[balanced].sum() == 1


def test_one_zero_gradient_does_not_make_the_choice_arbitrary() -> None:
    candidates = candidates_of([0] * 60)
    assert candidates.gradients is not None
    candidates.gradients[30] = 0
    for keys in STRATEGIES:
        assert choose(strategy_of(keys), candidates, 12).positions.tolist() != list(range(12))


def test_weights_are_cluster_sizes() -> None:
    gradients = np.array([[0], [0.1], [0.2], [0.1], [5], [5.1]], dtype=np.float32)
    choice = choose(strategy_of({"strategy": "Craig"}), Candidates(np.zeros(6, dtype=np.int64), gradients=gradients), 2)
    assert choice.weights is not None
    np.testing.assert_allclose(np.sort(choice.weights * 3), [2, 4], rtol=1e-6)


def test_what_is_asked_of_the_model() -> None:
    for keys in STRATEGIES:
        assert strategy_of(keys).needs == (Score.GRADIENTS,)
        both = strategy_of({**keys, "full_grad_approximation": "LastLayerWithEmbedding"})
        assert both.needs == (Score.GRADIENTS, Score.EMBEDDINGS)


@pytest.mark.parametrize("name", ["NaiveGreedy", "LazyGreedy", "StochasticGreedy", "ApproximateLazyGreedy"])
def test_published_keys_are_accepted(name: str) -> None:
    reading = Reading()
    craig = strategy_of({"strategy": "Craig", "greedy": name, "selection_batch": 64, "balance": False}, reading)
    keys = {"strategy": "Submodular", "submodular_function": "GraphCut", "submodular_optimizer": name}
    submodular = strategy_of({**keys, "selection_batch": 64}, reading)
    assert any("selection_batch: has no effect" in notice for notice in reading.notices)
    assert any("balance: has no effect: CRAIG always" in notice for notice in reading.notices)
    candidates = candidates_of(np.arange(50) % 3)
    for strategy, other in ((craig, {"strategy": "Craig"}), (submodular, STRATEGIES[3])):
        expected = choose(strategy_of(other), candidates, 9).positions.tolist()
        assert choose(strategy, candidates, 9).positions.tolist() == expected


def test_wrong_keys_are_named() -> None:
    with pytest.raises(ValidationError, match="submodular_function"):
        strategy_of({"strategy": "Submodular"})
    with pytest.raises(ValidationError, match="greedy"):
        strategy_of({"strategy": "Craig", "greedy": "Best"})


def test_unusable_scores_are_named() -> None:
    candidates = candidates_of([0, 1, 0, 1])
    assert candidates.gradients is not None
    assert candidates.embeddings is not None
    candidates.embeddings[2] = np.inf
    candidates.gradients[3, 1] = np.nan
    for keys in STRATEGIES:
        with pytest.raises(InvalidInputError, match=r"gradients of 1 of 4 samples .* candidate 3"):
            choose(strategy_of(keys), candidates, 2)
    candidates.gradients[3, 1] = 0
    with pytest.raises(InvalidInputError, match=r"embeddings of 1 of 4 samples .* candidate 2"):
        choose(strategy_of({"strategy": "Craig", "full_grad_approximation": "LastLayerWithEmbedding"}), candidates, 2)
    with pytest.raises(InvalidInputError, match="gradients of the candidates are missing"):
        choose(strategy_of({"strategy": "Craig"}), Candidates(np.zeros(3, dtype=np.int64)), 2)

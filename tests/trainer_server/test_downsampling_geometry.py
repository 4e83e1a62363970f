"""Strategies that look at where samples lie: k-center greedy and GradMatch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.apportion import proportional_budgets
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Choice, Score, ScoringStrategy
from modyn.trainer_server.downsampling import gradmatch
from modyn.trainer_server.downsampling.gradients import gradient_features
from modyn.trainer_server.downsampling.gradmatch import GradMatch
from modyn.trainer_server.downsampling.kcenter import KcenterGreedy
from modyn.trainer_server.greedy.matching_pursuit import matching_pursuit

STRATEGIES = [
    KcenterGreedy(ratio=50),
    KcenterGreedy(ratio=50, balance=True),
    GradMatch(ratio=50),
    GradMatch(ratio=50, balance=True),
    GradMatch(ratio=50, full_grad_approximation="LastLayerWithEmbedding"),
]


def samples(count: int, classes: int = 4, dimension: int = 6, seed: int = 0) -> Candidates:
    """A Gaussian mixture under a softmax classifier."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(classes, dimension))
    labels = random.integers(classes, size=count)
    embeddings = centers[labels] + random.normal(size=(count, dimension))
    powers = np.exp(embeddings @ centers.T / 4)
    gradients = powers / powers.sum(axis=1, keepdims=True) - np.eye(classes)[labels]
    return Candidates(10 * labels, gradients=gradients.astype("f4"), embeddings=embeddings.astype("f4"))


def chosen(strategy: ScoringStrategy, candidates: Candidates, size: int, seed: int = 0) -> Choice:
    return strategy.choose(candidates, size, np.random.default_rng(seed))


def misfit(strategy: GradMatch, candidates: Candidates, choice: Choice) -> float:
    """What the weighted mean gradient leaves of the mean of all, at the scale that fits best, as a share of it."""
    vectors = gradient_features(candidates, strategy.full_grad_approximation).dense().astype(np.float64)
    assert choice.weights is not None
    mean, weighted = vectors.mean(axis=0), choice.weights @ vectors[choice.positions]
    return float(np.linalg.norm(mean - weighted * (weighted @ mean) / (weighted @ weighted)) / np.linalg.norm(mean))


def check(choice: Choice, count: int, size: int) -> None:
    assert choice.positions.dtype == np.int64
    assert choice.positions.shape == (size,)
    assert (np.diff(choice.positions) > 0).all()
    assert ((choice.positions >= 0) & (choice.positions < count)).all()
    if choice.weights is not None:
        assert choice.weights.dtype == np.float32
        assert choice.weights.shape == (size,)
        assert np.isfinite(choice.weights).all()
        assert (choice.weights >= 0).all()
        assert choice.weights.mean() == pytest.approx(1, rel=1e-5) or not size


@settings(max_examples=80, deadline=None)
@given(
    strategy=st.sampled_from(STRATEGIES),
    count=st.integers(0, 70),
    share=st.floats(0, 1),
    classes=st.integers(2, 6),
    seed=st.integers(0, 10**6),
)
def test_sizes_are_exact_and_a_seed_decides(
    strategy: ScoringStrategy, count: int, share: float, classes: int, seed: int
) -> None:
    candidates = samples(count, classes, seed=seed)
    size = round(share * count)
    one, again = chosen(strategy, candidates, size, seed), chosen(strategy, candidates, size, seed)
    check(one, count, size)
    assert one.positions.tolist() == again.positions.tolist()
    if one.weights is not None and again.weights is not None:
        assert one.weights.tolist() == again.weights.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("kind", ["zeros", "equal", "duplicates", "one class", "one zero row", "tiny"])
@pytest.mark.parametrize("size", [0, 1, 7, 19, 20])
def test_degenerate_samples_are_no_reason_to_fail(strategy: ScoringStrategy, kind: str, size: int) -> None:
    whole = samples(20)
    classes, gradients, embeddings = whole.classes, whole.gradients, whole.embeddings
    assert gradients is not None
    assert embeddings is not None
    if kind == "zeros":
        gradients[:], embeddings[:] = 0, 0
    elif kind == "equal":
        gradients[:], embeddings[:] = gradients[0], embeddings[0]
    elif kind == "duplicates":
        gradients[10:], embeddings[10:] = gradients[:10], embeddings[:10]
    elif kind == "one class":
        classes[:] = 3
    elif kind == "one zero row":
        gradients[4] = embeddings[4] = 0
    else:
        gradients, embeddings = gradients * np.float32(1e-30), embeddings * np.float32(1e-30)
    check(chosen(strategy, Candidates(classes, gradients=gradients, embeddings=embeddings), size), 20, size)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_what_is_not_a_number_is_refused(strategy: ScoringStrategy) -> None:
    whole = samples(20)
    assert whole.gradients is not None
    assert whole.embeddings is not None
    whole.gradients[7], whole.embeddings[7] = np.nan, np.inf
    with pytest.raises(InvalidInputError, match="candidate 7"):
        chosen(strategy, whole, 5)


@pytest.mark.parametrize(
    "strategy", [strategy for strategy in STRATEGIES if getattr(strategy, "balance", False)], ids=repr
)
def test_balanced_budgets_are_in_proportion(strategy: ScoringStrategy) -> None:
    labels = np.repeat(np.arange(100), 19)
    random = np.random.default_rng(0)
    columns = random.normal(size=(2, 1900, 5)).astype("f4")
    candidates = Candidates(labels, gradients=columns[0], embeddings=columns[1])
    for size in (190, 29, 1000):
        choice = chosen(strategy, candidates, size)
        counts = np.bincount(labels[choice.positions], minlength=100)
        assert sorted(counts) == sorted(proportional_budgets(np.full(100, 19), size))


def test_centers_cover_better_than_drawn_samples() -> None:
    candidates = samples(400)
    points = candidates.embeddings
    assert points is not None

    def radius(positions: np.ndarray) -> float:
        return float(np.sqrt(((points[:, None] - points[positions]) ** 2).sum(axis=2).min(axis=1).max()))

    centers = chosen(KcenterGreedy(ratio=10), candidates, 40)
    assert centers.weights is None
    drawn = [radius(np.random.default_rng(seed).choice(400, 40, replace=False)) for seed in range(5)]
    assert radius(centers.positions) < 0.8 * min(drawn)


def test_the_first_center_is_drawn() -> None:
    firsts = {int(chosen(KcenterGreedy(ratio=10), samples(50), 1, seed).positions[0]) for seed in range(40)}
    assert len(firsts) > 15


def test_matched_gradients_are_those_of_the_pursuit() -> None:
    candidates = samples(300, dimension=16)
    strategy = GradMatch(ratio=10, full_grad_approximation="LastLayerWithEmbedding")
    choice = chosen(strategy, candidates, 30)
    features = gradient_features(candidates, "LastLayerWithEmbedding")
    fit = matching_pursuit(features, 30)
    assert choice.positions.tolist() == sorted(fit.positions.tolist())
    assert misfit(strategy, candidates, choice) <= fit.residual / np.linalg.norm(features.mean()) + 1e-6


@pytest.mark.parametrize("size", [10, 40, 150, 290])
@pytest.mark.parametrize("approximation", ["LastLayer", "LastLayerWithEmbedding"])
def test_budgets_beyond_the_rank_keep_the_match(size: int, approximation: str) -> None:
    """The rank is 3 for outputs alone, 21 with embeddings."""
    candidates = samples(300)
    strategy = GradMatch(ratio=10, full_grad_approximation=approximation)
    matched = matching_pursuit(gradient_features(candidates, strategy.full_grad_approximation), size)
    choice = chosen(strategy, candidates, size)
    check(choice, 300, size)
    if len(matched.positions) < size:
        assert set(matched.positions.tolist()) <= set(choice.positions.tolist())
        assert misfit(strategy, candidates, choice) < 1e-5
        assert choice.weights is not None
        assert np.median(choice.weights) > 0.5  # drawn samples count
    if size >= 150:
        other = chosen(strategy, candidates, size, seed=1)
        assert other.positions.tolist() != choice.positions.tolist()
        assert np.std(choice.weights) < 0.5  # type: ignore[arg-type]


def test_drawn_samples_are_drawn_uniformly() -> None:
    candidates = samples(60)
    matched = matching_pursuit(gradient_features(candidates, "LastLayer"), 20).positions
    counts = np.zeros(60)
    for seed in range(400):
        counts[chosen(GradMatch(ratio=10), candidates, 20, seed).positions] += 1
    others = np.delete(counts, matched)
    assert (counts[matched] == 400).all()
    expected = 400 * (20 - len(matched)) / len(others)
    assert np.sum((others - expected) ** 2 / expected) < 1.5 * len(others)


def test_a_mean_gradient_of_zero_weighs_all_alike() -> None:
    candidates = samples(30)
    nothing = Candidates(candidates.classes, gradients=np.zeros((30, 4), dtype=np.float32))
    assert chosen(GradMatch(ratio=10), nothing, 9).weights == pytest.approx(1)


def test_the_scale_of_gradients_does_not_matter() -> None:
    candidates = samples(200)
    assert candidates.gradients is not None
    divided = Candidates(candidates.classes, gradients=candidates.gradients / np.float32(64))
    one, small = chosen(GradMatch(ratio=10), candidates, 50), chosen(GradMatch(ratio=10), divided, 50)
    assert one.positions.tolist() == small.positions.tolist()
    np.testing.assert_allclose(one.weights, small.weights, rtol=1e-5)  # type: ignore[arg-type]


def test_classes_weigh_as_much_as_they_have_samples() -> None:
    """The match of each class adds up to that of all."""
    candidates = samples(600)
    strategy = GradMatch(ratio=10, balance=True)
    for size in (40, 300):
        assert misfit(strategy, candidates, chosen(strategy, candidates, size)) < 1e-5


def test_large_budgets_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = samples(300, dimension=10)
    strategy = GradMatch(ratio=50, full_grad_approximation="LastLayerWithEmbedding")
    monkeypatch.setattr(gradmatch, "MOST", 20)
    for size in (21, 60, 110):
        choice = chosen(strategy, candidates, size)
        check(choice, 300, size)
        uniform = np.random.default_rng(0).choice(300, size, replace=False)
        drawn = Choice(uniform, np.ones(size, dtype=np.float32))
        assert misfit(strategy, candidates, choice) < 0.5 * misfit(strategy, candidates, drawn)


def test_keys_and_what_they_look_at() -> None:
    tree = {"strategy": "GradMatch", "ratio": 25, "sample_then_batch": True, "balance": True}
    strategy = DOWNSAMPLING_STRATEGIES.parse({**tree, "full_grad_approximation": "LastLayerWithEmbedding"})
    assert isinstance(strategy, GradMatch)
    assert strategy.needs == (Score.GRADIENTS, Score.EMBEDDINGS)
    assert GradMatch(ratio=1).needs == (Score.GRADIENTS,)
    centers = DOWNSAMPLING_STRATEGIES.parse({"strategy": "KcenterGreedy", "ratio": 25, "balance": True})
    assert isinstance(centers, KcenterGreedy)
    assert centers.needs == (Score.EMBEDDINGS,)

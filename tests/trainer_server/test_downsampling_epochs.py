from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, IndexStrategy, PassesStrategy
from modyn.trainer_server.downsampling.infobatch import InfoBatch
from modyn.trainer_server.downsampling.rs2 import RS2
from modyn.trainer_server.downsampling.uniform import Uniform


class Draws:
    """Generators by number, as a training job has them, and which were asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: list[int] = []

    def __call__(self, number: int) -> np.random.Generator:
        self.asked.append(number)
        return np.random.default_rng([self.seed, number])


def positions(strategy: IndexStrategy, n: int, epoch: int, seed: int = 0) -> Int64Array:
    choice = strategy.choose(n, epoch, Draws(seed))
    assert choice.weights is None
    assert choice.positions.dtype == np.int64
    assert (np.diff(choice.positions) > 0).all()
    assert len(choice) == strategy.target_size(n)
    assert len(choice) == 0 or (choice.positions[0] >= 0 and choice.positions[-1] < n)
    return choice.positions


@given(n=st.integers(0, 30), ratio=st.integers(1, 100), seed=st.integers(0, 100), epochs=st.integers(1, 12))
def test_rs2_uses_every_sample_once_before_any_twice(n: int, ratio: int, seed: int, epochs: int) -> None:
    strategy = RS2(ratio=ratio, with_replacement=False)
    counts = np.zeros(n, dtype=np.int64)
    for epoch in range(epochs):
        counts[positions(strategy, n, epoch, seed)] += 1
        assert n == 0 or counts.max() - counts.min() <= 1


@given(n=st.integers(1, 50), ratio=st.integers(1, 100), epoch=st.integers(0, 10**6), with_replacement=st.booleans())
def test_rs2_draws_little_whatever_the_epoch(n: int, ratio: int, epoch: int, with_replacement: bool) -> None:
    draws = Draws(3)
    first = RS2(ratio=ratio, with_replacement=with_replacement).choose(n, epoch, draws)
    assert len(draws.asked) <= 2
    assert min(draws.asked, default=0) >= 0
    again = RS2(ratio=ratio, with_replacement=with_replacement).choose(n, epoch, Draws(3))
    assert np.array_equal(first.positions, again.positions)


@pytest.mark.parametrize(("ratio", "epoch"), [(40, 0), (40, 1), (40, 2), (40, 3), (70, 1), (70, 4)])
@pytest.mark.parametrize("with_replacement", [False, True])
def test_rs2_chooses_each_sample_equally_often(ratio: int, epoch: int, with_replacement: bool) -> None:
    strategy = RS2(ratio=ratio, with_replacement=with_replacement)
    counts = np.zeros(10)
    for seed in range(600):
        counts[strategy.choose(10, epoch, Draws(seed)).positions] += 1
    share = ratio / 100
    assert np.abs(counts / 600 - share).max() < 4 * math.sqrt(share * (1 - share) / 600)


def test_rs2_with_replacement_draws_from_all_in_each_epoch() -> None:
    drawn = [positions(RS2(ratio=50, with_replacement=True), 1000, epoch) for epoch in range(3)]
    for one, two in itertools.pairwise(drawn):
        assert 200 < len(np.intersect1d(one, two)) < 300  # 250 expected, standard deviation 8
    without = [positions(RS2(ratio=50, with_replacement=False), 1000, epoch) for epoch in range(4)]
    assert len(np.intersect1d(without[0], without[1])) == 0
    assert 200 < len(np.intersect1d(without[0], without[2])) < 300


def test_rs2_keys() -> None:
    tree = {"strategy": "RS2", "ratio": 50, "with_replacement": True, "period": 1, "sample_then_batch": True}
    strategy = DOWNSAMPLING_STRATEGIES.parse(tree)
    assert DOWNSAMPLING_STRATEGIES.parse(DOWNSAMPLING_STRATEGIES.dump(strategy)) == strategy
    for wrong in ({"period": 2}, {"sample_then_batch": False}):
        with pytest.raises(ValidationError):
            DOWNSAMPLING_STRATEGIES.parse({**tree, **wrong})
    del tree["with_replacement"]
    with pytest.raises(ValidationError, match="with_replacement"):
        DOWNSAMPLING_STRATEGIES.parse(tree)


def test_uniform_draws_anew_every_period() -> None:
    def same(period: int, one: int, two: int) -> bool:
        strategy = Uniform(ratio=50, period=period)
        return np.array_equal(positions(strategy, 100, one), positions(strategy, 100, two))

    assert not same(1, 0, 1)
    assert same(3, 0, 2)
    assert not same(3, 2, 3)
    assert same(0, 0, 1000)
    assert Uniform(ratio=50).period == 1


def test_uniform_is_uniform() -> None:
    counts = np.zeros(20)
    for epoch in range(1000):
        counts[positions(Uniform(ratio=25), 20, epoch)] += 1
    assert np.abs(counts / 1000 - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 1000)


@given(n=st.integers(0, 300), ratio=st.integers(1, 1000))
def test_sizes_are_exact(n: int, ratio: int) -> None:
    size = len(positions(Uniform(ratio=ratio, ratio_max=1000), n, 0))
    assert size == (max(1, n * ratio // 1000) if n else 0)


def test_fewer_epochs_is_of_the_kind_that_cuts_epochs() -> None:
    strategy = DOWNSAMPLING_STRATEGIES.parse({"strategy": "FewerEpochs", "ratio": 1234, "ratio_max": 10_000})
    assert isinstance(strategy, PassesStrategy)


def some_losses(n: int, unknown: float, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    losses = random.pareto(1.5, n).astype(np.float32)
    losses[random.random(n) < unknown] = np.nan
    return losses


@given(
    n=st.integers(0, 60),
    ratio=st.integers(1, 100),
    unknown=st.sampled_from([0.0, 0.3, 1.0]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_infobatch_prunes_by_the_rule_of_the_paper(n: int, ratio: int, unknown: float, ties: bool, seed: int) -> None:
    losses = some_losses(n, unknown, seed)
    if ties:
        losses[~np.isnan(losses)] = np.float32(0.1)
    choice = InfoBatch(ratio=ratio).prune(losses, 1, 10, np.random.default_rng(seed))
    known = [float(loss) for loss in losses if not math.isnan(loss)]
    mean = math.fsum(known) / len(known) if known else 0.0
    low = {place for place, loss in enumerate(losses) if loss < mean}
    kept = set(choice.positions.tolist())
    assert len(kept) == len(choice)
    assert (np.diff(choice.positions) > 0).all()
    assert kept >= set(range(n)) - low
    num_kept = max(1, len(low) * ratio // 100) if low else 0
    assert len(kept & low) == num_kept
    weights = np.ones(len(kept)) if choice.weights is None else choice.weights
    for place, weight in zip(choice.positions.tolist(), weights, strict=True):
        assert weight == pytest.approx(len(low) / num_kept if place in low else 1.0)
    assert float(np.sum(weights, dtype=np.float64)) == pytest.approx(n)


@pytest.mark.parametrize("kind", ["usual", "zeros", "some unknown"])
def test_infobatch_is_unbiased_over_an_epoch(kind: str) -> None:
    losses = some_losses(80, 0.2 if kind == "some unknown" else 0.0)
    if kind == "zeros":
        losses[:50] = 0
    todays = np.random.default_rng(4).normal(2, 1, 80)  # whatever the losses have become
    batch_size, sums = 8, []
    for seed in range(1000):
        choice = InfoBatch(ratio=30).prune(losses, 1, 10, np.random.default_rng(seed))
        assert choice.weights is not None
        assert len(choice) < 80
        steps = np.array_split(choice.weights * todays[choice.positions], range(batch_size, len(choice), batch_size))
        sums.append(sum(step.sum() / batch_size for step in steps))
    error = np.std(sums) / math.sqrt(len(sums))
    assert abs(np.mean(sums) - todays.sum() / batch_size) < 4 * error


def test_infobatch_draws_anew_in_each_epoch() -> None:
    losses = some_losses(200, 0.0)
    one, two, again = (InfoBatch(ratio=50).prune(losses, 1, 10, np.random.default_rng(seed)) for seed in (1, 2, 1))
    assert np.array_equal(one.positions, again.positions)
    assert not np.array_equal(one.positions, two.positions)
    assert len(one) == len(two)


@pytest.mark.parametrize(
    ("annealing", "epochs", "pruned"),
    [(0.875, 8, 7), (0.875, 16, 14), (0.875, 5, 5), (0.07, 100, 7), (0.29, 100, 29), (0.0, 4, 0), (1.0, 4, 4)],
)
def test_infobatch_ends_with_all_samples(annealing: float, epochs: int, pruned: int) -> None:
    strategy = InfoBatch(ratio=50, annealing=annealing)
    losses = some_losses(50, 0.0)
    lengths = [len(strategy.prune(losses, epoch, epochs, np.random.default_rng(0))) for epoch in range(epochs)]
    assert [length < 50 for length in lengths] == [True] * pruned + [False] * (epochs - pruned)


def test_infobatch_without_losses_keeps_all() -> None:
    for losses in (np.full(5, np.nan, dtype=np.float32), np.empty(0, dtype=np.float32)):
        choice = InfoBatch(ratio=50).prune(losses, 0, 3, np.random.default_rng(0))
        assert choice.positions.tolist() == list(range(len(losses)))
        assert choice.weights is None


def test_infobatch_with_everything_kept_weighs_nothing_up() -> None:
    choice = InfoBatch(ratio=100).prune(some_losses(30, 0.0), 1, 10, np.random.default_rng(0))
    assert len(choice) == 30
    assert choice.weights is None or set(choice.weights.tolist()) == {1.0}


def test_infobatch_rejects_infinite_losses() -> None:
    for bad in ([np.inf], [np.inf, -np.inf]):
        losses = np.array([1.0, np.nan, *bad], dtype=np.float32)
        with pytest.raises(InvalidInputError, match=f"InfoBatch: {len(bad)} of {len(losses)} losses are infinite"):
            InfoBatch(ratio=50).prune(losses, 1, 10, np.random.default_rng(0))

"""Selection with unequal chances and weights: replay of old data, and samples that count by label or age."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modyn.core.errors import InvalidInputError
from modyn.core.plugins.selection import SELECTION_POLICIES
from tests.helpers.policies import Table, chances, close, keys_of, select, span


class TestReplay:
    def test_parts_are_uniform_and_independent(self) -> None:
        configuration, runs = {"name": "ReplayStrategy", "old_ratio": 40, "limit": 10}, 1000
        history, table = [span(0, 12), span(12, 24)], Table([0] * 24)
        hits, policy = np.zeros((runs, 24)), SELECTION_POLICIES.parse(configuration)
        for seed in range(runs):
            hits[seed, keys_of(select(policy, history, table, seed))] = 1
        assert (hits[:, :12].sum(axis=1) == 4).all()
        assert close(hits.mean(axis=0), np.repeat([4 / 12, 6 / 12], 12), runs)
        # the i-th old and the i-th new sample have nothing to do with one another
        assert close((hits[:, :12] * hits[:, 12:]).mean(axis=0), 4 / 12 * 6 / 12, runs)

    def test_old_samples_lose_half_their_chance_with_each_half_life(self) -> None:
        configuration = {"name": "ReplayStrategy", "old_ratio": 50, "age_decay": "exponential", "half_life": "10s"}
        times, runs = np.repeat([0, 10, 20, 30, 99], [4, 4, 4, 4, 6]), 800
        found = chances(configuration, [span(0, 16), span(16, 22)], Table([0] * 22, times), runs)
        by_age = found[:16].reshape(4, 4)
        expected = np.array([0.1, 0.2, 0.4, 0.8])  # 6 of 16, in these proportions
        assert close(by_age, expected[:, None], runs)
        assert close(found[16:], 1.0, runs)

    def test_too_few_old_samples_leave_more_new_ones(self) -> None:
        table = Table([0] * 100)
        for configuration, sizes, expected in (
            ({"old_ratio": 50}, (3, 97), (3, 97)),
            ({"old_ratio": 50, "limit": 20}, (3, 97), (3, 17)),
            ({"old_ratio": 50, "limit": 20}, (97, 3), (3, 3)),
            ({"old_ratio": 29, "limit": 10}, (50, 50), (3, 7)),
            ({"old_ratio": 29, "limit": 5}, (50, 50), (1, 4)),
            ({"old_ratio": 50}, (100, 0), (0, 0)),
            ({"old_ratio": 50}, (0, 100), (0, 100)),
        ):
            history = [span(0, sizes[0]), span(sizes[0], 100)]
            chosen = np.array(keys_of(select({"name": "ReplayStrategy", **configuration}, history, table)))
            assert (int((chosen < sizes[0]).sum()), int((chosen >= sizes[0]).sum())) == expected

    def test_very_old_samples_are_drawn_only_where_others_do_not_suffice(self) -> None:
        configuration = {"name": "ReplayStrategy", "old_ratio": 50, "age_decay": "exponential", "half_life": "1s"}
        times = [0] * 5 + [10**6] * 2 + [10**6 + 5] * 4
        chosen = keys_of(select(configuration, [span(0, 7), span(7, 11)], Table([0] * 11, times)))
        assert chosen[2:] == [5, 6, 7, 8, 9, 10]


class TestWeighted:
    LABELS = np.array([0] * 2 + [1] * 8 + [2] * 20)

    def test_chances_are_in_proportion_to_weights(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": {0: 8, 1: 2}, "ratio": 30}
        found = chances(configuration, [span(0, 30)], Table(self.LABELS), 800)
        # 9 samples: both of label 0; of the other weight, 8 * 2 + 20 * 1, the rest of 7
        assert close(found, np.array([1, 14 / 36, 7 / 36])[self.LABELS], 800)

    def test_samples_without_weight_are_never_chosen(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": {0: 1, 1: 1, 2: 0}, "limit": 15}
        assert keys_of(select(configuration, [span(0, 30)], Table(self.LABELS))) == [*range(10)]
        configuration["class_weights"] = {2: 0}
        with pytest.raises(InvalidInputError, match=r"labels of weight 0 \(2\)"):
            select(configuration, [span(10, 30)], Table(self.LABELS))

    def test_balanced_classes_get_the_same_number(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": "balanced", "limit": 6}
        chosen = self.LABELS[keys_of(select(configuration, [span(0, 30)], Table(self.LABELS)))]
        assert np.bincount(chosen).tolist() == [2, 2, 2]

    @pytest.mark.parametrize(
        "weighting",
        [
            {"class_weights": "balanced"},
            {"class_weights": {0: 100, 1: 3.5, 2: 0}},
            {"class_weights": {0: 0, 1: 1e308, 2: 1e308}},
            {"half_life": "3s"},
            {"half_life": "1h"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("size", [{"ratio": 40}, {"limit": 1}], ids=str)
    def test_unbiased_losses(self, weighting: dict[str, Any], size: dict[str, int]) -> None:
        configuration = {"name": "WeightedStrategy", "unbiased": True, **weighting, **size}
        losses = np.random.default_rng(3).exponential(size=30) * (1 + self.LABELS)
        table, runs = Table(self.LABELS), 300
        means, policy = np.empty(runs), SELECTION_POLICIES.parse(configuration)
        for seed in range(runs):
            selection = select(policy, [span(0, 30)], table, seed)
            assert selection.weights is not None
            assert selection.weights.max() <= 10
            means[seed] = (selection.weights * losses[keys_of(selection)]).mean()
        assert abs(means.mean() - losses.mean()) <= 4.5 * means.std() / np.sqrt(runs) + 1e-6

    def test_weights_of_the_loss(self) -> None:
        table, history = Table(self.LABELS), [span(0, 30)]
        by_class = {"name": "WeightedStrategy", "class_weights": {0: 8, 1: 2}, "apply": "loss"}
        weights = select(by_class, history, table).weights
        assert weights is not None
        raw = np.array([8, 2, 1])[self.LABELS]
        np.testing.assert_allclose(weights, raw / raw.mean(), rtol=1e-6)
        balanced = select({**by_class, "class_weights": "balanced"}, history, table).weights
        assert balanced is not None
        np.testing.assert_allclose([balanced[label == self.LABELS].sum() for label in range(3)], 10, rtol=1e-6)
        by_age = select({"name": "WeightedStrategy", "half_life": "2s", "apply": "loss"}, history, table).weights
        assert by_age is not None
        np.testing.assert_allclose(by_age[2:] / by_age[:-2], 2, rtol=1e-6)
        assert by_age.mean() == pytest.approx(1)

    def test_how_labels_are_written(self) -> None:
        for written in ({1: 2}, {"1": 2}, {1.0: 2}, {"1.0": 2}):
            policy = SELECTION_POLICIES.parse({"name": "WeightedStrategy", "class_weights": written, "limit": 1})
            assert policy.model_dump()["class_weights"] == {"1": 2.0}

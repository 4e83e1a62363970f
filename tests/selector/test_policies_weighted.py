"""Selection with unequal chances and weights: replay of old data, and samples that count by label or age."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

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

    def test_neither_part_always_gets_the_odd_sample(self) -> None:
        history, table, runs = [span(0, 10), span(10, 20)], Table([0] * 20), 400
        found = chances({"name": "ReplayStrategy", "old_ratio": 50, "limit": 5}, history, table, runs)
        old = np.array([found[:10].sum() - 2, found[10:].sum() - 2])
        assert close(old, 0.5, runs)

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
    WEIGHTS = np.random.default_rng(9).exponential(size=30) * (np.arange(30) % 5)

    def test_chances_are_in_proportion_to_weights(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": {0: 8, 1: 2}, "ratio": 30}
        found = chances(configuration, [span(0, 30)], Table(self.LABELS), 800)
        # 9 samples: both of label 0; of the other weight, 8 * 2 + 20 * 1, the rest of 7
        assert close(found, np.array([1, 14 / 36, 7 / 36])[self.LABELS], 800)

    def test_samples_without_weight_are_never_chosen(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": {0: 1, 1: 1, 2: 0}, "limit": 15}
        assert keys_of(select(configuration, [span(0, 30)], Table(self.LABELS))) == [*range(10)]

    @pytest.mark.parametrize("weights", [{2: 0}, {0: 1, 1: 1, 2: 0}], ids=str)
    @pytest.mark.parametrize("apply", ["sampling", "loss"])
    @pytest.mark.parametrize("size", [{"ratio": 50}, {"limit": 3}], ids=str)
    def test_a_trigger_without_any_weight_gives_an_empty_set(
        self, weights: dict[int, float], apply: str, size: dict[str, int]
    ) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": weights, "apply": apply, **size}
        assert keys_of(select(configuration, [span(10, 30)], Table(self.LABELS))) == []

    def test_without_any_weight_an_unbiased_sample_is_uniform(self) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": {2: 0}, "unbiased": True, "ratio": 50}
        history, table = [span(10, 30)], Table(self.LABELS)
        selection = select(configuration, history, table)
        assert selection.weights is not None
        np.testing.assert_allclose(selection.weights, 1, rtol=1e-6)
        assert len(selection.keys) == 10

    def test_negligible_weights_are_none(self) -> None:
        for tiny, expected in ((1e-320, [5, 0]), (1e-301, [5, 0]), (1e-299, [5, 2])):
            configuration = {"name": "WeightedStrategy", "class_weights": {0: 1, 1: tiny}, "limit": 7}
            labels = np.repeat([0, 1], 5)
            chosen = labels[keys_of(select(configuration, [span(0, 10)], Table(labels)))]
            assert np.bincount(chosen, minlength=2).tolist() == expected

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
            {"weight_column": "w"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("size", [{"ratio": 40}, {"limit": 1}], ids=str)
    def test_unbiased_losses(self, weighting: dict[str, Any], size: dict[str, int]) -> None:
        configuration = {"name": "WeightedStrategy", "unbiased": True, **weighting, **size}
        losses = np.random.default_rng(3).exponential(size=30) * (1 + self.LABELS)
        table, runs = Table(self.LABELS, w=self.WEIGHTS), 300
        means, policy = np.empty(runs), SELECTION_POLICIES.parse(configuration)
        for seed in range(runs):
            selection = select(policy, [span(0, 30)], table, seed)
            assert selection.weights is not None
            assert selection.weights.max() <= 10
            means[seed] = (selection.weights * losses[keys_of(selection)]).mean()
        assert abs(means.mean() - losses.mean()) <= 4.5 * means.std() / np.sqrt(runs) + 1e-6

    def test_a_column_of_weights(self) -> None:
        """Chances are in proportion to it, as long as none is above 1."""
        configuration = {"name": "WeightedStrategy", "weight_column": "w", "ratio": 20}
        weights = np.where(np.arange(30) % 3, 1.0, 3.0)
        weights[7] = 0
        policy, table = SELECTION_POLICIES.parse(configuration), Table(self.LABELS, w=weights)
        picks = np.zeros(30)
        for seed in range(1500):
            keys = keys_of(select(policy, [span(0, 30)], table, seed))
            assert len(keys) == len(set(keys)) == 6
            picks[keys] += 1
        np.testing.assert_allclose(picks / 1500, 6 * weights / weights.sum(), atol=0.06)
        assert picks[7] == 0
        nothing = Table(self.LABELS, w=np.zeros(30))
        assert len(select(configuration, [span(0, 30)], nothing).keys) == 0
        for bad in (-1.0, np.nan, np.inf):
            wrong = np.ones(30)
            wrong[11] = bad
            with pytest.raises(InvalidInputError, match=r"weight_column 'w': sample key 11 has (-1.0|nan|inf)"):
                select(configuration, [span(0, 30)], Table(self.LABELS, w=wrong))

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

    @pytest.mark.parametrize(
        "weighting",
        [
            {"class_weights": "balanced"},
            {"class_weights": {0: 30, 1: 3.5, 2: 0}},
            {"half_life": "3s"},
            {"half_life": "1h"},
            {"weight_column": "w"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("size", [{"ratio": 20}, {"limit": 1}], ids=str)
    def test_weighted_losses_of_a_sample_are_unbiased(self, weighting: dict[str, Any], size: dict[str, int]) -> None:
        configuration = {"name": "WeightedStrategy", "apply": "loss", **weighting}
        losses = np.random.default_rng(3).exponential(size=30) * (1 + self.LABELS)
        table, history, runs = Table(self.LABELS, w=self.WEIGHTS), [span(0, 30)], 1000
        everything = select(configuration, history, table)
        policy, means = SELECTION_POLICIES.parse({**configuration, **size}), np.empty(runs)
        for seed in range(runs):
            selection = select(policy, history, table, seed)
            keys = keys_of(selection)
            assert selection.weights is not None
            assert everything.weights is not None
            assert selection.weights.tolist() == everything.weights[keys].tolist()
            means[seed] = (selection.weights * losses[keys]).mean()
        expected = (everything.weights * losses).mean()
        assert abs(means.mean() - expected) <= 4.5 * means.std() / np.sqrt(runs)

    @pytest.mark.parametrize(
        ("labels", "weights", "expected"),
        [
            (pa.array([0.1, 0.5, 0.1], pa.float32()), {0.1: 3}, [3, 1, 3]),
            (pa.array(np.array([0.1, 0.5, 0.1], np.float16)), {"0.1": 3, 1e300: 7}, [3, 1, 3]),
            (pa.array([0.1, -0.5, 2.0]), {0.1: 3, -0.5: 5, 2: 7}, [3, 5, 7]),
            (pa.array([2**53, 2**53 + 1, 2**63 - 1]), {2**53: 3, str(2**63 - 1): 5}, [3, 1, 5]),
            (pa.array([2**64 - 1, 2**64 - 2], pa.uint64()), {2**64 - 1: 3}, [3, 1]),
            (pa.array([2.0**60, float("inf"), -0.0]), {2**60: 3, "inf": 5, 0: 7}, [3, 5, 7]),
            (pa.array([True, False]), {1: 3}, [3, 1]),
        ],
        ids=str,
    )
    def test_labels_are_those_of_the_column(
        self, labels: pa.Array, weights: dict[Any, float], expected: list[float]
    ) -> None:
        configuration = {"name": "WeightedStrategy", "class_weights": weights, "apply": "loss"}
        found = select(configuration, [span(0, len(labels))], Table(labels)).weights
        assert found is not None
        np.testing.assert_allclose(found, np.array(expected) / np.mean(expected), rtol=1e-6)

    def test_a_label_that_is_given_twice_is_refused(self) -> None:
        for written in ({"0": 1, 0: 5}, {"00": 1, 0: 5}, {1: 1, "1.0": 2}):
            with pytest.raises(ValidationError, match="expected every label once"):
                SELECTION_POLICIES.parse({"name": "WeightedStrategy", "class_weights": written, "limit": 1})
        close_by = {"name": "WeightedStrategy", "class_weights": {0.1: 1, 0.1 + 1e-12: 5}, "limit": 1}
        assert len(select(close_by, [span(0, 2)], Table([0.1, 0.5])).keys) == 1
        with pytest.raises(InvalidInputError, match=r"class_weights: of 0\.1, .*the same label of type float"):
            select(close_by, [span(0, 2)], Table(pa.array([0.1, 0.5], pa.float32())))

    def test_how_labels_are_written(self) -> None:
        for written in ({1: 2}, {"1": 2}, {1.0: 2}, {"1.0": 2}):
            policy = SELECTION_POLICIES.parse({"name": "WeightedStrategy", "class_weights": written, "limit": 1})
            assert policy.model_dump()["class_weights"] == {"1": 2.0}

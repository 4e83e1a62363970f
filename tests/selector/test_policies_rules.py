"""What each selection policy promises beyond the contract: which samples, with which chances, with which weights."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.plugins.selection import (
    SELECTION_POLICIES,
    SelectionInput,
    TriggerData,
)
from tests.helpers.policies import Table, chances, close, coreset, keys_of, select, span


class TestFreshness:
    CONFIGURATION: dict[str, Any] = {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 25}  # noqa: RUF012

    def test_both_parts_are_exact_and_uniform(self) -> None:
        history, used = [span(0, 30), span(30, 40)], (KeySet.from_array([*range(5, 25)]),)
        table, runs = Table([0] * 40), 600
        # 20 used and 20 unused: 26 samples have a quarter of unused ones, all 20 used ones among them
        for seed in range(20):
            chosen = set(keys_of(select(self.CONFIGURATION, history, table, seed, used)))
            assert (len(chosen), chosen >= set(range(5, 25))) == (26, True)
        found = chances(self.CONFIGURATION, history, table, runs, selected=used)
        unused = np.array([*range(5), *range(25, 40)])
        assert close(found[unused], 6 / 20, runs)

    def test_nothing_new_is_an_empty_set(self) -> None:
        assert keys_of(select(self.CONFIGURATION, [span(0, 9)], Table([0] * 9), selected=(span(0, 9),))) == []

    def test_what_was_used_need_not_be_a_candidate_any_more(self) -> None:
        used = (KeySet.from_array([100, 3, -5, 10**12]), span(50, 60))
        history = [KeySet.from_array([7, 3, 10**15, 5])]
        assert len(select(self.CONFIGURATION, history, Table([0]), selected=used).keys) == 1


class TestBalanced:
    @given(
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
        ratio=st.integers(1, 100),
        by=st.sampled_from(["LabelBalanced", "TriggerBalanced"]),
    )
    @settings(max_examples=25, deadline=None)
    def test_groups_are_as_equal_as_can_be(self, sizes: list[int], ratio: int, by: str) -> None:
        groups = np.repeat(np.arange(len(sizes)), sizes)
        edges = np.concatenate(([0], np.cumsum(sizes))).tolist()
        history = [span(a, b) for a, b in itertools.pairwise(edges)]
        chosen = groups[keys_of(select(coreset(by, ratio), history, Table(groups)))]
        taken = np.bincount(chosen, minlength=len(sizes))
        assert taken.sum() == max(1, sum(sizes) * ratio // 100)
        cut = taken[taken < sizes]
        assert len(cut) == 0 or (cut.max() - cut.min() <= 1 and taken.max() <= cut.min() + 1)

    @pytest.mark.parametrize(
        ("ratio", "force", "expected"), [(50, False, [5, 5, 45]), (50, True, [5, 5, 5]), (10, True, [3, 3, 3])]
    )
    def test_several_small_classes_and_forced_balance(self, ratio: int, force: bool, expected: list[int]) -> None:
        labels = np.array([0] * 5 + [1] * 5 + [2] * 100)
        configuration = coreset("LabelBalanced", ratio, force_column_balancing=force)
        assert np.bincount(labels[keys_of(select(configuration, [span(0, 110)], Table(labels)))]).tolist() == expected

    def test_a_forced_balance_holds_for_the_whole_set_too(self) -> None:
        labels = np.array([0] * 5 + [1] * 20)
        configuration = coreset("LabelBalanced", 100, force_column_balancing=True)
        assert np.bincount(labels[keys_of(select(configuration, [span(0, 25)], Table(labels)))]).tolist() == [5, 5]

    def test_samples_of_a_label_are_equally_likely(self) -> None:
        labels, runs = np.array([0, 1, 1, 1, 1, 1, 2, 2, 2, 2] * 2), 600
        found = chances(coreset("LabelBalanced", 45), [span(0, 20)], Table(labels), runs)
        assert close(found, np.array([1, 4 / 10, 3 / 8])[labels], runs)  # 2, 4 and 3 samples

    @pytest.mark.parametrize("by", ["LabelBalanced", "TriggerBalanced"])
    def test_no_group_is_preferred_where_not_all_get_one_more(self, by: str) -> None:
        history, labels = [span(10 * i, 10 * i + 10) for i in range(10)], np.repeat(np.arange(10), 10)
        for limit, least in ((3, 0), (14, 1)):
            configuration = {**coreset(by, 100), "limit": limit}
            found = chances(configuration, history, Table(labels), 500).reshape(10, 10).sum(axis=1)
            assert close(found - least, (limit - 10 * least) / 10, 500)
        over_triggers = np.zeros(10)
        for index in range(200):  # of one pipeline
            now = [KeySet(ranges=())] * index + history
            np.add.at(over_triggers, labels[keys_of(select(configuration, now, Table(labels)))], 1 / 200)
        assert close(over_triggers - 1, 4 / 10, 200)

    @pytest.mark.parametrize(
        "labels",
        [
            pa.array([0.5, -1.0, 0.5, None]),
            pa.array([10**15, 3, 10**15, None]),
            pa.array([None] * 4, pa.int64()),
            pa.array([7, 9, 7, 9]),
        ],
    )
    def test_any_single_label_is_a_class(self, labels: pa.Array) -> None:
        chosen = keys_of(select(coreset("LabelBalanced", 50), [span(0, 4)], Table(labels)))
        assert len({labels[key].as_py() for key in chosen}) == min(2, len(set(labels.to_pylist())))

    @pytest.mark.parametrize(
        "configuration",
        [coreset("LabelBalanced", 50), {"name": "WeightedStrategy", "class_weights": "balanced", "limit": 1}],
        ids=str,
    )
    def test_several_labels_a_sample_are_refused(self, configuration: dict[str, Any]) -> None:
        table = Table(pa.array([[1, 2], [3]], pa.list_(pa.int64())))
        with pytest.raises(InvalidInputError, match=r"label: samples have several labels each \(list<.*expected one"):
            select(configuration, [span(0, 2)], table)

    def test_more_classes_than_fit_a_byte(self) -> None:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(40_000) * 999, 2))
        chosen = keys_of(select(coreset("LabelBalanced", 50), [span(0, 80_000)], Table(labels)))
        assert len(set(labels[chosen].tolist())) == 40_000


class TestNoReplacement:
    @given(num=st.integers(1, 30), ratio=st.integers(1, 100), triggers=st.integers(1, 12), seed=st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_every_candidate_once_before_any_twice(self, num: int, ratio: int, triggers: int, seed: int) -> None:
        selected: tuple[KeySet, ...] = ()
        uses: Counter[int] = Counter(dict.fromkeys(range(num), 0))
        for index in range(triggers):
            history = [span(0, num), *[KeySet(ranges=())] * index]
            keys = select(coreset("RandomNoReplacement", ratio), history, Table([0] * num), seed, selected).keys
            selected = (*selected, keys)
            uses.update(keys.to_array().tolist())
            assert max(uses.values()) - min(uses.values()) <= 1
            assert uses.total() == (index + 1) * max(1, num * ratio // 100)

    def test_new_candidates_join_the_cycle(self) -> None:
        configuration, table = coreset("RandomNoReplacement", 50), Table([0] * 12)
        history, selected = [span(0, 8)], (span(0, 4),)
        assert keys_of(select(configuration, [*history, KeySet(ranges=())], table, selected=selected)) == [4, 5, 6, 7]
        found = chances(configuration, [span(0, 8), span(8, 12)], table, 800, selected=selected)
        assert close(found, np.array([0] * 4 + [6 / 8] * 8), 800)

    def test_what_ends_a_cycle_is_not_used_in_the_next(self) -> None:
        configuration, table, empty = coreset("RandomNoReplacement", 50), Table([0] * 6), KeySet(ranges=())
        # 0 to 3 and 4 to 5 end the first cycle; 0 begins the second
        selected = (span(0, 4), KeySet.from_array([4, 5, 0]))
        found = chances(configuration, [span(0, 6), empty, empty], table, 600, selected=selected)
        assert close(found, np.array([0] + [3 / 5] * 5), 600)

    @pytest.mark.parametrize("limit", [None, 12])
    def test_what_warm_up_trained_on_counts(self, limit: int | None) -> None:
        configuration = {**coreset("RandomNoReplacement", 20), "warmup_triggers": 2, "limit": limit}
        history, table = [span(10 * i, 10 * i + 10) for i in range(6)], Table([0] * 60)
        for seed in range(20):
            selected: tuple[KeySet, ...] = ()
            uses: Counter[int] = Counter()
            for index in range(6):
                keys = select(configuration, history[: index + 1], table, seed, selected).keys
                candidates = range(10 * index + 10)
                drawn = set(keys.to_array().tolist())
                never = {key for key in candidates if not uses[key]}
                if index >= 2:
                    assert drawn <= never or never <= drawn
                uses.update(drawn)
                selected = (*selected, keys)

    def test_after_warm_up_those_drawn_once_come_before_those_drawn_twice(self) -> None:
        configuration, table = coreset("RandomNoReplacement", 70), Table([0] * 30)
        selected = (span(0, 10), span(0, 20))
        found = chances(configuration, [span(0, 10), span(10, 20), span(20, 30)], table, 300, selected=selected)
        assert close(found, np.repeat([1 / 10, 1, 1], 10), 300)


class TestWithReplacement:
    def test_draws_are_independent_and_uniform(self) -> None:
        configuration, runs = coreset("Random", 100, with_replacement=True), 1000
        counts = np.zeros((runs, 10))
        for seed in range(runs):
            np.add.at(counts[seed], keys_of(select(configuration, [span(0, 10)], Table([0] * 10), seed)), 1)
        assert (counts.sum(axis=1) == 10).all()
        assert close(counts.mean(axis=0) / 10, 0.1, 10 * runs)
        assert counts.var(axis=0).mean() == pytest.approx(10 * 0.1 * 0.9, rel=0.08)  # binomial


class TestSlidingWindow:
    @given(
        times=st.lists(st.integers(0, 50), min_size=1, max_size=30),
        cut=st.integers(0, 30),
        window=st.integers(1, 60),
    )
    @settings(max_examples=25, deadline=None)
    def test_a_window_of_time_against_an_oracle(self, times: list[int], cut: int, window: int) -> None:
        cut = min(cut, len(times))
        history = [span(0, cut), span(cut, len(times))]
        configuration = {"name": "SlidingWindowStrategy", "window": f"{window}s"}
        chosen = keys_of(select(configuration, history, Table([0] * len(times), times)))
        assert chosen == [key for key, time in enumerate(times) if time > max(times) - window]

    def test_only_the_triggers_that_matter_are_loaded(self) -> None:
        class Lazy(list[TriggerData]):
            loaded = 0

            def __getitem__(self, index: Any) -> Any:
                entries = super().__getitem__(index)
                Lazy.loaded += len(entries) if isinstance(index, slice) else 0
                return entries

        history = Lazy(TriggerData(i, span(10 * i, 10 * i + 10)) for i in range(1000))
        policy = SELECTION_POLICIES.parse({"name": "SlidingWindowStrategy", "window": 45})
        keys = policy.select(SelectionInput(history, Table([0]), 0)).keys
        assert keys.ranges == (KeyRange(9955, 10_000),)
        assert Lazy.loaded == 1 + 2 + 4

    def test_how_a_window_is_written(self) -> None:
        for written, kept in ((5, 5), ("90m", "90m"), ("48h", "2d"), (" 7d ", "1w")):
            policy = SELECTION_POLICIES.parse({"name": "SlidingWindowStrategy", "window": written})
            assert policy.model_dump()["window"] == kept

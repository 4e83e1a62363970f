"""Ensembles fire exactly where their definition says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modyn.core.config.reader import load_pipeline_text
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.ensembles import ENSEMBLE_STRATEGIES
from modyn.core.plugins.triggers import TRIGGERS, Arrivals, Guards
from modyn.supervisor.triggers import DataAmountTrigger, EnsembleTrigger, ScheduleTrigger, TimeTrigger
from tests.helpers.ensembles import ensemble, kinds, streams, subtrigger
from tests.helpers.feeding import CUTS, Feeder, cut, fed, points, stream

STRATEGIES: dict[str, Callable[[int, int], bool]] = {
    "MajorityVote": lambda votes, count: 2 * votes > count,
    "AtLeastN": lambda votes, count: votes >= 2,
    "All": lambda votes, count: votes == count,
    "Any": lambda votes, count: votes > 0,
}


def slow_ensemble(members: list[Any], agrees: Callable[[int, int], bool], arrivals: Arrivals) -> list[tuple[int, int]]:
    """(samples seen, timestamp) of each firing, one sample at a time."""
    votes: set[int] = set()
    found: list[tuple[int, int]] = []
    taken = 0

    def count(fired: list[int], seen: int, timestamp: int) -> None:
        nonlocal taken
        if not fired or seen == taken:
            return
        votes.update(fired)
        if agrees(len(votes), len(members)):
            found.append((seen, timestamp))
            votes.clear()
            taken = seen

    clocks = arrivals.clock.tolist()
    largest = None
    for seen, (time, clock) in enumerate(zip(arrivals.timestamps.tolist(), clocks, strict=True)):
        fired = [number for number, member in enumerate(members) if member.before(time, clock)]
        moments = [largest if getattr(members[number], "by_clock", False) else time for number in fired]
        count(fired, seen, max((moment for moment in moments if moment is not None), default=0))
        largest = time if largest is None else max(largest, time)
        count([number for number, member in enumerate(members) if member.after()], seen + 1, time)
    return found


@settings(max_examples=300)
@given(
    specs=st.lists(kinds, min_size=2, max_size=4),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    arrivals=streams,
    cuts=CUTS,
)
def test_fires_exactly_where_the_definition_says(
    specs: list[tuple[str, int]], strategy: str, arrivals: Arrivals, cuts: list[int]
) -> None:
    pairs = [subtrigger(*spec) for spec in specs]
    expected = slow_ensemble([slow for _, slow in pairs], STRATEGIES[strategy], arrivals)
    trigger = ensemble(strategy, [fast for fast, _ in pairs])
    assert fed(trigger, [arrivals]).points == expected
    assert fed(trigger, cut(arrivals, cuts), through_json=True).points == expected


def test_every_subtrigger_counts_from_the_first_sample_on() -> None:
    """The first firing needs as many votes as all others."""
    trigger = ensemble("MajorityVote", [DataAmountTrigger(num_samples=n) for n in (10, 25, 60)])
    assert [seen for seen, _ in points(trigger, list(range(131)))] == [25, 50, 60, 75, 100, 120, 130]


def test_a_vote_stands_until_the_ensemble_fires() -> None:
    trigger = ensemble("All", [TimeTrigger(every=100), DataAmountTrigger(num_samples=4)])
    told = fed(trigger, [stream([0, 1, 2, 3, 99, 100, 101, 102])])
    assert told.points == [(5, 100)]
    reasons = [evaluation.reason for evaluation in told.evaluations[0]]
    assert reasons == [
        "b fires: 4 new samples",
        "1 of 2 subtriggers fired (b), 2 needed",
        "a fires: 100s of data time passed at 1970-01-01 00:01:40",
        "2 of 2 subtriggers fired (a, b), 2 needed",
    ]
    verdict = told.evaluations[0][-1]
    assert (verdict.first_timestamp, verdict.last_timestamp, verdict.num_samples) == (0, 99, 5)
    assert [(found.name, found.statistic, found.threshold, found.decision) for found in verdict.findings] == [
        ("", 2.0, 2.0, True),
        ("a", None, None, True),
        ("b", None, None, True),
    ]
    assert told.evaluations[0][0].findings[0].name == "b"
    assert (told.evaluations[1][0].reason, told.evaluations[1][0].decision) == ("b fires: 4 new samples", False)


def test_firings_at_one_position_count_together() -> None:
    """An amount is complete exactly where the boundary lies: one firing, and no second one without data."""
    trigger = ensemble("Any", [TimeTrigger(every=3), DataAmountTrigger(num_samples=3)])
    assert points(trigger, list(range(10))) == [(3, 2), (6, 5), (9, 8)]
    trigger = ensemble("AtLeastN", [TimeTrigger(every=3), DataAmountTrigger(num_samples=3)])
    assert points(trigger, list(range(10))) == [(3, 3), (6, 6), (9, 9)]


def test_ensembles_nest_and_explain_by_path() -> None:
    inner = ensemble("All", [DataAmountTrigger(num_samples=2), DataAmountTrigger(num_samples=3)])
    outer = ensemble("AtLeastN", [inner, DataAmountTrigger(num_samples=5)])
    told = fed(outer, [stream(list(range(12)))], through_json=True, untouched=True)
    assert told.seen == [5, 10]
    names = [[found.name for found in evaluation.findings] for evaluation in told.evaluations[0]]
    assert names[:3] == [["a/a"], ["a", "a/a", "a/b"], ["a/b"]]
    reasons = [evaluation.reason for evaluation in told.evaluations[0]]
    assert reasons[:2] == ["a: a fires: 2 new samples", "a: 1 of 2 subtriggers fired (a), 2 needed"]


def test_subtriggers_have_guards_of_their_own() -> None:
    eager = DataAmountTrigger(num_samples=1, guards=Guards(cooldown=4))
    trigger = ensemble("Any", [eager, DataAmountTrigger(num_samples=50)], guards=Guards(minimum_samples=6))
    told = fed(trigger, [stream(list(range(20)))], through_json=True)
    assert told.seen == [9, 17], "the one that may fire every 4 s, every second time"


def test_schedules_vote_at_ticks() -> None:
    trigger = ensemble("All", [ScheduleTrigger(cron="* * * * *"), DataAmountTrigger(num_samples=3)])
    feeder = Feeder(trigger, through_json=True, untouched=True)
    feeder.feed(stream([1, 2]))
    feeder.tick_until(60)
    assert feeder.told.seen == []
    feeder.feed(stream([61]))
    assert feeder.told.seen == [3]
    feeder.feed(stream([62, 63, 64]))
    feeder.tick_until(120)
    assert feeder.told.seen == [3, 6]


def test_states_are_plain_data() -> None:
    trigger = ensemble("All", [TimeTrigger(every=10), ensemble("Any", [DataAmountTrigger(num_samples=4)])])
    feeder = Feeder(trigger)
    feeder.feed(stream([0, 1, 2]))
    plain = json.loads(json.dumps(feeder._state.model_dump(mode="json")))
    assert plain["subtriggers"]["b"]["subtriggers"]["a"]["pending"] == 3
    assert trigger.state_type.model_validate(plain).model_dump(mode="json") == plain


PIPELINE = """\
pipeline: {name: ensemble}
data: {dataset_id: numbers}
model: {id: MLP, config: {in_features: 4, num_classes: 2}}
trigger:
  id: EnsembleTrigger
  subtriggers:
    daily: {id: TimeTrigger, every: 1d}
    many: {id: DataAmountTrigger, num_samples: %s}
  ensemble_strategy: %s
"""


def test_reads_from_a_pipeline_file() -> None:
    config = load_pipeline_text(PIPELINE % (100, "{id: MajorityVote}"), "p.yaml").config
    assert config is not None
    trigger = config.trigger
    assert isinstance(trigger, EnsembleTrigger)
    assert TRIGGERS.parse(TRIGGERS.dump(trigger)) == trigger


@pytest.mark.parametrize(
    ("size", "strategy", "message"),
    [
        (0, "{id: All}", "trigger.subtriggers.many.num_samples: value 0: "),
        (5, "{id: Custom}", "trigger.ensemble_strategy: Custom takes a Python function"),
        (5, "{id: Custom, aggregation_function: f}", "which YAML cannot express"),
        (5, "{id: AtLeastN, n: 3}", "AtLeastN needs 3 votes, but there are only 2 subtriggers"),
        (5, "{id: AtLeastN, n: 0}", "trigger.ensemble_strategy.n: value 0: "),
        (5, "{id: Most}", "trigger.ensemble_strategy.id: no ensemble strategy is named 'Most'"),
    ],
)
def test_bad_input_is_refused(size: int, strategy: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_pipeline_text(PIPELINE % (size, strategy), "p.yaml")
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names_of_subtriggers_are_parts_of_paths(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a name without slashes"):
        EnsembleTrigger(
            subtriggers={name: TimeTrigger(every=1)}, ensemble_strategy=ENSEMBLE_STRATEGIES.parse({"id": "Any"})
        )

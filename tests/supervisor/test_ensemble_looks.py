"""Ensembles look at data hardly more than once, and say the same whatever the pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.core.plugins.triggers import Arrivals, Observer, Trigger
from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger
from modyn.supervisor.triggers.intervals import Interval, IntervalTrigger, Verdict
from tests.helpers.ensembles import ensemble, kinds, streams, subtrigger
from tests.helpers.feeding import CUTS, Told, cut, fed, stream
from tests.helpers.observing import ArrayObserver


class Reading(IntervalTrigger):
    """Shows every interval to a model, and fires at each whose first key is a multiple of ``every``."""

    every: int
    shown_to: str = "m"

    @property
    def needs_model(self) -> bool:
        return True

    def evaluate(self, state: Any, interval: Interval, observe: Observer, *, warming_up: bool) -> Verdict:
        observe.embeddings(interval.keys, self.shown_to)
        decision = int(interval.keys[0]) % self.every == 0
        return Verdict(state, decision, f"interval of {len(interval.keys)}")


reading = st.builds(
    Reading,
    every=st.integers(1, 5),
    evaluation_interval_data_points=st.integers(1, 9),
) | st.builds(Reading, every=st.integers(1, 5), evaluation_interval=st.integers(5, 60))


@settings(max_examples=150)
@given(
    readers=st.lists(reading, min_size=1, max_size=3),
    specs=st.lists(kinds, max_size=2),
    strategy=st.sampled_from(["Any", "All", "MajorityVote"]),
    arrivals=streams,
    cuts=CUTS,
)
def test_pieces_tell_the_same_with_triggers_that_read_data(
    readers: list[Trigger], specs: list[tuple[str, int]], strategy: str, arrivals: Arrivals, cuts: list[int]
) -> None:
    trigger = ensemble(strategy, [*readers, *(subtrigger(*spec)[0] for spec in specs)])

    def told(pieces: Any) -> Told:
        return fed(trigger, pieces, ArrayObserver(np.zeros((64, 1)))).unordered()

    whole = told([arrivals])
    assert told(cut(arrivals, cuts)) == whole
    assert told(cut(arrivals, range(len(arrivals)))) == whole


def times_shown(trigger: Trigger, samples: int, piece: int) -> float:
    """How often a sample was shown to a model, on average, if nothing is remembered."""
    observe = ArrayObserver(np.zeros((samples, 1)), remember=0)
    fed(trigger, cut(stream(list(range(samples))), range(0, samples, piece)), observe)
    return sum(float(counts.sum()) for counts in observe.embedded.values()) / samples


def test_a_trigger_that_asks_a_model_sees_samples_once() -> None:
    drift = Reading(every=3, evaluation_interval_data_points=100)
    cheap: list[Trigger] = [DataAmountTrigger(num_samples=130), TimeTrigger(every=470)]
    for strategy in ("Any", "All", "AtLeastN"):
        assert times_shown(ensemble(strategy, [drift, *cheap]), 20_000, 5_000) <= 1.0


def test_what_an_evaluation_at_a_common_boundary_says_is_not_asked_twice() -> None:
    drift = Reading(every=3, evaluation_interval=100)
    trigger = ensemble("All", [TimeTrigger(every=100), DataAmountTrigger(num_samples=10_000), drift])
    assert times_shown(trigger, 20_000, 5_000) <= 1.02


def test_two_that_ask_models_see_few_samples_twice() -> None:
    one = Reading(every=300, evaluation_interval_data_points=100, shown_to="one")
    two = Reading(every=700, evaluation_interval_data_points=70, shown_to="two")
    assert times_shown(ensemble("All", [one, two]), 50_000, 50_000) <= 2 * 1.3
    assert times_shown(ensemble("Any", [one, two]), 50_000, 50_000) <= 2 * 1.6
    rare: list[Trigger] = [
        reader.model_copy(update={"every": every}) for reader, every in ((one, 90_000), (two, 7_000))
    ]
    assert times_shown(ensemble("Any", rare), 50_000, 50_000) <= 2 * 1.15


def test_boundaries_in_common_are_explained_once() -> None:
    """Two intervals of data time end together, which alone is not enough."""
    readers: list[Trigger] = [Reading(every=1, evaluation_interval=10), Reading(every=1, evaluation_interval=20)]
    trigger = ensemble("All", [*readers, DataAmountTrigger(num_samples=70)])
    arrivals = stream(list(range(0, 400, 3)))
    observe = ArrayObserver(np.zeros((200, 1)))
    whole = fed(trigger, [arrivals], observe).unordered()
    assert fed(trigger, cut(arrivals, range(len(arrivals))), observe).unordered() == whole
    assert whole.seen == [70]
    both = [row for row in whole.evaluations[0] if row.reason == "2 of 3 subtriggers fired (a, b), 3 needed"]
    assert len(both) == 20 - 1, "the last vote of the first reader makes three of three"

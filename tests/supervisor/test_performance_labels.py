"""Every prediction is scored once, when its label becomes known, with the model it was made by."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.supervisor.performance.labels import Learned, PendingLabels, joined
from tests.helpers.observing import ArrayObserver

NEVER = np.iinfo(np.int64).max


def observer(label_times: list[int], gone: set[int] | None = None) -> ArrayObserver:
    """Labels are the keys; a model named by a number predicts that number."""
    keys = np.arange(len(label_times))
    return ArrayObserver(
        keys[:, None],
        keys,
        label_times=np.array(label_times, dtype=np.int64),
        predict=lambda model, rows: np.full(len(rows), int(model)),
        gone=gone,
    )


def told(learned: tuple[Learned, ...]) -> list[tuple[int, list[int]]]:
    """Keys by model."""
    for part in learned:
        assert np.array_equal(part.outcomes.predictions, np.full(len(part.outcomes), part.number))
    return [(part.number, part.outcomes.labels.tolist()) for part in learned]


def remembered(pending: PendingLabels, keys: list[int], times: list[int], model: int) -> PendingLabels:
    return pending.remember(np.array(keys), np.array(times), str(model))


def test_late_labels_by_hand() -> None:
    observe = observer([5, 30, 5, 20, NEVER])
    pending = remembered(PendingLabels(), [0, 1, 2], [1, 2, 3], 0)
    pending, learned = pending.learn(observe, clock=5, delay=None, scores=False)
    assert told(learned) == [(0, [0, 2])]
    pending = remembered(pending, [3, 4], [11, 12], 1)
    assert pending.models == {0: "0", 1: "1"}
    pending, learned = pending.learn(observe, clock=20, delay=None, scores=False)
    assert told(learned) == [(1, [3])]
    pending, learned = pending.learn(observe, clock=30, delay=None, scores=False)
    assert told(learned) == [(0, [1])]
    assert pending.models == {1: "1"}
    assert pending.keys.tolist() == [4]
    assert len(pending.forget_before(13).keys) == 0
    assert pending.forget_before(12) is pending


def test_a_delay_orders_labels_by_event_time_and_ties_by_arrival() -> None:
    observe = observer([0] * 6)
    pending = remembered(PendingLabels(), [0, 1, 2, 3, 4, 5], [7, 3, 5, 3, 9, 5], 0)
    pending, learned = pending.learn(observe, clock=17, delay=10, scores=False)
    assert told(learned) == [(0, [1, 3, 2, 5, 0])]
    _, learned = pending.learn(observe, clock=19, delay=10, scores=False)
    assert told(learned) == [(0, [4])]


def test_a_label_that_is_late_in_storage_too_is_waited_for() -> None:
    observe = observer([40])
    pending = remembered(PendingLabels(), [0], [1], 0)
    pending, learned = pending.learn(observe, clock=30, delay=10, scores=False)
    assert learned == ()
    assert told(pending.learn(observe, clock=40, delay=10, scores=False)[1]) == [(0, [0])]


def test_deleted_samples_are_forgotten() -> None:
    observe = observer([NEVER, 1, NEVER], gone={0, 1})
    pending, learned = remembered(PendingLabels(), [0, 1, 2], [1, 1, 1], 0).learn(
        observe, clock=1, delay=None, scores=False
    )
    assert learned == ()
    assert pending.keys.tolist() == [2]


def test_joined_outcomes_keep_scores() -> None:
    labels = np.array([1, 0, 1])
    observe = ArrayObserver(labels[:, None], labels, predict=lambda model, rows: np.eye(2)[[int(model)] * len(rows)])
    pending = remembered(remembered(PendingLabels(), [0, 1], [0, 0], 0), [2], [0], 1)
    for scores in (False, True):
        _, learned = pending.learn(observe, clock=0, delay=None, scores=scores)
        outcomes = joined(learned)
        assert outcomes.labels.tolist() == [1, 0, 1]
        assert outcomes.predictions.tolist() == [0, 0, 1]
        assert (outcomes.scores is not None) == scores


@settings(max_examples=60)
@given(data=st.data())
def test_everything_is_scored_once_as_a_slow_oracle_says(data: Any) -> None:
    size = data.draw(st.integers(1, 40))
    times = data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size))
    known = [time + data.draw(st.sampled_from([0, 1, 7, 30])) for time in times]
    delay = data.draw(st.sampled_from([None, 1, 10]))
    observe = observer(known, gone=data.draw(st.sets(st.integers(0, size - 1), max_size=3)))
    pending, waiting, model, start = PendingLabels(), [], 0, 0
    clock = 0
    while start < size:
        end = min(size, start + data.draw(st.integers(1, 10)))
        model += data.draw(st.integers(0, 1))
        pending = remembered(pending, list(range(start, end)), times[start:end], model)
        waiting += [(key, pending.newest) for key in range(start, end)]
        clock = max(clock, *times[start:end])
        pending, learned = pending.learn(observe, clock=clock, delay=delay, scores=False)
        pending = PendingLabels.model_validate_json(pending.model_dump_json())
        due = [(key, number) for key, number in waiting if delay is None or times[key] + delay <= clock]
        if delay is not None:
            due.sort(key=lambda item: times[item[0]])
        now = [item for item in due if known[item[0]] <= clock and item[0] not in observe.gone]
        expected = [(n, [key for key, number in now if number == n]) for n in sorted({number for _, number in now})]
        assert [(part.number, part.outcomes.labels.tolist()) for part in learned] == expected
        waiting = [item for item in waiting if item not in now and not (item in due and item[0] in observe.gone)]
        assert pending.keys.tolist() == [key for key, _ in waiting]
        start = end
    assert all(counts.max() <= 1 for counts in observe.predicted.values())


def test_a_million_waiting_labels_are_small_as_json() -> None:
    keys = np.arange(1_000_000)
    pending = PendingLabels().remember(keys, 1_600_000_000 + keys * 60, "0")
    assert len(pending.model_dump_json()) < 200_000

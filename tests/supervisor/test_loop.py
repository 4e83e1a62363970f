from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.keysets import KeySet
from modyn.core.plugins.triggers import Arrivals, Firing, Trigger
from modyn.supervisor.journal import TriggerRow
from modyn.supervisor.loop import TriggerLoop
from modyn.supervisor.triggers import DataAmountTrigger, TimeTrigger

samples = st.lists(st.integers(0, 200), min_size=1, max_size=80)
triggers = st.one_of(
    st.builds(DataAmountTrigger, num_samples=st.integers(1, 30)),
    st.builds(TimeTrigger, every=st.integers(1, 50)),
)


@dataclass
class Recorder:
    """Stands for selection and training: remembers what it was handed."""

    keys: list[list[int]] = field(default_factory=list)
    rows: list[TriggerRow] = field(default_factory=list)

    def handle(self, firing: Firing, new_data: KeySet, row: TriggerRow) -> TriggerRow:
        self.keys.append(new_data.to_array().tolist())
        return replace(row, model="m", samples=len(new_data))

    def done(self, row: TriggerRow, state: dict[str, Any]) -> None:
        self.rows.append(row)


def run(
    trigger: Trigger, times: list[int], cuts: list[int], maximum: int | None = None
) -> tuple[Recorder, TriggerLoop]:
    recorder = Recorder()
    loop = TriggerLoop(trigger, recorder.handle, recorder.done, maximum)
    edges = sorted({0, len(times), *(min(cut, len(times)) for cut in cuts)})
    for a, b in itertools.pairwise(edges):
        loop.feed(Arrivals(np.arange(a, b, dtype=np.int64), np.array(times[a:b], dtype=np.int64)))
    return recorder, loop


@given(trigger=triggers, times=samples, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_every_sample_belongs_to_at_most_one_trigger_in_order(
    trigger: Trigger, times: list[int], cuts: list[int]
) -> None:
    recorder, loop = run(trigger, times, cuts)
    handed = [key for keys in recorder.keys for key in keys]
    assert handed == list(range(len(handed)))
    assert loop.progress.samples_seen == len(times)
    assert loop.progress.data_clock == max(times)
    assert [row.trigger_index for row in recorder.rows] == list(range(len(recorder.rows)))


@given(trigger=triggers, times=samples, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_how_arrivals_are_cut_does_not_matter(trigger: Trigger, times: list[int], cuts: list[int]) -> None:
    pieces, whole = run(trigger, times, cuts)[0], run(trigger, times, [])[0]
    assert pieces.keys == whole.keys
    assert pieces.rows == whole.rows


@given(trigger=triggers, times=samples)
def test_spans_are_those_of_the_data_handed_over(trigger: Trigger, times: list[int]) -> None:
    recorder, _ = run(trigger, times, [])
    handed: list[int] = []
    for keys, row in zip(recorder.keys, recorder.rows, strict=True):
        own = [times[key] for key in keys]
        handed += own
        assert row.first_timestamp == min(own)
        assert row.last_timestamp == max(handed)  # cumulative: late data do not move it back
        assert row.new_samples == len(keys)


@given(trigger=triggers, times=samples, maximum=st.integers(1, 4), cuts=st.lists(st.integers(0, 80), max_size=3))
def test_no_trigger_after_the_maximum(trigger: Trigger, times: list[int], maximum: int, cuts: list[int]) -> None:
    limited, unlimited = run(trigger, times, cuts, maximum)[0], run(trigger, times, cuts)[0]
    assert limited.rows == unlimited.rows[:maximum]

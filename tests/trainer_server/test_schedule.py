from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modyn.core.config.pipeline import TrainingSection
from modyn.trainer_server.schedule import Schedule


def walked(n: int, size: int, drop_last: bool, epochs: int, to_pass: int | None) -> tuple[int, int, int]:
    """Oracle: (samples, batches, epochs), counted batch by batch."""
    samples = batches = epoch = 0
    while True:
        epoch += 1
        for start in range(0, n, size):
            count = min(size, n - start)
            if drop_last and count < size and n >= size:
                continue
            samples += count
            batches += 1
            if to_pass is not None and samples >= to_pass:
                return samples, batches, epoch
        if to_pass is None and epoch == epochs:
            return samples, batches, epoch


@given(
    n=st.integers(1, 60),
    size=st.integers(1, 20),
    drop_last=st.booleans(),
    epochs=st.integers(1, 4),
    to_pass=st.none() | st.integers(1, 200),
)
def test_totals_are_what_a_walk_counts(n: int, size: int, drop_last: bool, epochs: int, to_pass: int | None) -> None:
    section = TrainingSection(batch_size=size, drop_last_batch=drop_last, epochs_per_trigger=epochs)
    schedule = Schedule.of(n, section, to_pass)
    expected = walked(n, size, drop_last, epochs, to_pass)
    assert (schedule.total_samples, schedule.total_batches, schedule.epochs) == expected

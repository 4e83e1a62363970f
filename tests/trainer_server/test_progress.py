from __future__ import annotations

import pytest
import torch

from modyn.core.errors import JobFailedError
from modyn.proto.trainer_server_pb2 import TrainEvent
from modyn.trainer_server.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_reports_at_intervals_with_the_mean_loss_since_the_last(clock: list[float]) -> None:
    sent: list[bytes] = []
    progress = Progress(sent.append)
    for step in range(1, 101):
        clock[0] += 0.01
        progress.batch_done(torch.tensor(float(step)), 2)
    progress.report()
    events = [TrainEvent.FromString(message).progress for message in sent]
    assert 9 <= len(events) <= 11
    assert events[-1].samples == 200
    done = 0
    for event in events:
        steps = range(done + 1, event.batches + 1)
        if steps:
            assert event.loss == pytest.approx(sum(steps) / len(steps))
        done = event.batches
    assert done == 100


def test_records_every_n_batches(clock: list[float]) -> None:
    sent: list[bytes] = []
    progress = Progress(sent.append, record_every=4)
    for _ in range(10):
        progress.batch_done(torch.tensor(1.0), 1)
    assert [TrainEvent.FromString(message).progress.batches for message in sent] == [4, 8]


def test_epoch_losses_are_means_over_samples(clock: list[float]) -> None:
    progress = Progress(lambda _: None)
    for loss, count in [(1.0, 3), (5.0, 1)]:
        progress.batch_done(torch.tensor(loss), count)
    assert progress.epoch_done() == 2.0
    progress.batch_done(torch.tensor(7.0), 1)
    clock[0] += 1
    progress.batch_done(torch.tensor(9.0), 1)  # read by the report here, and still part of the epoch
    assert progress.epoch_done() == 8.0
    assert progress.epoch_losses == [2.0, 8.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_placed(clock: list[float], bad: float) -> None:
    progress = Progress(lambda _: None)
    for loss in (1.0, 2.0, bad, 3.0):
        progress.batch_done(torch.tensor(loss), 1)
    with pytest.raises(JobFailedError, match=f"the loss is {bad} at batch 3; lower the learning rate"):
        progress.epoch_done()

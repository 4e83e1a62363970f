from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modyn.proto.trainer_server_pb2 import Telemetry
from modyn.trainer_server import telemetry
from modyn.trainer_server.telemetry import GpuMeter, LossCurve, Stopwatch
from tests.helpers.looping import Fitted, TensorFeed, sgd


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_laps_add_up_and_what_is_added_inside_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(telemetry, "time", clock)
    watch = Stopwatch()
    watch.start()
    for _ in range(3):
        clock.now += 3
        watch.add("parse", 1)
        watch.lap("wait")
        with watch.timing("checkpoint"):
            clock.now += 2
        clock.now += 5
        watch.lap("forward")
    report = watch.report()
    assert (report.parse_seconds, report.wait_seconds) == (3, 6)
    assert (report.checkpoint_seconds, report.forward_seconds) == (6, 15)
    resumed = Stopwatch()
    resumed.resume(watch.state())
    assert resumed.report() == report


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=70),
    cuts=st.lists(st.integers(1, 69), max_size=6),
    points=st.sampled_from([2, 4, 10]),
)
def test_a_loss_curve_is_bounded_and_the_same_however_it_is_fed(
    counts: list[int], cuts: list[int], points: int
) -> None:
    losses = np.random.default_rng(len(counts)).uniform(size=len(counts))
    samples = np.array(counts)
    whole, pieces = LossCurve(points), LossCurve(points)
    whole.add(losses, samples)
    bounds = sorted({0, len(counts), *(cut for cut in cuts if cut < len(counts))})
    for start, end in itertools.pairwise(bounds):
        pieces.add(losses[start:end], samples[start:end])
        resumed = LossCurve(points)
        resumed.resume(pieces.state())
        pieces = resumed
    found = [(point.batch, point.loss) for point in pieces.points()]
    assert found == [(point.batch, point.loss) for point in whole.points()]
    assert len(found) <= points
    assert found[-1][0] == len(counts)
    start = 0
    for batch, loss in found:
        expected = np.average(losses[start:batch], weights=samples[start:batch])
        assert loss == pytest.approx(expected)
        start = batch


def test_a_cpu_has_no_numbers_of_a_gpu() -> None:
    found = Telemetry()
    meter = GpuMeter(torch.device("cpu"))
    meter.sample()
    meter.report(found)
    assert not found.HasField("gpu_utilisation")
    assert not found.HasField("gpu_memory_bytes")


SLEEP_SECONDS = 0.004


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        time.sleep(SLEEP_SECONDS)
        outputs: torch.Tensor = self.fc(inputs)
        return outputs


def test_where_the_time_of_a_training_went() -> None:
    feed = TensorFeed(torch.randn(60, 4), torch.randint(0, 2, (60,)), 4)
    options = {**sgd(lr=0.1), "epochs_per_trigger": 3, "callbacks": [{"name": "ExponentialMovingAverage"}]}
    fitted = Fitted(Slow(), feed, options, num_samples=60)
    report = fitted.progress.telemetry(curve=True)
    parts = {name: getattr(report, f"{name}_seconds") for name in ("wait", "forward", "backward", "step", "callback")}
    assert all(seconds > 0 for seconds in parts.values())
    assert parts["forward"] >= 45 * SLEEP_SECONDS
    assert max(parts["forward"], 45 * SLEEP_SECONDS) <= sum(parts.values()) <= fitted.seconds * 1.05
    assert 0 < report.samples_per_second <= 180 / (45 * SLEEP_SECONDS)
    assert len(report.losses) == report.losses[-1].batch == 45
    streamed = fitted.events[-1].progress.telemetry
    assert streamed.forward_seconds == pytest.approx(report.forward_seconds)
    assert not streamed.losses

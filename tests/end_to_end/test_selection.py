"""Selection through whole pipelines: schedules, what passes from trigger to trigger, live as in replay, and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.report import Report, without_volatile
from modyn.proto.supervisor_pb2 import Pipeline
from tests.end_to_end.test_live import eventually, start_live, what_was_trained
from tests.helpers.streams import drifting_table, write_pipeline

TABLE = drifting_table(days=6)
N = len(TABLE)
EVERY = {"id": "DataAmountTrigger", "num_samples": 40}
TRAINING = {"epochs_per_trigger": 2, "batch_size": 8}
IL = {"il_model_id": "MLP", "il_model_config": {"in_features": 4, "num_classes": 2}, "use_previous_model": True}

SELECTIONS: dict[str, dict[str, Any]] = {
    "freshness": {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 60, "tail_triggers": None},
    "replay": {"name": "ReplayStrategy", "old_ratio": 30},
    "no replacement": {
        "name": "CoresetStrategy",
        "tail_triggers": None,
        "presampling_config": {"strategy": "RandomNoReplacement", "ratio": 30},
    },
    "reused scores": {
        "name": "CoresetStrategy",
        "tail_triggers": None,
        "downsampling_config": {
            "strategy": "Loss",
            "ratio": 50,
            "sample_then_batch": True,
            "period": 0,
            "reuse_scores": True,
        },
    },
    "irreducible": {
        "name": "CoresetStrategy",
        "tail_triggers": 1,
        "downsampling_config": {
            "strategy": "RHOLoss",
            "ratio": 50,
            "holdout_set_strategy": "Simple",
            "holdout_set_ratio": 25,
            "il_training_config": IL,
            "reuse_scores": True,
        },
    },
    "schedule": {
        "name": "CoresetStrategy",
        "tail_triggers": 0,
        "warmup_triggers": 1,
        "downsampling_config": {
            "downsampling_list": [{"strategy": "InfoBatch", "ratio": 50}, {"strategy": "GradNorm", "ratio": 25}],
            "downsampling_thresholds": [1],
        },
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


def replay(client: Client, pipeline: Path, *, reuse: bool) -> Report:
    pipeline_id = client.submit(pipeline, ReplayOptions(order="arrival"), reuse=reuse)
    assert client.wait(pipeline_id).error.message == ""
    return client.report(pipeline_id)


REPEATED = {"replay", "no replacement"}
"""What others of them show too."""


@pytest.mark.parametrize(
    "selection",
    [pytest.param(name, marks=[pytest.mark.slow] if name in REPEATED else []) for name in SELECTIONS],
)
def test_live_replayed_and_again(client: Client, tmp_path: Path, selection: str) -> None:
    live_replayed_and_again(client, tmp_path, selection)


def live_replayed_and_again(client: Client, tmp_path: Path, selection: str) -> None:
    name = selection.replace(" ", "-")
    pipeline = write_pipeline(
        tmp_path,
        data={"dataset_id": name},
        trigger=EVERY,
        selection_strategy=SELECTIONS[selection],
        training=TRAINING,
        evaluation=None,
    )
    client.register_dataset(name)
    live_id = start_live(client, pipeline)
    for number, start in enumerate(range(0, N, 25)):
        client.append(name, str(number), TABLE.slice(start, 25))

    def done() -> bool:
        status = client.status(live_id)
        assert status.status == Pipeline.RUNNING, status.error.message
        return status.num_triggers == N // 40

    eventually(done, "all triggers are done")
    client.stop(live_id)
    live = client.report(live_id)
    assert len(live.triggers) == N // 40

    replayed = replay(client, pipeline, reuse=False)
    assert what_was_trained(replayed) == what_was_trained(live)
    again = replay(client, pipeline, reuse=True)
    assert again.cost.trainings_reused == len(again.triggers)
    assert without_volatile(again)["triggers"] == without_volatile(replayed)["triggers"]


def test_a_schedule_begins_after_warm_up(client: Client, tmp_path: Path) -> None:
    report = client.report(_of(client, tmp_path, "schedule"))
    names = [trigger.downsampling and trigger.downsampling.strategy for trigger in report.triggers]
    assert names[:4] == [None, "InfoBatch", "GradNorm", "GradNorm"]
    third = report.triggers[2]
    assert third.samples_trained == 2 * (third.samples // 4)


def test_scores_serve_again(client: Client, tmp_path: Path) -> None:
    triggers = client.report(_of(client, tmp_path, "reused scores")).triggers
    for trigger in triggers:
        assert trigger.downsampling is not None
        assert trigger.downsampling.samples_scored == 40
        assert trigger.downsampling.scores_reused == trigger.samples - 40


def test_what_is_held_out_stays_out(client: Client, tmp_path: Path) -> None:
    pipeline_id = _of(client, tmp_path, "irreducible")
    held: set[int] = set()
    used: set[int] = set()
    for trigger in client.report(pipeline_id).triggers:
        record = client.trained_samples(f"{pipeline_id}:{trigger.index}")
        auxiliary = pc.equal(record["epoch"], -1)
        held |= set(record.filter(auxiliary)["key"].to_pylist())
        used |= set(record.filter(pc.invert(auxiliary))["key"].to_pylist())
    assert held
    assert used
    assert not held & used


def _of(client: Client, folder: Path, selection: str) -> str:
    """The last pipeline of a selection; it is run if no test of this process has done so."""
    dataset = selection.replace(" ", "-")
    if not any(pipeline.dataset == dataset for pipeline in client.pipelines()):
        live_replayed_and_again(client, folder, selection)
    return max((p for p in client.pipelines() if p.dataset == dataset), key=lambda p: int(p.id)).id

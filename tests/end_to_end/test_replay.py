"""Whole pipelines through real services: embedded, and split over processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modyn.client import Client, ReplayOptions
from modyn.core.report import Report, without_volatile
from modyn.evaluator.baselines import BASELINES
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import (
    DAILY_AFTER_TRAINING,
    DAY,
    START,
    drifting_table,
    pipeline_tree,
    project,
    write_daily_files,
    write_pipeline,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(tmp_path_factory.mktemp("state")) as client:
        yield client


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data that all pipelines here share."""
    folder = tmp_path_factory.mktemp("stream")
    write_daily_files(folder, drifting_table())
    return folder


def over(stream: Path, folder: Path, **changes: Any) -> Path:
    """A pipeline over the shared stream."""
    data = pipeline_tree()["data"]
    data["source"]["path"] = str(stream)
    return write_pipeline(folder, data=data, **changes)


def replay(client: Client, pipeline: Path, **options: object) -> Report:
    pipeline_id = client.submit(pipeline, **options)  # type: ignore[arg-type]
    ended = client.wait(pipeline_id)
    assert ended.status == Pipeline.COMPLETED, ended.error.message
    return client.report(pipeline_id)


def test_triggers_windows_and_scores_of_a_replay(client: Client, stream: Path, tmp_path: Path) -> None:
    report = replay(client, over(stream, tmp_path))
    # 12 days, one boundary every three days; what is left after day 9 does not trigger
    assert [trigger.timestamp for trigger in report.triggers] == [START + n * DAY for n in (3, 6, 9)]
    assert [trigger.new_samples for trigger in report.triggers] == [120, 120, 120]
    assert [trigger.samples_trained for trigger in report.triggers] == [360, 360, 360]
    assert len({trigger.model for trigger in report.triggers}) == 3
    assert report.run.samples_seen == 480
    assert len(report.windows) == 12
    score = report.composite["daily"]["drifting"]["Accuracy"]
    assert score.windows_without_model == 3
    assert score.windows_scored == 9
    assert score.currently_active is not None
    assert score.currently_trained is not None
    assert score.currently_trained > score.currently_active  # it has seen the windows it is scored on
    assert set(score.baselines) == set(BASELINES)
    assert len(report.evaluations) == 3 * 12
    assert report.cost.trainings == 3
    assert report.fixed_cost.first_batch_ms_median is not None


def test_two_runs_in_fresh_states_are_equal(stream: Path, tmp_path: Path) -> None:
    pipeline = over(stream, tmp_path)
    reports = []
    for state in ("first", "second"):
        with Client.embedded(tmp_path / state) as client:
            reports.append(replay(client, pipeline, reuse=False))
    assert [trigger.model for trigger in reports[0].triggers] == [trigger.model for trigger in reports[1].triggers]
    assert without_volatile(reports[0]) == without_volatile(reports[1])


def test_a_second_run_with_reuse_trains_nothing_and_reports_the_same(
    client: Client, stream: Path, tmp_path: Path
) -> None:
    pipeline = over(stream, tmp_path, training={"epochs_per_trigger": 2, "seed": 5})
    first = replay(client, pipeline)
    second = replay(client, pipeline)
    assert first.cost.trainings_reused == 0
    assert second.cost.trainings_reused == second.cost.trainings == 3
    assert without_volatile(first) == without_volatile(second)
    third = replay(client, pipeline, reuse=False)
    assert third.cost.trainings_reused == 0
    assert without_volatile(first) == without_volatile(third)


def test_maximum_triggers_still_covers_all_windows(client: Client, stream: Path, tmp_path: Path) -> None:
    pipeline = over(stream, tmp_path)
    whole, once = replay(client, pipeline), replay(client, pipeline, maximum_triggers=1)
    assert [t.model for t in once.triggers] == [t.model for t in whole.triggers][:1]
    assert len(once.windows) == len(whole.windows)
    scores = [r.composite["daily"]["drifting"]["Accuracy"] for r in (whole, once)]
    assert scores[0].windows_scored == scores[1].windows_scored
    assert scores[0].currently_active is not None
    assert scores[1].currently_active is not None
    assert scores[0].currently_active > scores[1].currently_active  # the stream drifts


def test_start_and_stop_restrict_the_replay(client: Client, stream: Path, tmp_path: Path) -> None:
    options = ReplayOptions(start=START + 2 * DAY, stop=START + 9 * DAY)
    report = replay(client, over(stream, tmp_path), mode=options)
    assert report.run.samples_seen == 7 * 40
    assert [trigger.timestamp for trigger in report.triggers] == [START + 5 * DAY, START + 8 * DAY]
    assert report.triggers[0].first_timestamp == START + 2 * DAY


def test_from_scratch_and_warm_start_differ_after_the_first_model(client: Client, stream: Path, tmp_path: Path) -> None:
    training = {"epochs_per_trigger": 1, "batch_size": 16, "threads": 1}
    warm = replay(client, over(stream, tmp_path, training=training))
    cold = replay(client, over(stream, tmp_path, training={**training, "use_previous_model": False}))
    assert warm.triggers[0].model == cold.triggers[0].model
    assert warm.triggers[1].model != cold.triggers[1].model


def test_after_training_evaluation_gives_the_same_scores(client: Client, stream: Path, tmp_path: Path) -> None:
    after_pipeline = replay(client, over(stream, tmp_path))
    after_training = replay(
        client, over(stream, tmp_path, evaluation={"handlers": [DAILY_AFTER_TRAINING]}), reuse=False
    )
    assert after_training.composite == after_pipeline.composite
    assert after_training.windows == after_pipeline.windows
    assert after_training.evaluations == after_pipeline.evaluations


def test_tail_triggers_select_from_earlier_triggers(client: Client, stream: Path, tmp_path: Path) -> None:
    sizes = {}
    for tail in (0, 1, None):
        policy = {"name": "NewDataStrategy", "tail_triggers": tail}
        report = replay(client, over(stream, tmp_path, selection_strategy=policy, evaluation=None))
        sizes[tail] = [trigger.samples for trigger in report.triggers]
    assert sizes == {0: [120, 120, 120], 1: [120, 240, 240], None: [120, 240, 360]}


def test_pipelines_run_side_by_side(client: Client, tmp_path: Path) -> None:
    paths = [project(tmp_path / str(i), training={"seed": i, "threads": 1}) for i in range(3)]
    datasets = []
    for i, path in enumerate(paths):  # one name per folder: a dataset has one source
        path.write_text(path.read_text().replace("dataset_id: drifting", f"dataset_id: side-{i}"))
        datasets.append(f"side-{i}")
    ids = [client.submit(path) for path in paths]
    ended = [client.wait(pipeline_id) for pipeline_id in ids]
    assert [pipeline.status for pipeline in ended] == [Pipeline.COMPLETED] * 3
    assert [client.report(i).pipeline.dataset for i in ids] == datasets

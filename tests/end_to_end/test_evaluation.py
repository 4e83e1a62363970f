"""Evaluating a pipeline that has ended: the same scores as in the pipeline, and nothing is lost if things go wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from modyn.client import Client
from modyn.client.settings import evaluation_settings
from modyn.core.catalog import Catalog
from modyn.core.errors import ConflictError, InvalidInputError, ModynError, NotFoundError
from modyn.core.plugins.evaluation import Window
from modyn.core.report import Report
from modyn.proto.supervisor_pb2 import Pipeline, PipelineEvent
from modyn.supervisor.evaluation import Evaluations
from modyn.supervisor.journal import Journal, WindowRow
from tests.helpers.streams import DAY, START, drifting_table, pipeline_tree, project, write_pipeline

TABLE = drifting_table()
TIMES = TABLE["timestamp"].to_numpy()
LABELS = TABLE["label"].to_numpy()

EVERY_TWO_DAYS = {"name": "two days", "strategy": {"type": "SlicingEvalStrategy", "eval_every": "2d"}}
MANUAL = {**EVERY_TWO_DAYS, "execution_time": "manual"}
DAILY = {"name": "daily", "models": "matrix", "strategy": {"type": "SlicingEvalStrategy", "eval_every": "1d"}}


BETWEEN = "BetweenTwoTriggersEvalStrategy"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[Client]:
    with Client.embedded(state) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    project(folder, TABLE)
    return folder


def replay(client: Client, folder: Path, *handlers: Mapping[str, Any], **section: Any) -> str:
    evaluation = {"handlers": [dict(handler) for handler in handlers], **section} if handlers else None
    pipeline_id = client.submit(write_pipeline(folder, evaluation=evaluation))
    ended = client.wait(pipeline_id)
    assert ended.status == Pipeline.COMPLETED, ended.error.message
    return pipeline_id


def evaluate(client: Client, pipeline_id: str, *arguments: Any, **options: Any) -> list[PipelineEvent]:
    events = list(client.evaluate(pipeline_id, *arguments, **options))
    assert events[-1].pipeline.id == pipeline_id
    return events


def of_handler(report: Report, name: str) -> tuple[Any, ...]:
    """All that a report says of a handler, but for its name."""
    return (
        report.composite[name],
        [window.model_copy(update={"handler": ""}) for window in report.windows if window.handler == name],
        [score.model_copy(update={"handler": ""}) for score in report.evaluations if score.handler == name],
        [part.model_copy(update={"handler": ""}) for part in report.transfer if part.handler == name],
        [part.model_copy(update={"handler": ""}) for part in report.confusion if part.handler == name],
    )


def test_what_is_evaluated_later_equals_what_the_pipeline_would_have_scored(client: Client, folder: Path) -> None:
    in_pipeline = client.report(replay(client, folder, DAILY, EVERY_TWO_DAYS))
    pipeline_id = replay(client, folder, DAILY, MANUAL)
    before = client.report(pipeline_id)
    assert "two days" not in before.composite
    evaluate(client, pipeline_id)
    report = client.report(pipeline_id)
    assert of_handler(report, "two days") == of_handler(in_pipeline, "two days")
    assert of_handler(report, "daily") == of_handler(in_pipeline, "daily") == of_handler(before, "daily")
    # what is done is not done again, but where that is wanted
    assert not any(event.HasField("evaluation") for event in evaluate(client, pipeline_id))
    assert client.report(pipeline_id).cost.samples_scored == report.cost.samples_scored
    events = evaluate(client, pipeline_id, handlers=["daily"], again=True)
    assert {event.evaluation.handler for event in events if event.HasField("evaluation")} == {"daily"}
    again = client.report(pipeline_id)
    assert of_handler(again, "daily") == of_handler(report, "daily")
    assert again.cost.samples_scored_reused > report.cost.samples_scored_reused
    assert again.cost.trainings == before.cost.trainings
    assert again.fixed_cost.overhead_seconds == pytest.approx(before.fixed_cost.overhead_seconds)


def test_a_handler_named_later_is_kept_under_its_name(client: Client, folder: Path) -> None:
    pipeline_id = replay(client, folder, DAILY)
    of_pipeline = of_handler(client.report(pipeline_id), "daily")
    later = {"handlers": [{**DAILY, "name": "later"}]}
    evaluate(client, pipeline_id, later)
    report = client.report(pipeline_id)
    assert of_handler(report, "later") == of_pipeline
    assert report.evaluation is not None
    assert [(h.name, h.added_at is not None) for h in report.evaluation.handlers] == [("daily", False), ("later", True)]
    assert not any(event.HasField("evaluation") for event in evaluate(client, pipeline_id, later))
    for name in ("daily", "later"):
        other = {"handlers": [{**DAILY, "name": name, "strategy": {**EVERY_TWO_DAYS["strategy"]}}]}  # type: ignore[dict-item]
        with pytest.raises(ConflictError, match=rf"{name}.*another name\n  handler.strategy.eval_every: '1d' there"):
            evaluate(client, pipeline_id, other)
    with pytest.raises(NotFoundError, match="'x'; expected one of daily, later"):
        evaluate(client, pipeline_id, handlers=["x"])
    wrong = "handlers:\n- name: h\n  models: some\n  strategy: {type: SlicingEvalStrategy}\n"
    with pytest.raises(InvalidInputError) as error:
        evaluate(client, pipeline_id, wrong)
    assert "2 problems" in error.value.message
    assert "handlers[0].models: value 'some'" in error.value.message
    assert "(line 3)" in error.value.message
    assert client.report(pipeline_id).evaluation == report.evaluation


def test_windows_between_triggers_are_those_of_all_trainings(client: Client, folder: Path) -> None:
    between = {"name": "between", "models": "matrix", "strategy": {"type": BETWEEN}}
    at_the_end = client.report(replay(client, folder, between))
    at_once = client.report(replay(client, folder, {**between, "execution_time": "after_training"}))
    firsts = [trigger.first_timestamp for trigger in at_the_end.triggers]
    assert [w.start for w in at_the_end.windows] == [*firsts, (at_the_end.triggers[-1].last_timestamp or 0) + 1]
    assert of_handler(at_once, "between") == of_handler(at_the_end, "between")
    assert at_once.cost.bytes_read > at_once.cost.samples_trained
    assert at_once.cost.model_bytes > 0


def test_windows_that_an_interrupted_pipeline_laid_too_early_go(client: Client, folder: Path, state: Path) -> None:
    between = {"name": "between", "execution_time": "after_training", "strategy": {"type": BETWEEN}}
    pipeline_id = replay(client, folder, between)
    before = client.report(pipeline_id)
    journal = Journal(Catalog(f"sqlite:///{state / 'catalog.db'}"))
    early = Window(int(before.triggers[0].last_timestamp or 0) + 1, int(TIMES[-1]) + 1, 0)
    rest = WindowRow("between", "drifting", early, 3, 0, baselines=True)
    journal.add_scores(int(pipeline_id), [rest], [])
    assert len(client.report(pipeline_id).windows) == len(before.windows) + 1
    evaluate(client, pipeline_id)
    assert client.report(pipeline_id).windows == before.windows


def test_a_model_whose_evaluation_fails_can_be_evaluated_later(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise InvalidInputError("the evaluation is wrong")

    at_once = {**DAILY, "execution_time": "after_training"}
    with monkeypatch.context() as patch:
        patch.setattr(Evaluations, "after_training", fail)
        pipeline_id = client.submit(write_pipeline(folder, evaluation={"handlers": [at_once]}))
        ended = client.wait(pipeline_id)
    assert (ended.status, ended.error.message) == (Pipeline.FAILED, "the evaluation is wrong")
    [trigger] = client.report(pipeline_id).triggers
    assert (trigger.model is None, trigger.error) == (False, None)
    evaluate(client, pipeline_id)
    assert len(client.report(pipeline_id).evaluations) == 12


def outputs(client: Client, report: Report) -> list[npt.NDArray[np.float32]]:
    """Of the model of each trigger for each sample, one by one."""
    features = torch.from_numpy(np.stack([TABLE[f"x{i}"].to_numpy() for i in range(4)], axis=1))
    found = []
    for trigger in report.triggers:
        assert trigger.model is not None
        model = client.load_model(trigger.model)
        with torch.no_grad():
            found.append(np.concatenate([model(row[None]).numpy() for row in features]))
    return found


def test_scores_equal_a_computation_by_hand(client: Client, folder: Path) -> None:
    pipeline_id = replay(client, folder)
    offsets = {"type": "OffsetEvalStrategy", "offsets": ["-1d", "+2d", "inf"]}
    section = {
        "handlers": [DAILY, {"name": "offsets", "strategy": offsets}],
        "datasets": [{"dataset_id": "drifting", "metrics": [{"name": "Accuracy"}, {"name": "RocAuc"}]}],
        "training_latency": {"seconds_per_training": 2.5 * DAY},
    }
    evaluate(client, pipeline_id, section)
    report = client.report(pipeline_id)
    scores = outputs(client, report)
    right = [(output.argmax(axis=1) == LABELS) for output in scores]
    days = (TIMES - START) // DAY
    matrix: dict[tuple[int, int], Any] = {
        (score.trigger, (score.start - START) // DAY): score.metrics["Accuracy"]
        for score in report.evaluations
        if score.handler == "daily"
    }
    assert matrix == {
        (trigger, day): pytest.approx(right[trigger][days == day].mean()) for trigger in range(3) for day in range(12)
    }
    evaluate(client, pipeline_id, {"handlers": [{**DAILY, "name": "at once"}], "confidence": None})
    added = client.report(pipeline_id).evaluation
    assert added is not None
    assert added.training_latency == "modelled"
    assert [(h.name, h.training_latency, h.confidence) for h in added.handlers] == [
        ("daily", "modelled", 0.95),
        ("offsets", "modelled", 0.95),
        ("at once", "zero", None),
    ]
    assert [text for name, text in evaluation_settings(client.report(pipeline_id)) if name == "but at once"] == [
        "zero: a model counts as active at once; no intervals"
    ]
    # 2.5 days after days 3, 6 and 9, none while another runs
    assert [t.live_from for t in report.triggers] == [START + n * DAY for n in (5.5, 8.5, 11.5)]
    active = {day: 0 if day < 9 else 1 for day in range(6, 12)}
    composite = report.composite["daily"]["drifting"]["Accuracy"]
    assert composite.currently_active == pytest.approx(
        np.mean([matrix[trigger, day] for day, trigger in active.items()])
    )
    assert (composite.windows_scored, composite.windows_without_model) == (6, 6)
    [confusion] = [part for part in report.confusion if part.handler == "daily"]
    rows = [(LABELS[days == day], scores[trigger][days == day].argmax(axis=1)) for day, trigger in active.items()]
    counts = sum(np.histogram2d(truth, said, bins=[[-0.5, 0.5, 1.5]] * 2)[0] for truth, said in rows)
    assert (confusion.classes, confusion.counts) == ([0, 1], counts.tolist())

    ends = [int(t.last_timestamp or 0) for t in report.triggers]
    firsts = [int(t.first_timestamp or 0) for t in report.triggers]
    spans = {
        "-1d": [(first - DAY, first) for first in firsts],
        "+2d": [(end + 1, end + 1 + 2 * DAY) for end in ends],
        "inf": [(end + 1, TIMES[-1] + 1) for end in ends],
    }
    assert "offsets" not in report.composite
    for part in report.offsets:
        if part.metric == "Accuracy":
            within = [(start <= TIMES) & (end > TIMES) for start, end in spans[part.offset]]
            own = [hits[mask].mean() for hits, mask in zip(right, within, strict=True) if mask.any()]
            assert part.models == len(own)
            assert part.mean == pytest.approx(np.mean(own))
    assert {part.offset for part in report.offsets} == set(spans)
    assert all(window.certification == "cross_validation" for window in report.windows if window.samples)


def test_a_model_that_is_gone_is_reported_and_the_rest_is_scored(client: Client, folder: Path) -> None:
    pipeline_id = client.submit(write_pipeline(folder, evaluation=None, training={"seed": 99, "threads": 1}))
    assert client.wait(pipeline_id).status == Pipeline.COMPLETED
    gone = client.report(pipeline_id).triggers[1].model
    assert gone is not None
    client.delete_models([gone])
    evaluate(client, pipeline_id, {"handlers": [DAILY]})
    report = client.report(pipeline_id)
    assert {score.trigger for score in report.evaluations} == {0, 2}
    assert len(report.evaluations) == 24
    [failure] = report.failures
    assert "the model of trigger 1 on 'drifting'" in failure
    evaluate(client, pipeline_id)  # tried again, and said once
    assert client.report(pipeline_id).failures == [failure]


def test_what_cannot_be_evaluated_is_refused(client: Client, folder: Path) -> None:
    pipeline_id = replay(client, folder)
    with pytest.raises(InvalidInputError, match=f"pipeline {pipeline_id} has no evaluation handlers"):
        evaluate(client, pipeline_id)
    # what can never be scored is not kept
    wrong = {"handlers": [DAILY], "datasets": [{"dataset_id": "drifting", "slices": ["nothere"]}]}
    with pytest.raises(InvalidInputError, match="nothere"):
        evaluate(client, pipeline_id, wrong)
    with pytest.raises(InvalidInputError, match=f"pipeline {pipeline_id} has no evaluation handlers"):
        evaluate(client, pipeline_id)
    simulated = client.submit(write_pipeline(folder, evaluation=None), simulate=True)
    assert client.wait(simulated).status == Pipeline.COMPLETED
    with pytest.raises(ConflictError, match="only simulated"):
        evaluate(client, simulated)
    with pytest.raises(NotFoundError, match="4711"):
        evaluate(client, "4711")


SERVING = re.compile(r" at (\S+)$")

SLOW_LABELS = """
def label_transformer_function(labels):
    import pathlib, time
    deadline = time.monotonic() + 20
    while not pathlib.Path({go!r}).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return labels
"""


@contextmanager
def served(state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real server in a process of its own, and its address; killed in the end."""
    command = [sys.executable, "-m", "modyn.client.cli", "serve", "--address", "127.0.0.1:0", "--state", str(state)]
    process = subprocess.Popen(
        [*command, "--allow-user-code"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    with process.stdout as lines:
        try:
            address = next((m[1] for line in lines if (m := SERVING.search(line.strip()))), None)
            assert address is not None, f"it ended with {process.wait()}"
            yield process, address
        finally:
            process.kill()
            process.wait()


def test_an_evaluation_whose_server_is_killed_goes_on(tmp_path: Path) -> None:
    data = pipeline_tree()["data"]
    data["source"]["path"] = str(tmp_path / "data")
    pipeline = project(tmp_path, TABLE, data=data, evaluation=None)
    go = tmp_path / "go"
    datasets = [
        {"dataset_id": "drifting"},
        {"dataset_id": "slow", "label_transformer_function": SLOW_LABELS.format(go=str(go))},
    ]
    section = {"handlers": [DAILY], "datasets": datasets}
    with served(tmp_path / "state") as (server, address), Client(address) as client:
        client.register_dataset("slow")
        client.append("slow", "all", TABLE)
        pipeline_id = client.submit(pipeline)
        assert client.wait(pipeline_id).status == Pipeline.COMPLETED
        events = client.evaluate(pipeline_id, section)
        drifting = (event for event in events if event.evaluation.dataset == "drifting" and event.evaluation.done)
        assert next(drifting, None) is not None
        with pytest.raises(ConflictError, match="is being evaluated already"):
            evaluate(client, pipeline_id, section)
        server.send_signal(signal.SIGKILL)
        assert server.wait(timeout=20) == -signal.SIGKILL
        with pytest.raises(ModynError):
            list(events)
    go.touch()
    with served(tmp_path / "state") as (_, address), Client(address) as client:
        killed = client.report(pipeline_id)
        assert {window.dataset for window in killed.windows} == {"drifting"}
        missing = evaluate(client, pipeline_id)
        assert {event.evaluation.dataset for event in missing if event.HasField("evaluation")} == {"slow"}
        undisturbed = {**section, "handlers": [{**DAILY, "name": "undisturbed"}]}
        evaluate(client, pipeline_id, undisturbed, reuse=False)
        report = client.report(pipeline_id)
    assert of_handler(report, "daily") == of_handler(report, "undisturbed")
    assert len([score for score in report.evaluations if score.handler == "daily"]) == 2 * 3 * 12

"""The supervisor's rpcs over a real server, as far as they need no other service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from modyn.client import Client
from modyn.core.catalog import Catalog
from modyn.core.errors import ConflictError, InvalidInputError, NotAllowedError, NotFoundError
from modyn.core.peers import Addresses, Peers
from modyn.core.plugins.evaluation import Window
from modyn.core.rpc import RpcServer
from modyn.proto import supervisor_pb2 as pb
from modyn.proto.supervisor_pb2_grpc import SupervisorStub
from modyn.supervisor import journal as j
from modyn.supervisor.journal import Journal, PipelineRow, ScoreRow, TriggerRow, WindowRow
from modyn.supervisor.options import RunOptions
from modyn.supervisor.service import SupervisorService
from modyn.supervisor.triggers import TimeTrigger
from modyn.supervisor.triggers.drift import DataDriftTrigger

YAML = """
pipeline: {name: p}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 2, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 5}
evaluation:
  handlers: [{name: h, models: matrix, strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
"""

RELATIVE_YAML = YAML.replace("{dataset_id: d}", "{dataset_id: d, source: {format: parquet, path: data}}")


ASKS_MODELS_YAML = YAML.replace(
    "{id: DataAmountTrigger, num_samples: 5}",
    "{id: DataDriftTrigger, metrics: {mmd: {id: MMD, decision_criterion: {id: HypothesisTestCriterion}}}}",
).replace("DataDriftTrigger", DataDriftTrigger.__name__)


@pytest.fixture
def address(catalog: Catalog) -> Iterator[str]:
    peers = Peers(Addresses.all_at("127.0.0.1:1"))
    service = SupervisorService(catalog, peers, allow_user_code=False)
    server = RpcServer("127.0.0.1:0", [service.add_to])
    server.start()
    yield server.address
    service.close()
    server.stop()
    peers.close()


@pytest.fixture
def stub(address: str) -> Iterator[SupervisorStub]:
    peers = Peers(Addresses.all_at(address))
    yield peers.supervisor
    peers.close()


def ended_pipeline(journal: Journal, status: str = j.COMPLETED) -> PipelineRow:
    return journal.create_pipeline(
        PipelineRow(0, "p", "d", status, False, YAML, "event", time.time(), [], ended_at=time.time())
    )


def test_a_report_larger_than_a_message_arrives_whole(address: str, catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = ended_pipeline(journal)
    trigger = TriggerRow(0, 0, "r", 5, first_timestamp=0, last_timestamp=0, model="m")
    journal.add_triggers(row.id, [trigger], cursor=None, trigger_state={})
    windows = [WindowRow("h", "d", Window(i * 10, i * 10 + 10, i * 10), 5, 0) for i in range(4000)]
    scores = [ScoreRow("h", "d", window.window, "trigger:0", "Accuracy", 0.5) for window in windows]
    journal.add_scores(row.id, windows, scores)
    with Client(address) as client:
        report = client.report(str(row.id))
    assert len(report.model_dump_json()) > 1 << 20
    assert [window.start for window in report.windows] == [i * 10 for i in range(4000)]
    assert len(report.evaluations) == 4000


def test_watching_a_pipeline_of_an_earlier_server_says_how_it_ended(stub: SupervisorStub, catalog: Catalog) -> None:
    row = ended_pipeline(Journal(catalog))
    [event] = stub.WatchPipeline(pb.WatchPipelineRequest(id=str(row.id)))
    assert event.pipeline.status == pb.Pipeline.COMPLETED


def test_stopping_an_ended_pipeline_changes_nothing(stub: SupervisorStub, catalog: Catalog) -> None:
    row = ended_pipeline(Journal(catalog))
    assert stub.StopPipeline(pb.StopPipelineRequest(id=str(row.id), wait=True)).status == pb.Pipeline.COMPLETED


def test_unknown_and_malformed_ids(stub: SupervisorStub) -> None:
    with pytest.raises(NotFoundError, match="12"):
        stub.GetPipeline(pb.PipelineRef(id="12"))
    with pytest.raises(InvalidInputError, match="'x'"):
        stub.StopPipeline(pb.StopPipelineRequest(id="x"))
    with pytest.raises(NotFoundError, match="12"):
        stub.FirePipeline(pb.FirePipelineRequest(id="12"))
    with pytest.raises(InvalidInputError, match="'x'"):
        stub.FirePipeline(pb.FirePipelineRequest(id="x"))


@pytest.mark.parametrize("status", [j.COMPLETED, j.STOPPED, j.FAILED, j.INTERRUPTED])
def test_only_a_running_pipeline_can_be_triggered(stub: SupervisorStub, catalog: Catalog, status: str) -> None:
    row = ended_pipeline(Journal(catalog), status)
    with pytest.raises(ConflictError, match=f"pipeline {row.id} is {status}; only a running one can be triggered"):
        stub.FirePipeline(pb.FirePipelineRequest(id=str(row.id)))


@pytest.mark.parametrize("status", j.UNFINISHED)
def test_a_pipeline_that_has_not_ended_is_not_evaluated(catalog: Catalog, stub: SupervisorStub, status: str) -> None:
    row = ended_pipeline(Journal(catalog), status)
    with pytest.raises(ConflictError, match=f"pipeline {row.id} is {status}.*wait for its end, or stop it"):
        list(stub.EvaluatePipeline(pb.EvaluatePipelineRequest(id=str(row.id))))


def test_relative_paths_of_an_evaluation_are_for_servers_that_allow_them(
    catalog: Catalog, stub: SupervisorStub
) -> None:
    row = ended_pipeline(Journal(catalog))
    inline = """
handlers: [{strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
datasets: [{dataset_id: e, bytes_parser_function: "def bytes_parser_function(data): return data"}]
"""
    requests = [
        pb.EvaluatePipelineRequest(id=str(row.id), base_path="/somewhere"),
        pb.EvaluatePipelineRequest(id=str(row.id), evaluation_yaml=inline),
    ]
    for request in requests:
        with pytest.raises(NotAllowedError):
            list(stub.EvaluatePipeline(request))
    assert Journal(catalog).handlers(row.id) == []


def test_listings_say_what_was_only_simulated(stub: SupervisorStub, catalog: Catalog) -> None:
    journal = Journal(catalog)
    ended_pipeline(journal)
    row = ended_pipeline(journal)
    simulated = journal.create_pipeline(replace(row, id=0, simulated=True))
    described = {p.id: p.simulated for p in stub.ListPipelines(pb.ListPipelinesRequest()).pipelines}
    assert described == {"1": False, "2": False, str(simulated.id): True}


def test_listings_say_what_is_a_baseline_of_what(stub: SupervisorStub, catalog: Catalog) -> None:
    journal = Journal(catalog)
    row = ended_pipeline(journal)
    journal.create_pipeline(replace(row, id=0, baseline="uniform", baseline_of=row.id))
    plain, baseline = stub.ListPipelines(pb.ListPipelinesRequest()).pipelines
    assert (plain.HasField("baseline_of"), plain.baseline) == (False, "")
    assert (baseline.baseline_of, baseline.baseline) == ("1", "uniform")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"baseline_of": "77"}, NotFoundError, "77"),
        ({"baseline_of": "x"}, InvalidInputError, "'x'"),
        ({"baseline_of": "2"}, InvalidInputError, "pipeline 2 is a baseline itself, of pipeline 1"),
        ({"baseline": "random"}, InvalidInputError, "baseline 'random': expected one of uniform, fewer_epochs"),
        ({"live": pb.Live()}, InvalidInputError, "replay it"),
        ({"simulate": True}, InvalidInputError, "replay it"),
    ],
)
def test_a_baseline_that_compares_nothing_is_refused(
    stub: SupervisorStub, catalog: Catalog, changes: dict[str, object], error: type[Exception], text: str
) -> None:
    journal = Journal(catalog)
    row = ended_pipeline(journal)
    journal.create_pipeline(replace(row, id=0, baseline="uniform", baseline_of=row.id))
    fields: dict[str, object] = {"pipeline_yaml": YAML, "baseline_of": "1", "baseline": "uniform", **changes}
    with pytest.raises(error, match=text):
        stub.SubmitPipeline(pb.SubmitPipelineRequest(**fields))  # type: ignore[arg-type]
    assert len(journal.pipelines()) == 2


def test_a_baseline_belongs_to_a_pipeline(stub: SupervisorStub, catalog: Catalog) -> None:
    with pytest.raises(InvalidInputError, match="without baseline_of"):
        stub.SubmitPipeline(pb.SubmitPipelineRequest(pipeline_yaml=YAML, baseline="uniform"))
    assert Journal(catalog).pipelines() == []


class CostTrigger(TimeTrigger):
    """Of a family that decides by what trainings take."""

    plugin_name = "CostTrigger"

    @property
    def needs_costs(self) -> bool:
        return True


def test_a_trigger_that_needs_costs_cannot_be_simulated() -> None:
    trigger = CostTrigger(every="1d")
    RunOptions().check_trigger(trigger)
    with pytest.raises(InvalidInputError, match=r"CostTrigger decides by what trainings take.*cost_model"):
        RunOptions(simulate=True).check_trigger(trigger)
    RunOptions(simulate=True).check_trigger(TimeTrigger(every="1d"))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"maximum_triggers": 0}, InvalidInputError, "--maximum-triggers 0"),
        ({"replay": pb.Replay(start=10, stop=10)}, InvalidInputError, "--stop-replay-at 10"),
        ({"replay": pb.Replay(start_key=5, end_key=5)}, InvalidInputError, "--end-key 5"),
        ({"live": pb.Live(start_key=-1)}, InvalidInputError, "--start-key -1"),
        ({"base_path": "/somewhere"}, NotAllowedError, "--allow-user-code"),
        ({"pipeline_yaml": "pipeline: [1"}, InvalidInputError, "p.yaml"),
        ({"pipeline_yaml": RELATIVE_YAML}, InvalidInputError, "data.source.path: path 'data' is relative"),
        ({"live": pb.Live(), "simulate": True}, InvalidInputError, "over the history of a dataset"),
        (
            {"pipeline_yaml": ASKS_MODELS_YAML, "simulate": True},
            InvalidInputError,
            "cannot be simulated without training",
        ),
    ],
)
def test_a_submission_that_cannot_run_leaves_no_pipeline(
    stub: SupervisorStub, changes: dict[str, object], error: type[Exception], text: str
) -> None:
    fields: dict[str, object] = {"pipeline_yaml": YAML, "yaml_name": "p.yaml", "replay": pb.Replay(), **changes}
    if "live" in changes:
        del fields["replay"]
    with pytest.raises(error, match=text):
        stub.SubmitPipeline(pb.SubmitPipelineRequest(**fields))  # type: ignore[arg-type]
    assert list(stub.ListPipelines(pb.ListPipelinesRequest()).pipelines) == []


def test_a_pipeline_whose_services_cannot_be_reached_fails_with_their_address(catalog: Catalog) -> None:
    nobody = Peers(Addresses.all_at("127.0.0.1:1"), connect_timeout_seconds=0.2)
    service = SupervisorService(catalog, nobody, allow_user_code=False)
    server = RpcServer("127.0.0.1:0", [service.add_to])
    server.start()
    peers = Peers(Addresses.all_at(server.address))
    try:
        submitted = peers.supervisor.SubmitPipeline(pb.SubmitPipelineRequest(pipeline_yaml=YAML, replay=pb.Replay()))
        events = list(peers.supervisor.WatchPipeline(pb.WatchPipelineRequest(id=submitted.id)))
        assert events[-1].pipeline.status == pb.Pipeline.FAILED
        assert "127.0.0.1:1" in events[-1].pipeline.error.message
    finally:
        peers.close()
        service.close()
        server.stop()

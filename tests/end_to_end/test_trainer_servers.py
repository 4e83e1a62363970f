"""Two trainer servers with one catalog: one of them ends in the middle of a training, and nothing is lost."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from modyn.client import Client
from modyn.client.server import Server
from modyn.core.peers import Addresses
from modyn.core.state import StateDirectory
from modyn.proto.supervisor_pb2 import Pipeline
from tests.helpers.streams import project

pytestmark = pytest.mark.slow


def test_one_ends_in_the_middle_of_a_training(tmp_path: Path, postgres_url: str) -> None:
    pipeline = project(
        tmp_path, training={"epochs_per_trigger": 150, "batch_size": 16, "record_loss_every": 20}, evaluation=None
    )
    pipeline.write_text(pipeline.read_text().replace("path: data", f"path: {tmp_path / 'data'}"))
    with ExitStack() as stack:

        def serve(folder: str, services: tuple[str, ...], peers: Addresses) -> Server:
            server = Server(
                StateDirectory(tmp_path / folder),
                services=services,
                address="127.0.0.1:0",
                catalog_url=postgres_url,
                peers=peers,
                allow_user_code=False,
                what="test",
            )
            return stack.enter_context(server)

        data = serve("state", ("storage", "selector", "evaluator"), Addresses.all_at("")).address
        trainers = [serve(name, ("trainer_server",), Addresses(data, data, "", "", "")) for name in ("a", "b")]
        both = Addresses(data, data, ",".join(trainer.address for trainer in trainers), data, "")
        supervisor = serve("state", ("supervisor",), both)

        with Client(supervisor.address) as client:
            first = client.submit(pipeline)
            notices = []
            for event in client.watch(first):
                if event.HasField("notice"):
                    notices.append(event.notice)
                if event.training.trigger_index == 1 and event.training.samples > 0 and not event.training.done:
                    trainers[0].close()  # as SIGTERM would; again does nothing
            assert client.status(first).status == Pipeline.COMPLETED
            report = client.report(first)
            assert [notice for notice in notices if "another one trains" in notice and trainers[0].address in notice]

            again = client.submit(pipeline)
            assert client.wait(again).status == Pipeline.COMPLETED
            repeated = client.report(again)
        with Client(Addresses(data, data, trainers[1].address, data, supervisor.address)) as client:
            described = client.models(first)

    assert len(report.triggers) > 2
    assert all(trigger.reused for trigger in repeated.triggers)  # what the other one had trained too
    assert [trigger.model for trigger in repeated.triggers] == [trigger.model for trigger in report.triggers]
    assert {model.model for model in described} == {trigger.model for trigger in report.triggers}

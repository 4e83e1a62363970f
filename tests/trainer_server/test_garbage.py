"""What trainings leave: what their lineage names, and what may be removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from modyn.core.catalog import Catalog
from modyn.core.state import StateDirectory
from modyn.proto.common_pb2 import CollectGarbageRequest
from modyn.proto.trainer_server_pb2 import DownsamplingResult, TrainResult
from modyn.trainer_server.garbage import collect, references
from modyn.trainer_server.plain import plain
from modyn.trainer_server.store import LineageRow, TrainingStore

HOUR = 3600.0


def old(path: Path, hours: float) -> None:
    moment = time.time() - hours * HOUR
    os.utime(path, (moment, moment))


def test_lineage_names_models_data_and_what_goes_with_a_model(catalog: Catalog) -> None:
    store = TrainingStore(catalog)
    result = TrainResult(optimizer_state="state", downsampling=DownsamplingResult(scores="scores"))
    row = LineageRow("1", 0, "set", "model", "numbers", "initial", False, 1.0, "trained", plain(result))
    store.add_lineage(row)
    store.add_lineage(
        LineageRow("2", 0, "set", "model", "numbers", None, True, 2.0, auxiliary_used=["old"], auxiliary_left=["new"])
    )
    named = {(one.kind, one.name, one.pipeline_id): one.with_model for one in references(store)}
    assert named == {
        ("model", "model", "1"): "",
        ("model", "initial", "1"): "",
        ("training set", "set", "1"): "",
        ("sample columns", "trained", "1"): "",
        ("sample columns", "scores", "1"): "",
        ("model", "state", "1"): "model",
        ("model", "model", "2"): "",
        ("training set", "set", "2"): "",
        ("model", "old", "2"): "model",
        ("model", "new", "2"): "model",
    }


def test_checkpoints_and_logs_go_once_nothing_in_them_is_young(state: StateDirectory) -> None:
    for name, hours in (("old", 5.0), ("going on", 0.0)):
        folder = state.path / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(b"12345")
        (folder / "1").write_bytes(b"123")
        old(folder / "0", 9)
        old(folder / "1", hours)
        old(folder, 9)
    logs = (("1/train-0.log", 5.0), ("1/check-7-0.log", 5.0), ("2/train-0.log", 5.0), ("2/train-1.log", 0.0))
    for name, hours in logs:
        log = state.path / "jobs" / name
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("...")
        old(log, hours)
    request = CollectGarbageRequest(dry_run=True, older_than_seconds=HOUR)
    expected = [("checkpoint", "old", 8)]
    expected += [("job log", name, 3) for name in ("1/train-0.log", "2/train-0.log", "1/check-7-0.log")]
    assert [(one.kind, one.name, one.num_bytes) for one in collect(state, request)] == expected
    request.dry_run = False
    assert [(one.kind, one.name, one.num_bytes) for one in collect(state, request)] == expected
    assert list(collect(state, request)) == []
    assert {path.name for path in (state.path / "checkpoints").iterdir()} == {"going on"}
    assert {path.name for path in (state.path / "jobs").iterdir()} == {"2"}

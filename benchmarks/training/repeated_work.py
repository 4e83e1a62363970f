"""How much of a training is done again if its process is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.results import Result
from benchmarks.storage.server import temporary_folder
from benchmarks.storage.timing import say
from benchmarks.training.small import DATASET, client_with, pipeline_of
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.peers import Peers
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import CreateTrainingSetRequest, TrainingSetHeader
from modyn.proto.trainer_server_pb2 import TrainRequest, TrainResult

NAMES = ("training.repeated_work",)

SAMPLES = 32_000
EPOCHS = 12
INTERVAL = 250
"""Batches between two checkpoints; an epoch has 500."""
KILLS = 8


def measure() -> dict[str, Result]:
    """Batches trained twice after each kill, in checkpoint intervals; the final weights are those of no kill at all."""
    with temporary_folder() as folder, client_with(folder, SAMPLES) as client:
        peers: Peers = client._peers
        request = _request(peers)
        began = time.monotonic()
        *_, undisturbed = peers.trainer_server.Train(request)
        undisturbed_seconds = time.monotonic() - began
        repeated, result, seconds = _killed(peers, request)
    if result.model != undisturbed.result.model:
        raise AssertionError("a training that was killed has other weights than one that was not")
    share = result.telemetry.checkpoint_seconds / result.train_seconds
    baseline = (
        f"batches trained twice over the {INTERVAL} from one checkpoint to the next, the most of {len(repeated)} kills "
        f"(SIGKILL) at random moments of a training of {result.batches:,} batches of 64; mean "
        f"{sum(repeated) / len(repeated):.2f}; same weights, bit for bit, as without kills; writing {share:.1%} of the "
        f"training's time, {seconds:.1f} s with all kills, {undisturbed_seconds:.1f} s without"
    )
    return {NAMES[0]: Result(max(repeated), "checkpoint intervals", baseline, 1)}


def _request(peers: Peers) -> TrainRequest:
    options: dict[str, Any] = {
        "epochs_per_trigger": EPOCHS,
        "record_loss_every": 1,  # so that it is known how far a process came
        "checkpointing": {"interval": INTERVAL},
    }
    tree = yaml.safe_load(pipeline_of(SAMPLES, **options))
    header = TrainingSetHeader(
        pipeline_id="repeated",
        dataset=DATASET,
        selection=to_value({"name": "NewDataStrategy", "tail_triggers": 0}),
    )
    parts = (CreateTrainingSetRequest(new_data=part) for part in KeySet.from_ranges([KeyRange(0, SAMPLES)]).to_protos())
    training_set = peers.selector.CreateTrainingSet(iter([CreateTrainingSetRequest(header=header), *parts]))
    return TrainRequest(
        pipeline_id="repeated",
        dataset=DATASET,
        training_set=training_set.digest,
        training=to_value(tree["training"]),
        model=to_value(tree["model"]),
        data=to_value(tree["data"]),
    )


def _killed(peers: Peers, request: TrainRequest) -> tuple[list[float], TrainResult, float]:
    """Repeated work after each kill in checkpoint intervals, the result, and seconds."""
    rng = random.Random(1)
    total = SAMPLES // 64 * EPOCHS
    moments = sorted(rng.randrange(INTERVAL + 1, total - INTERVAL) for _ in range(KILLS))
    repeated: list[float] = []
    reached, began = 0, time.monotonic()
    result = TrainResult()
    for event in peers.trainer_server.Train(request):
        match event.WhichOneof("kind"):
            case "progress":
                reached = event.progress.batches
                if moments and reached >= moments[0]:
                    moments = [moment for moment in moments if moment > reached]
                    _kill_job()
            case "resumed":
                repeated.append(max(reached - event.resumed.batches, 0) / INTERVAL)
                say(f"killed after batch {reached}, went on after {event.resumed.batches}")
            case "result":
                result = event.result
            case _:
                pass
    return repeated, result, time.monotonic() - began


def _kill_job() -> None:
    """Kills the job: of what the fork servers of this process have started, the one that has computed most."""
    servers = [pid for pid in _children(os.getpid()) if b"modyn.core.forkserver" in _read(pid, "cmdline")]
    jobs = [job for server in servers for job in _children(server)]
    os.kill(max(jobs, key=_processor_time), signal.SIGKILL)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _processor_time(pid: int) -> int:
    """Clock ticks in user mode."""
    return int(_read(pid, "stat").rpartition(b")")[2].split()[11])


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()

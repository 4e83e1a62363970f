"""A training that is killed at any point ends with the same bits as one that is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.errors import InvalidInputError, JobFailedError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.rpc import cancel
from modyn.core.values import to_value
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainRequest, TrainResult
from modyn.trainer_server.checkpoint_folders import checkpoint_files
from tests.helpers.code import CodeRoot
from tests.helpers.killing import killed_network
from tests.helpers.labelling import delete
from tests.helpers.training import TrainingServer
from tests.storage.support import eventually
from tests.trainer_server.test_failures import wait_for_jobs

N = 210
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 3, N)
X = (RNG.normal(size=(N, 4)) + LABELS[:, None]).astype(np.float32)
WEIGHTS = RNG.uniform(0.2, 2, N)
TRAINING: dict[str, Any] = {"batch_size": 16, "epochs_per_trigger": 3}  # 14 batches an epoch
IL = {
    "il_model_id": "MLP",
    "il_model_config": {"in_features": 4, "num_classes": 3, "hidden": [8]},
    "epochs_per_trigger": 1,
    "use_previous_model": False,
}


def sgd(**config: Any) -> list[dict[str, Any]]:
    return [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.05, "momentum": 0.9, **config}}]}]


CASES: dict[str, dict[str, Any]] = {
    "adam": {},
    "momentum, schedule per batch": {
        "optimizers": sgd(),
        "lr_scheduler": {
            "name": "OneCycleLR",
            "step_every": "batch",
            "config": {"max_lr": 0.1, "total_steps": "MODYN_NUM_BATCHES"},
        },
    },
    "schedule by losses": {
        "optimizers": sgd(),
        "lr_scheduler": {"name": "ReduceLROnPlateau", "config": {"patience": 0}},
        "shuffle": False,
        "drop_last_batch": True,
    },
    "accumulation": {"gradient_accumulation": 5, "gradient_clipping": {"max_norm": 1.0}},
    "passes": {"num_samples_to_pass": 300},
    "checkpoints by the clock": {"checkpointing": {"seconds": 1e-6}},
}

STRATEGIES: dict[str, dict[str, Any]] = {
    "batch then sample": {"strategy": "Loss", "ratio": 55},
    "sample then batch": {"strategy": "GradNorm", "ratio": 50, "sample_then_batch": True, "period": 2},
    "pruning": {"strategy": "InfoBatch", "ratio": 60},
    "index": {"strategy": "RS2", "ratio": 50, "with_replacement": False},
    "fewer epochs": {"strategy": "FewerEpochs", "ratio": 60},
    "auxiliary models": {
        "strategy": "RHOLoss",
        "ratio": 50,
        "holdout_set_strategy": "Twin",
        "holdout_set_ratio": 50,
        "il_training_config": IL,
    },
}


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    return server.dataset(pa.array(LABELS), **{f"x{i}": X[:, i] for i in range(4)})


class Disturbed:
    """Trainings of one kind, killed or not."""

    def __init__(self, server: TrainingServer, dataset: str, code_root: CodeRoot, folder: Path) -> None:
        self.server = server
        self.dataset = dataset
        self.code_root = code_root
        self.folder = folder
        self.events: list[TrainEvent] = []
        self._number = 0

    def request(self, *kills: int, strategy: dict[str, Any] | None = None, **fields: Any) -> TrainRequest:
        self._number += 1
        model = killed_network(self.code_root, self.folder / f"marks{self._number}", *kills)
        training_set = fields.pop("training_set", None) or self.server.sets.put(
            self.dataset, np.arange(N), WEIGHTS if "weighted" in fields else None
        )
        fields.pop("weighted", None)
        training = {**TRAINING, "checkpointing": {"interval": 3}, **fields.pop("training", {})}
        passes = training.pop("num_samples_to_pass", None)
        request = self.server.request(
            self.dataset, training_set, model=model, training=training, root=self.code_root, **fields
        )
        if strategy is not None:
            request.downsampling.CopyFrom(to_value(strategy))
        if passes is not None:
            request.num_samples_to_pass = passes
        return request

    def run(self, *kills: int, **fields: Any) -> TrainResult:
        self.events = self.server.events(self.request(*kills, **fields))
        return self.events[-1].result

    @property
    def resumed(self) -> list[int]:
        return [event.resumed.batches for event in self.events if event.WhichOneof("kind") == "resumed"]

    @property
    def notices(self) -> list[str]:
        return [event.notice for event in self.events if event.WhichOneof("kind") == "notice"]


@pytest.fixture
def disturbed(server: TrainingServer, dataset: str, code_root: CodeRoot, tmp_path: Path) -> Disturbed:
    return Disturbed(server, dataset, code_root, tmp_path)


def numbers(result: TrainResult) -> dict[str, Any]:
    """What must not depend on how often a training was killed."""
    done = result.downsampling
    return {
        "model": result.model,
        "samples": result.samples_trained,
        "batches": result.batches,
        "losses": list(result.epoch_losses),
        "trained": done.trained,
        "scores": done.scores,
        "scored": (done.samples_scored, done.scores_reused, done.auxiliary_samples),
        "auxiliary": list(done.auxiliary_models),
    }


@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_ends_with_the_same_bits(disturbed: Disturbed, case: str) -> None:
    undisturbed = disturbed.run(training={**CASES[case], "checkpointing": {"activated": False}}, weighted=True)
    killed = disturbed.run(8, 12, training=CASES[case], weighted=True)
    assert numbers(killed) == numbers(undisturbed)
    assert killed.attempts == 3
    assert disturbed.resumed == ([8, 20] if "seconds" in str(CASES[case]) else [6, 18])
    assert killed.resumed_batches == disturbed.resumed[-1]
    assert sum("killed by SIGKILL" in notice for notice in disturbed.notices) == 2


@pytest.mark.parametrize("name", STRATEGIES)
def test_so_does_a_downsampled_one(disturbed: Disturbed, name: str) -> None:
    undisturbed = disturbed.run(strategy=STRATEGIES[name])
    killed = disturbed.run(5, 6, strategy=STRATEGIES[name])
    assert numbers(killed) == numbers(undisturbed)
    assert disturbed.resumed == [3, 9]
    assert sum("irreducible" in notice for notice in disturbed.notices) == 2 * (name == "auxiliary models")


def test_a_checkpoint_at_the_end_of_an_epoch(disturbed: Disturbed) -> None:
    training = {"checkpointing": {"interval": 14}}
    undisturbed = disturbed.run()
    assert numbers(disturbed.run(14, 20, training=training)) == numbers(undisturbed)
    assert disturbed.resumed == [14, 28]


def folders(server: TrainingServer) -> list[Path]:
    return list((server.state.path / "checkpoints").glob("*"))


def interrupted(disturbed: Disturbed, launcher: ForkServerLauncher, request: TrainRequest, batches: int) -> None:
    """Asks for a training and goes away after so many batches."""
    stream = disturbed.server.peers.trainer_server.Train(request)
    for event in stream:
        if event.WhichOneof("kind") == "progress" and event.progress.batches >= batches:
            break
    cancel(stream)
    wait_for_jobs(launcher, 0)


LONG: dict[str, Any] = {"epochs_per_trigger": 40, "record_loss_every": 5, "checkpointing": {"interval": 20}}


def test_a_later_call_goes_on_where_an_earlier_one_ended(disturbed: Disturbed, launcher: ForkServerLauncher) -> None:
    undisturbed = disturbed.run(training=LONG)
    request = disturbed.request(training=LONG, reuse=True)
    interrupted(disturbed, launcher, request, 70)
    (folder,) = folders(disturbed.server)
    *_, (batches, _, newest) = checkpoint_files(folder)
    newest.write_bytes(newest.read_bytes()[:-100])  # damaged
    disturbed.events = disturbed.server.events(request)
    assert disturbed.resumed == [batches - 20]
    assert any(f"the checkpoint after batch {batches} cannot be used" in notice for notice in disturbed.notices)
    result = disturbed.events[-1].result
    assert numbers(result) == numbers(undisturbed)
    assert (result.attempts, result.resumed_batches) == (1, batches - 20)
    assert not folders(disturbed.server)
    again = disturbed.server.train(request)
    assert again.reused
    again.reused = False
    assert again == result


def test_without_reuse_no_earlier_work_is_taken(disturbed: Disturbed, launcher: ForkServerLauncher) -> None:
    request = disturbed.request(training=LONG, reuse=False)
    interrupted(disturbed, launcher, request, 70)
    eventually(lambda: not folders(disturbed.server))  # the call that is gone tidies up once its job has ended
    disturbed.events = disturbed.server.events(request)
    assert not disturbed.resumed
    assert not folders(disturbed.server)


def test_killed_from_outside_at_any_moment(disturbed: Disturbed, launcher: ForkServerLauncher) -> None:
    undisturbed = disturbed.run(training=LONG)
    stream = disturbed.server.peers.trainer_server.Train(disturbed.request(training=LONG))
    disturbed.events = []
    for event in stream:
        disturbed.events.append(event)
        kills = sum("SIGKILL" in notice for notice in disturbed.notices)
        if event.WhichOneof("kind") == "progress" and kills < 3 and event.progress.batches > 100 * (kills + 1):
            (pid,) = wait_for_jobs(launcher, 1)
            os.kill(pid, signal.SIGKILL)
    assert numbers(disturbed.events[-1].result) == numbers(undisturbed)
    assert disturbed.events[-1].result.attempts == 4


def test_processes_that_get_nowhere_are_not_started_for_ever(disturbed: Disturbed) -> None:
    with pytest.raises(JobFailedError, match=r"killed by SIGKILL.*make training.batch_size smaller") as caught:
        disturbed.run(4, 2, 2, 2, 2)
    assert "training of trigger 0 of pipeline p failed" in caught.value.message
    assert len(list((disturbed.folder / "marks1").iterdir())) == 4  # the first got somewhere, three did not
    assert not folders(disturbed.server)
    with pytest.raises(JobFailedError, match=r"make training\.batch_size smaller"):
        disturbed.run(2)  # before the first checkpoint
    assert len(list((disturbed.folder / "marks2").iterdir())) == 1


def test_an_error_is_not_tried_again(disturbed: Disturbed) -> None:
    disturbed.code_root.write(
        "late.py", "def label(y):\n    if 17 in y:\n        raise ValueError('late')\n    return y\n"
    )
    labels = np.where(np.arange(N) == 180, 17, LABELS)
    disturbed.dataset = disturbed.server.dataset(pa.array(labels), **{f"x{i}": X[:, i] for i in range(4)})
    training = {"shuffle": False, "checkpointing": {"interval": 1}}
    request = disturbed.request(training=training, data={"label_transformer_function": "late:label"})
    stream = disturbed.server.peers.trainer_server.Train(request)
    with pytest.raises(InvalidInputError, match="raised ValueError: late"):
        disturbed.events.extend(stream)
    assert not disturbed.notices


def test_changed_code_begins_again(disturbed: Disturbed) -> None:
    request = disturbed.request(8, reuse=True)
    source = (disturbed.code_root.path / "killed.py").read_text()
    disturbed.code_root.write("other.py", source.replace("0.3", "0.2"))
    disturbed.events = disturbed.server.events(request)
    result = disturbed.events[-1].result
    assert not disturbed.resumed
    assert result.input_digest == ""
    assert "its code changed meanwhile; it begins again" in disturbed.notices[1]
    undisturbed = disturbed.server.train(disturbed.request())
    assert undisturbed.model != result.model  # the folder's code was written anew


@pytest.mark.parametrize("strategy", [None, STRATEGIES["index"], STRATEGIES["batch then sample"]])
def test_samples_that_are_gone_or_have_no_label_shift_nothing(
    disturbed: Disturbed, strategy: dict[str, Any] | None
) -> None:
    labels = pa.array([None if key % 11 == 3 else int(label) for key, label in enumerate(LABELS)], pa.int64())
    disturbed.dataset = disturbed.server.dataset(labels, **{f"x{i}": X[:, i] for i in range(4)})
    delete(disturbed.server.peers, disturbed.dataset, np.arange(5, 60, 3))
    undisturbed = disturbed.run(strategy=strategy)
    said = disturbed.notices
    killed = disturbed.run(5, 6, strategy=strategy)
    assert numbers(killed) == numbers(undisturbed)
    assert disturbed.resumed == [3, 9]
    assert [notice for notice in disturbed.notices if "killed" not in notice] == said

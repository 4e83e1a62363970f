"""Checkpoint files: whole or not there, of one training, and holding whatever a training must remember."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from modyn.core.config.training import CheckpointingSection
from modyn.core.state import StateDirectory
from modyn.trainer_server.checkpoint_folders import CheckpointFolders, checkpoint_files, newest
from modyn.trainer_server.checkpoints import CheckpointFiles
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.resuming import Generators, Weights

EVERY = CheckpointingSection(interval=1)


class Notices(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def files(folder: Path, section: CheckpointingSection = EVERY, notice: Notices | None = None) -> CheckpointFiles:
    return CheckpointFiles(folder, section, notice if notice is not None else Notices())


def save(folder: Path, *batches: int) -> None:
    checkpoints = files(folder)
    for number in batches:
        assert checkpoints.due(number)
        checkpoints.save({"parts": {}, "number": number})


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "parts": {},
        "plain": [1, -2.5, True, None, "text", 2**63, (1, "two")],
        "numbers": {3: 1, 0.5: 2},
        "tensors": {"float": torch.randn(3, 2), "none": torch.empty(0), "bool": torch.tensor([True])},
        "bfloat": torch.tensor([1.5, float("nan"), float("-inf")], dtype=torch.bfloat16),
        "arrays": [np.array([1, 0, 1], dtype=dtype) for dtype in ("u1", "u2", "u4", "u8", "i8", "f4", "f8", "?")],
        "scalar": np.float64(0.1),
        "random": np.random.Generator(np.random.Philox(key=[1, 2])).bit_generator.state,
    }
    checkpoints = files(tmp_path / "t")
    checkpoints.due(7)
    checkpoints.save(state)
    found = files(tmp_path / "t").load()
    assert found is not None
    assert found["plain"] == state["plain"]
    assert found["numbers"] == state["numbers"]
    assert all(torch.equal(found["tensors"][name], tensor) for name, tensor in state["tensors"].items())
    assert torch.equal(found["bfloat"].view(torch.int16), state["bfloat"].view(torch.int16))
    for before, after in zip(state["arrays"], found["arrays"], strict=True):
        assert isinstance(after, np.ndarray)
        assert (after.dtype, after.tolist()) == (before.dtype, before.tolist())
    assert found["scalar"] == 0.1
    again = np.random.Generator(np.random.Philox(key=[9, 9]))
    again.bit_generator.state = found["random"]
    assert again.random() == np.random.Generator(np.random.Philox(key=[1, 2])).random()


def test_a_view_takes_no_more_than_its_own_bytes(tmp_path: Path) -> None:
    checkpoints = files(tmp_path / "t")
    checkpoints.due(1)
    checkpoints.save({"parts": {}, "view": torch.zeros(1_000_000)[:3]})
    ((_, _, path),) = checkpoint_files(tmp_path / "t")
    assert path.stat().st_size < 10_000


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "t", 3, 5, 8)
    assert [batches for batches, _, _ in checkpoint_files(tmp_path / "t")] == [5, 8]
    assert newest(tmp_path / "t") == 8
    assert newest(tmp_path / "nothing") == 0


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def of_another_version(data: bytes) -> bytes:
    return data.replace(b'"version": 1', b'"version": 9')


@pytest.mark.parametrize("damage", [truncated, flipped, of_another_version, lambda _: b""])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    save(tmp_path / "t", 3, 5)
    path = checkpoint_files(tmp_path / "t")[-1][2]
    path.write_bytes(damage(path.read_bytes()))
    notices = Notices()
    found = files(tmp_path / "t", notice=notices).load()
    assert found is not None
    assert found["number"] == 3
    (notice,) = notices
    assert notice.startswith("the checkpoint after batch 5 cannot be used (")


def test_that_of_another_training_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one", 3)
    (tmp_path / "one").rename(tmp_path / "two")
    notices = Notices()
    assert files(tmp_path / "two", notice=notices).load() is None
    assert "another training (one)" in notices[0]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "evil"),)

    checkpoints = files(tmp_path / "t")
    checkpoints.due(1)
    checkpoints._write({"parts": {}, "evil": Evil()})
    notices = Notices()
    assert files(tmp_path / "t", notice=notices).load() is None
    assert not (tmp_path / "evil").exists()


def test_what_cannot_be_held_is_named(tmp_path: Path) -> None:
    notices = Notices()
    checkpoints = files(tmp_path / "t", notice=notices)
    assert checkpoints.due(1)
    checkpoints.save({"parts": {"callbacks": [{}, {"when": lambda: 0}]}})
    assert not checkpoints.due(1000)
    (notice,) = notices
    assert notice.startswith("the training's state parts.callbacks[1].when is a function, which no checkpoint can hold")
    assert not (tmp_path / "t").exists()


def test_a_full_disk_does_not_end_the_training(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("no folder")
    notices = Notices()
    checkpoints = files(tmp_path / "t", notice=notices)
    for batches in (1, 2):
        assert checkpoints.due(batches)
        checkpoints.save({"parts": {}})
        assert not checkpoints.due(batches)  # not tried again before the next interval
    (notice,) = notices
    assert "the training goes on without" in notice


def test_when_one_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    by_batches = files(tmp_path / "b", CheckpointingSection(interval=5))
    assert [n for n in range(1, 12) if by_batches.due(n)] == [5, 6, 7, 8, 9, 10, 11]  # until it is saved
    by_batches.save({"parts": {}})
    assert [by_batches.due(n) for n in (15, 16)] == [False, True]
    resumed = files(tmp_path / "b", CheckpointingSection(interval=5))
    resumed.load()
    assert [resumed.due(n) for n in (15, 16)] == [False, True]
    by_default = files(tmp_path / "s", CheckpointingSection())
    now += 59.9
    assert not by_default.due(10**6)
    now += 0.1
    assert by_default.due(10**6 + 1)
    by_default.save({"parts": {}})
    assert not by_default.due(10**6 + 2)


class Rank(Parallel):
    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.size = 2


def test_every_process_writes_what_only_it_knows(tmp_path: Path) -> None:
    ranks = [CheckpointFiles(tmp_path / "t", EVERY, Notices(), Rank(rank)) for rank in range(2)]
    for rank, checkpoints in enumerate(ranks):
        checkpoints.due(4)
        parts = {"model": torch.zeros(10_000), "updates": {"pending": 0}, "generators": rank}
        checkpoints.save({"parts": parts, "position": [0, 4]})
    sizes = [path.stat().st_size for _, _, path in checkpoint_files(tmp_path / "t")]
    assert sizes[0] > 40_000 > sizes[1]
    for rank in range(2):
        found = CheckpointFiles(tmp_path / "t", EVERY, Notices(), Rank(rank)).load()
        assert found is not None
        assert found["parts"]["generators"] == rank
        assert len(found["parts"]["model"]) == 10_000
    checkpoint_files(tmp_path / "t")[1][2].unlink()  # one process was killed before it wrote
    assert CheckpointFiles(tmp_path / "t", EVERY, Notices(), Rank(0)).load() is None


def test_processes_go_on_asking_each_other_where_one_cannot_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would wait for its answer for good."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    asked: list[int] = []

    class Asking(Rank):
        def agreed(self, answer: bool) -> bool:
            asked.append(self.rank)
            return answer

    notices = Notices()
    ranks = [CheckpointFiles(tmp_path / "t", CheckpointingSection(), notices, Asking(rank)) for rank in range(2)]
    for batches in (16, 32):
        now += 60
        for checkpoints, callbacks in zip(ranks, ({"0": {1, 2}}, {}), strict=True):  # only the first has a set
            assert checkpoints.due(batches)
            checkpoints.save({"parts": {"model": {}, "updates": {"pending": 0}, "callbacks": callbacks}})
            assert not checkpoints.due(batches + 1)
    assert asked == [0, 1, 0, 1]
    assert len(notices) == 1


def test_folders_of_single_calls_end_with_the_server(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path).create()
    folders = CheckpointFolders(state)
    kept, once = folders.of("d" * 40), folders.for_one_call()
    save(kept, 1)
    save(once, 1)
    (kept / ".tmp-1.checkpoint").write_text("half")
    again = CheckpointFolders(state)
    assert not once.exists()
    assert newest(again.of("d" * 40)) == 1
    assert [path.name for path in kept.iterdir()] == ["000000000001-0000.checkpoint"]
    again.remove(kept)
    assert not kept.exists()


SCHEDULERS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 3},
    "MultiStepLR": {"milestones": [2, 5, 5, 8]},
    "ConstantLR": {"total_iters": 4},
    "LinearLR": {"total_iters": 7},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 6},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 12},
    "PolynomialLR": {"total_iters": 10},
    "ReduceLROnPlateau": {"patience": 1},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedules_go_on_from_a_checkpoint(tmp_path: Path, name: str) -> None:
    def build() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        return optimizer, getattr(lr_scheduler, name)(optimizer, **SCHEDULERS[name])

    def steps(optimizer: torch.optim.Optimizer, scheduler: Any, first: int, end: int) -> list[float]:
        rates = []
        for number in range(first, end):
            scheduler.step(float(number)) if name == "ReduceLROnPlateau" else scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer steps here
        undisturbed = steps(*build(), 0, 11)
        optimizer, scheduler = build()
        before = steps(optimizer, scheduler, 0, 5)
        checkpoints = files(tmp_path / "t")
        checkpoints.due(5)
        checkpoints.save({"parts": {}, "o": optimizer.state_dict(), "s": scheduler.state_dict()})
        found = files(tmp_path / "t").load()
        assert found is not None
        optimizer, scheduler = build()
        optimizer.load_state_dict(found["o"])
        scheduler.load_state_dict(found["s"])
        assert before + steps(optimizer, scheduler, 5, 11) == undisturbed


def test_generators_and_unstored_buffers_come_back(tmp_path: Path) -> None:
    import random

    class Net(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("calls", torch.zeros(1), persistent=False)

    model = Net()
    model.get_buffer("calls").fill_(7)
    parts = {"model": Weights(model).state(), "generators": Generators().state()}
    checkpoints = files(tmp_path / "t")
    checkpoints.due(1)
    checkpoints.save({"parts": parts})
    drawn = random.random(), float(np.random.normal()), float(torch.randn(()))
    found = files(tmp_path / "t").load()
    assert found is not None
    Generators().resume(found["parts"]["generators"])
    assert (random.random(), float(np.random.normal()), float(torch.randn(()))) == drawn
    other = Net()
    Weights(other).resume(found["parts"]["model"])
    assert torch.equal(other.weight, model.weight)
    assert float(other.get_buffer("calls")) == 7

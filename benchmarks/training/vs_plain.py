"""Training through the services beside a plain PyTorch loop over tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.results import Result
from benchmarks.storage.server import storage_process, temporary_folder
from benchmarks.storage.timing import paired
from benchmarks.training.cases import CASES, Case, Ours, one_thread, plain_epoch

TARGETS = {"mlp": 0.75, "cnn": 0.95, "resnet": 0.97}
NAMES = tuple(f"training.vs_plain_{name}" for name in TARGETS)

ROUNDS = 7


def measure() -> dict[str, Result]:
    """Throughput of ours over that of the plain loop: epochs of both in turn, median of the ratios."""
    results = {}
    with one_thread():
        for case in CASES:
            results[f"training.vs_plain_{case.name}"] = compare(case)
    return results


def compare(case: Case, rounds: int = ROUNDS) -> Result:
    """Both at one training."""
    records = case.records()
    inputs = torch.from_numpy(case.parse(records.payload))
    labels = torch.from_numpy(records.labels)
    weights = torch.from_numpy(case.weights())

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(labels))
        for start in range(0, len(order), case.batch_size):
            index = order[start : start + case.batch_size]
            yield inputs.index_select(0, index), labels.index_select(0, index), weights.index_select(0, index)

    with temporary_folder() as folder, storage_process(folder / "state") as server:
        ours = Ours(case, server, records)
        times = paired(ours.epoch, lambda: plain_epoch(case, batches()), rounds)
    baseline = f"{case.sentence()}; {times.sentence()} (tensors in memory, index_select a batch)"
    return Result(times.ratio, "×", baseline, TARGETS[case.name], at_most=False)

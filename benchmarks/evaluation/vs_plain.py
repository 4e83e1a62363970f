"""One model on one window, beside a plain PyTorch loop over a tensor."""

from __future__ import annotations

import torch

from benchmarks.evaluation.digits import BATCH_SIZE, SAMPLES, SCALE, digits, images, network
from benchmarks.results import Result
from benchmarks.storage.timing import paired, seconds_of

NAMES = ("evaluation.vs_plain",)

ROUNDS = 25
"""Single pairs differ by half on a machine that others use too."""


def measure() -> dict[str, Result]:
    """Throughput of a whole request over that of the loop: both in turn, median of the ratios."""
    pixels, classes = images()
    inputs = torch.from_numpy(pixels).to(torch.float32) * SCALE
    labels = torch.from_numpy(classes)
    module = network(1).eval()
    with digits() as server:
        model = server.store(1)
        times = paired(
            lambda: server.ask([model], [(0, SAMPLES)])[0], lambda: _plain(module, inputs, labels), rounds=ROUNDS
        )
    baseline = (
        f"accuracy of an MLP 784-128-10 on {SAMPLES:,} samples of 784 B, batches of {BATCH_SIZE}: {times.sentence()} "
        "(inference_mode over decoded tensors in memory, with one thread or all, whichever is faster); ours "
        "is a whole request: job, weights, reading, decoding, outcome file, scores with intervals"
    )
    return {NAMES[0]: Result(times.ratio, "×", baseline, 0.5, at_most=False)}


def _plain(module: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds; threads that wait for each other are slower than one where other processes want the cores."""
    every = torch.get_num_threads()
    found = []
    for threads in (1, every):
        torch.set_num_threads(threads)
        found.append(seconds_of(lambda: _accuracy(module, inputs, labels)))
    torch.set_num_threads(every)
    return min(found)


def _accuracy(module: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    right = 0
    with torch.inference_mode():
        for start in range(0, len(inputs), BATCH_SIZE):
            said = module(inputs[start : start + BATCH_SIZE]).argmax(dim=1)
            right += int((said == labels[start : start + BATCH_SIZE]).sum())
    return right / len(inputs)

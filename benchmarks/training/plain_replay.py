"""What :mod:`benchmarks.training.replay` is compared with: the same work without Modyn, as one would write it.

``python -m benchmarks.training.plain_replay FILE TRIGGERS THREADS FOLDER`` maps the file, trains one model over its
blocks, and after each block saves it and classifies all samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.training.pictures import CLASSES, PIXELS, RECORD

BATCH, EVALUATION_BATCH = 64, 256


def main(path: Path, triggers: int, threads: int, folder: Path) -> list[float]:
    """Accuracy on all samples after each block."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    records = np.memmap(path, dtype=RECORD, mode="r")
    pixels = torch.from_numpy(records["pixels"].astype(np.float32) / 255)
    labels = torch.from_numpy(records["label"].astype(np.int64))
    model = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accuracies = []
    per_trigger = len(records) // triggers
    for index in range(triggers):
        model.train()
        for batch in torch.split(index * per_trigger + torch.randperm(per_trigger), BATCH):
            loss = nn.functional.cross_entropy(model(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.save(model.state_dict(), folder / f"model{index}.pt")
        model.eval()
        with torch.inference_mode():
            right = 0
            for inputs, truth in zip(
                torch.split(pixels, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True
            ):
                right += int((model(inputs).argmax(1) == truth).sum())
        accuracies.append(right / len(records))
    return accuracies


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))

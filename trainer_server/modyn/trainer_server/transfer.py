"""Copies of batches to a GPU while it works at the ones before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from modyn.trainer_server.batch import Batch, Inputs


def transferred(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with their inputs on a GPU.

    Inputs are copied on a stream of their own, one batch ahead: from pinned memory the copy runs beside the kernels of
    the batch that is trained. Labels and weights stay where they are, as they are looked at on the CPU.

    Args:
        device: of the model.
    """
    aside = torch.cuda.Stream(device)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(aside):
            moved = replace(batch, inputs=_moved(batch.inputs, device))
            copied = aside.record_event()
        if waiting is not None:
            yield _ready(*waiting, device)
        waiting = moved, copied
    if waiting is not None:
        yield _ready(*waiting, device)


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, dict):
        return {name: part.to(device, non_blocking=True) for name, part in inputs.items()}
    return inputs.to(device, non_blocking=True)


def _ready(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    """Makes the training's stream wait for the copy, and the copy's memory live until that stream is done with it."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(copied)
    for part in batch.inputs.values() if isinstance(batch.inputs, dict) else (batch.inputs,):
        part.record_stream(stream)
    return batch

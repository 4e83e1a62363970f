"""How every job begins, done before there is a job (see ``modyn.core.standby``): connections, and what torch and Arrow
set up when they are first used. No user code runs and no sample is read.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from modyn.core.arrow import decode_batch, encode_batch
from modyn.core.rpc import connect_ahead

_ROWS, _WIDTH = 4, 4


def warm_up(argument: str) -> None:
    """Entry point of a standby.

    The random generators are moved on; a job seeds them before it draws.

    Args:
        argument: JSON list of the addresses that jobs will ask for samples and training sets.

    Raises:
        ModynError: a service does not answer; the job will say so, if it still does not.
    """
    torch.set_num_threads(1)  # whatever a job computes with, no thread is started for this
    _train()
    _decode()
    for address in json.loads(argument):
        connect_ahead(address)


def _train() -> None:
    """One step of a small model: kernels, autograd and the optimizer find what they need."""
    model = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 2))
    for make in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = make(model.parameters(), lr=0.0)
        loss = nn.functional.cross_entropy(model(torch.zeros(_ROWS, _WIDTH)), torch.zeros(_ROWS, dtype=torch.int64))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        model(torch.zeros(_ROWS, _WIDTH)).argmax(dim=1).tolist()


def _decode() -> None:
    """A batch as it travels, there and back."""
    batch = pa.record_batch({"key": np.arange(_ROWS), "x": np.zeros(_ROWS, np.float32)})
    decode_batch(encode_batch(batch)).column("x").to_numpy()

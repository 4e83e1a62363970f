"""How every job begins, done before there is a job (see ``modyn.core.standby``): connections, and what libraries set up
when they are first used, of which a process that was just forked also copies every page it writes to. No user code runs
and no sample is read.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from modyn.core.arrow import decode_batch, encode_batch
from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.rpc import connect_ahead
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.weights import dump, load

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
    _begin()
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


def _begin() -> None:
    """Sections of a pipeline, a model with weights, and inputs: as jobs read and make theirs."""
    model = {"id": "MLP", "config": {"in_features": _WIDTH, "hidden": [_WIDTH], "num_classes": 2}}
    module = build_model(parse_section(ModelSection, model, "model"), None)
    load(module, dump(module))
    data = {"dataset_id": "none", "parser": {"name": "numeric_record", "dtype": "uint8", "scale": 0.5}}
    decoder = Decoder(parse_section(DataSection, data, "data"), None)
    columns = {"data": pa.array([bytes(_WIDTH)] * _ROWS, pa.binary(_WIDTH))}
    with ThreadPoolExecutor(1) as pool:  # threads have memory of their own
        inputs = pool.submit(decoder.inputs, columns).result()
    with torch.inference_mode():
        module.eval()(inputs)

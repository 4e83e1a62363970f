"""What a job's process must be set to so that the same inputs give the same bits."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from modyn.core.errors import InvalidInputError
from modyn.core.randomness import Purpose, derived_seed


def configure(device: str, threads: int) -> torch.device:
    """Fixes the number of threads and deterministic kernels, and returns the device.

    Raises:
        InvalidInputError: the device is not there.
    """
    torch.set_num_threads(threads)
    # cuBLAS reads it when it starts; without it matrix products on a GPU are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time, only finds bugs
    torch.backends.cudnn.benchmark = False
    return _device(device)


def limit_numpy(threads: int) -> None:
    """Fixes the number of threads of NumPy's matrix products, which torch's does not touch; for the whole process."""
    threadpool_limits(limits=threads, user_api="blas")


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        there = f"this machine has {count} (cuda:0 to cuda:{count - 1})" if count else "no GPU can be used here"
        raise InvalidInputError(f"training.device: {name}: {there}; set it to another one, or to cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def occupied(device: torch.device) -> str | None:
    """For the user: that other processes hold much of a GPU's memory; None: they do not."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    if free + torch.cuda.memory_reserved(device) > total / 2:
        return None
    gib = 1 << 30
    return (
        f"only {free / gib:.1f} of {total / gib:.1f} GiB of the memory of {device} are free: another process uses the "
        "rest; end it, or set training.device to another GPU"
    )


def seed_everything(seed: int, purpose: Purpose, index: int) -> None:
    """Seeds every generator that models, optimizers and user code may use."""
    derived = derived_seed(seed, purpose, index)
    torch.manual_seed(derived)  # the GPUs' generators too
    np.random.seed(derived % 2**32)
    random.seed(derived)

"""What the user's own code draws while it parses a batch: a function of the batch, not of what was parsed before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from modyn.core.draws import EPOCHS_PER_TRIGGER, Draws
from modyn.core.randomness import Purpose, derived_seed


@contextmanager
def seeded(draws: Draws, batch: int) -> Iterator[None]:
    """Within the block, the global generators of Python, NumPy and torch (on the CPU) start at a state of their own
    for (seed, trigger, epoch, batch); afterwards they are as if it had not been.

    The generators belong to the whole process: no other thread may draw from them meanwhile.

    Args:
        draws: the seed, trigger and epoch are used.
        batch: its number in the epoch.
    """
    import torch

    epoch_seed = derived_seed(draws.seed, Purpose.USER_PARSING, draws.trigger * EPOCHS_PER_TRIGGER + draws.epoch)
    seed = derived_seed(epoch_seed, Purpose.USER_PARSING, batch)
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])

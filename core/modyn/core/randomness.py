"""All randomness: a counter-based generator keyed by (seed, purpose, index), never global state.

Two draws for different purposes or indices are independent; the same triple gives the same stream on every
machine, in whatever order the draws are made. (Philox: Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011.)
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for. Values are part of reproducibility: never reuse or renumber."""

    SHUFFLE = 1  # index: epoch
    SELECTION = 2  # index: trigger
    PRESAMPLING = 3  # index: trigger
    MODEL_INIT = 4  # index: trigger; seeds torch in the job
    TRAINING = 5  # index: trigger; seeds torch in the job after the model is built (dropout, augmentation)
    EXAMPLES = 6  # synthetic data of examples and tests
    DOWNSAMPLING = 8  # index: of a trigger's epoch
    HOLDOUT = 9  # index: a block of keys; which samples a model for comparison is trained on
    BUDGETS = 10  # index: trigger; which of several groups gets one more where not all can
    AUGMENTATION = 11  # index: of a trigger's epoch; what parsers draw for each sample
    USER_PARSING = 12  # index: of an epoch's batch; seeds the generators that the user's own parsing draws from
    OLD_SAMPLES = 13  # index: of a trigger's epoch, and then of its batch; samples of earlier triggers for replay
    UNCERTAINTY = 14  # index: 0 for windows in time order, 1 for blocks of a window; draws of confidence intervals
    TRIGGER = 7  # index: which of a trigger's streams, such as the number of its evaluation


def generator(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """A fresh generator for one purpose.

    Args:
        seed: the pipeline's seed, 0 <= seed < 2**63.
        purpose: what the numbers are for.
        index: which of several streams of that purpose, such as the trigger or the epoch.
    """
    key = np.array([seed, int(purpose)], dtype=np.uint64)
    counter = np.array([0, 0, index, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def derived_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 63-bit seed for libraries that keep their own generator (``torch.manual_seed``)."""
    return int(generator(seed, purpose, index).integers(0, 2**63 - 1))

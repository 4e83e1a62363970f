"""Windows that cannot be scored, because something of their samples is not known: which, and what is said of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.evaluator.needs import Need
from modyn.evaluator.samples import Samples
from modyn.proto.evaluator_pb2 import EvaluateFailure

KEYS_IN_MESSAGES = 5


def windows_without_labels(failed: Int64Array, samples: Samples, reason: str) -> dict[int, str]:
    """The windows that would be scored with labels that could not be transformed, and what to say of each.

    Args:
        failed: rows of these labels in :attr:`Samples.all_labels`, int64.
        reason: why the first of them could not.
    """
    bad = np.zeros(len(samples.all_labels), dtype=np.bool_)
    bad[failed] = True
    found: dict[int, str] = {}
    for index in range(len(samples.windows)):
        rows = samples.scored(index)
        hit = bad[rows] if samples.known is None else bad[samples.known[index].label_rows]
        if hit.any():
            found[index] = f"no labels of {_some(samples.keys[rows][hit], len(hit))}: {reason}"
    return found


def without_lost(
    needs: Sequence[Need], samples: Samples, reason: str, models: Mapping[int, int]
) -> list[EvaluateFailure]:
    """Takes from needs the windows with samples that could not be shown to the model: a score of what is left of such a
    window would be of something else.

    Args:
        reason: why the first of these samples could not.
        models: how many models each window is to be scored on.

    Returns:
        What to say of them; once where it is the same of all models of a window.
    """
    found: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for need in needs:
        good: list[int] = []
        for index in need.windows:
            rows = samples.scored(index)
            missing = need.missing_of(rows)
            if len(missing):
                message = f"no predictions of {_some(missing, len(samples.keys[rows]))}: {reason}"
                found[index, message].append(need.model)
            else:
                good.append(index)
        need.windows = tuple(good)
    return [
        EvaluateFailure(model=model, window=index, message=message)
        for (index, message), those in found.items()
        for model in (those if len(those) < models[index] else [""])
    ]


def _some(keys: Int64Array, size: int) -> str:
    """Samples of a window for a message."""
    first = ", ".join(map(str, keys[:KEYS_IN_MESSAGES].tolist()))
    more = ", …" if len(keys) > KEYS_IN_MESSAGES else ""
    return f"{len(keys)} of {size} samples (keys {first}{more})"

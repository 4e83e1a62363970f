"""Greedy graph cut: samples that are similar to all, and not to each other."""

from __future__ import annotations

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.similarity import Similarity

_TIE = 1e-6


def graph_cut(similarity: Similarity, size: int, representation: float = 1.0) -> Int64Array:
    """Greedily maximises ``f(S) = λ Σᵢ Σ_{j ∈ S} sᵢⱼ - Σ_{i, j ∈ S} sᵢⱼ``, i over all samples.

    Iyer, Khargonkar, Bilmes, Asnani: "Submodular combinatorial information measures with applications in machine
    learning", ALT 2021 (whose λ is one over ours). f is submodular for similarities of at least 0, and monotone for
    λ >= 2; with less, what is chosen differs more from each other, and the last ones can lower the value. A step
    takes one row of similarities: the gain of j is ``λ Σᵢ sᵢⱼ - 2 Σ_{i ∈ S} sᵢⱼ - sⱼⱼ``. Of samples whose gains
    agree to a millionth the lowest is chosen.

    >>> from modyn.trainer_server.greedy.similarity import HeldSimilarity
    >>> line = np.array([0, 1, 2, 10, 11, 12], dtype=np.float32)
    >>> graph_cut(HeldSimilarity(12 - abs(line[:, None] - line)), 2).tolist()
    [2, 3]

    Args:
        similarity: of n samples.
        size: how many to choose; more than n: all.
        representation: λ, at least 0: what being similar to all counts against being similar to each other.

    Returns:
        positions in the order in which they were chosen, int64 [min(size, n)].
    """
    gains = representation * similarity.totals() - similarity.diagonal()
    chosen = np.empty(min(size, len(similarity)), dtype=np.int64)
    for step in range(len(chosen)):
        most = gains.max()
        pick = int(np.argmax(gains >= most - _TIE * abs(most)))
        chosen[step] = pick
        gains -= 2 * similarity.rows(np.array([pick]))[0]
        gains[pick] = -np.inf
    return chosen

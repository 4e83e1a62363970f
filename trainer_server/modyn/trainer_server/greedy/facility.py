"""Greedy facility location: samples that together are similar to all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.features import Float32Array, Float64Array
from modyn.trainer_server.greedy.neighbours import Entries, entries_above, nearest_neighbours
from modyn.trainer_server.greedy.similarity import (
    Form,
    HeldSimilarity,
    Similarity,
    choose_form,
    held,
    row_blocks,
)

NEIGHBOURS = 64
"""How many are kept of each sample in the form of that name."""

_TIE = 1e-6
_MOST_ENTRIES = 2**24
_SAMPLED_ROWS = 64


@dataclass(frozen=True, eq=False)
class Cover:
    """Samples chosen to stand for all n.

    Attributes:
        positions: in the order in which they were chosen, int64 [k].
        owners: of each sample the chosen one most similar to it, the first of equals, int64 [n]; each chosen one is
            its own; -1: none is known (nothing is chosen, or no neighbour).
        value: sum over samples of the similarity to their owner, f(S).
    """

    positions: Int64Array
    owners: Int64Array
    value: float


def facility_location(similarity: Similarity, size: int, form: Form | None = None) -> Cover:
    """Greedily maximises ``f(S) = Σᵢ max_{j ∈ S} sᵢⱼ``: at least 1 - 1/e of the largest value.

    Nemhauser, Wolsey, Fisher: "An analysis of approximations for maximizing submodular set functions", 1978. The
    same choice as by the naive algorithm, which sums up the gains ``Σᵢ max(0, sᵢⱼ - bᵢ)`` of all samples j at each
    step, bᵢ being what i has so far. Here only those rows are read again in which b grows, from ``old`` to ``new``:
    the gain of j falls by ``Σᵢ clip(sᵢⱼ, oldᵢ, newᵢ) - oldᵢ``. Over all steps these are five to seven times n rows.
    Once few entries are above b they are gathered, as no other entry counts again; gains are summed up anew then,
    and whenever they have become so small that rounding could show.

    Of samples whose gains agree to a millionth the lowest is chosen. Once none gains more than a millionth of what
    the chosen ones did on average (duplicates of them), the lowest positions fill up. All n are chosen in order.

    >>> line = np.array([0, 1, 2, 10, 11, 12], dtype=np.float32)
    >>> facility_location(HeldSimilarity(12 - abs(line[:, None] - line)), 2).positions.tolist()
    [2, 4]

    Args:
        similarity: of n samples.
        size: how many to choose; more than n: all.
        form: in which the similarity is read; None: by :func:`choose_form`. Those but NEIGHBOURS are exact.
    """
    n = len(similarity)
    if size >= n:
        everything = np.arange(n)
        return Cover(everything, everything, float(similarity.diagonal().sum()))
    state = _State(n)
    reader = _reader(similarity, form or choose_form(n, similarity.multiplications), state)
    while len(state.chosen) < size:
        pick = state.best()
        if pick is None:
            state.fill(size)
            break
        rows, new = reader.improved(pick)
        old = state.choose(pick, rows, new)
        if len(state.chosen) < size:
            reader.update(rows, old, new)
            reader = reader.next(size)
    return state.cover()


class _State:
    """What is chosen, what each sample has (b), and what each would add."""

    def __init__(self, n: int) -> None:
        self.chosen: list[int] = []
        self.has = np.zeros(n, dtype=np.float32)
        self.gains: Float64Array = np.zeros(n)
        self._owners = np.full(n, -1)
        self._value = 0.0

    def best(self) -> int | None:
        """The first of those that add most; None if none adds anything."""
        most = self.gains.max()
        if self.chosen and most <= _TIE * self._value / len(self.chosen):
            return None
        return int(np.argmax(self.gains >= most - _TIE * most))

    def choose(self, pick: int, rows: Int64Array, new: Float32Array) -> Float32Array:
        """Takes one, to which some are more similar than to those before; what these had."""
        old = self.has[rows]
        self._value += float(np.subtract(new, old, dtype=np.float64).sum())
        self.has[rows] = new
        self._owners[rows] = pick
        self.chosen.append(pick)
        self.gains[pick] = -np.inf
        return old

    def renew(self, gains: Float64Array) -> None:
        gains[self.chosen] = -np.inf
        self.gains = gains

    def fill(self, size: int) -> None:
        free = np.ones(len(self.has), dtype=bool)
        free[self.chosen] = False
        self.chosen += np.flatnonzero(free)[: size - len(self.chosen)].tolist()

    def cover(self) -> Cover:
        positions = np.array(self.chosen, dtype=np.int64)
        self._owners[positions] = positions
        return Cover(positions, self._owners, self._value)


class _Rows:
    """Reads whole rows."""

    def __init__(self, similarity: Similarity, state: _State) -> None:
        self._similarity = similarity
        self._state = state
        self._state.gains = similarity.totals()
        self._most = 0.0  # forces fresh gains after the first step, in which all rows change anyway

    def improved(self, pick: int) -> tuple[Int64Array, Float32Array]:
        """Samples that are more similar to one than to what they have, and how similar they are."""
        row = self._similarity.rows(np.array([pick]))[0]
        rows = np.flatnonzero(row > self._state.has)
        return rows, row[rows]

    def update(self, rows: Int64Array, old: Float32Array, new: Float32Array) -> None:
        """Takes from the gains what is no longer to be had."""
        state = self._state
        if len(state.chosen) == 1:
            self._sum_up()
            return
        room = (new - old)[:, None]
        for part in row_blocks(np.arange(len(rows)), len(state.has)):
            block = self._similarity.rows(rows[part])
            block -= old[part, None]
            np.clip(block, 0, room[part], out=block)
            state.gains -= block.sum(axis=0)
        if state.gains.max() < self._most / 64:
            self._sum_up()

    def _sum_up(self) -> None:
        n = len(self._state.has)
        gains = np.zeros(n)
        for rows in row_blocks(np.arange(n), n):
            block = self._similarity.rows(rows)
            block -= self._state.has[rows, None]
            np.maximum(block, 0, out=block)
            gains += block.sum(axis=0)
        self._state.renew(gains)
        self._most = float(self._state.gains.max())

    def next(self, size: int) -> _Rows | _Entries:
        """What to read from now on, looked at after 8, 16, 32 … steps if at least as many are left."""
        steps, n = len(self._state.chosen), len(self._state.has)
        if steps < 8 or steps & (steps - 1) or size < 2 * steps or n < 512:
            return self
        sampled = np.arange(0, n, max(1, n // _SAMPLED_ROWS))
        above = self._similarity.rows(sampled) > self._state.has[sampled, None]
        limit = min(_MOST_ENTRIES, n * n // 32)
        if np.count_nonzero(above) / above.size * n * n > 0.8 * limit:
            return self
        entries = entries_above(self._similarity, self._state.has, limit)
        return self if entries is None else _Entries(entries, self._state)


class _Entries:
    """Reads some entries."""

    def __init__(self, entries: Entries, state: _State) -> None:
        self._entries = entries
        self._state = state
        everything = np.arange(len(state.has))
        state.renew(entries.gains(everything, state.has, np.full(len(everything), np.inf, dtype=np.float32)))

    def improved(self, pick: int) -> tuple[Int64Array, Float32Array]:
        rows, values = self._entries.column(pick)
        above = values > self._state.has[rows]
        return rows[above], values[above]

    def update(self, rows: Int64Array, old: Float32Array, new: Float32Array) -> None:
        self._state.gains -= self._entries.gains(rows, old, new)

    def next(self, size: int) -> _Entries:
        return self


def _reader(similarity: Similarity, form: Form, state: _State) -> _Rows | _Entries:
    if form is Form.NEIGHBOURS:
        return _Entries(nearest_neighbours(similarity, NEIGHBOURS), state)
    if form is Form.HELD and not isinstance(similarity, HeldSimilarity):
        similarity = held(similarity)
    return _Rows(similarity, state)

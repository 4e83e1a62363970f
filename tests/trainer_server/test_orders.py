from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modyn.core.keysets import KeyRange, KeySet
from modyn.trainer_server.orders import Listed, Share
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.training_sets import TrainingSamples


class Rank(Parallel):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@given(
    n=st.integers(0, 60),
    batch_size=st.integers(1, 20),
    processes=st.integers(1, 7),
    drop_last=st.booleans(),
    seed=st.integers(0, 9),
)
def test_shares_make_up_the_batches_of_one_process(
    n: int, batch_size: int, processes: int, drop_last: bool, seed: int
) -> None:
    whole = np.random.default_rng(seed).permutation(n)
    shares = [Share(Listed(whole), batch_size, Rank(rank, processes), drop_last=drop_last) for rank in range(processes)]
    dropped = n % batch_size if drop_last and n >= batch_size else 0
    batches = [whole[start : start + batch_size] for start in range(0, n - dropped, batch_size)]
    streams = [share.at(np.arange(len(share))) for share in shares]
    for number, batch in enumerate(batches):
        parts = []
        for share, stream in zip(shares, streams, strict=True):
            part = stream[number * share.rows : (number + 1) * share.rows]
            assert share.size_of(number) == len(batch)
            assert len(part) > 0
            assert np.isin(part, batch).all()
            if not share.is_padding(number):
                parts.append(part)
        assert np.array_equal(np.concatenate(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for share, stream in zip(shares, streams, strict=True):
        assert share.num_batches == len(batches) == -(-len(stream) // share.rows)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=8),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_keys_of_ranges_without_writing_them_out(lengths: list[tuple[int, int]], cut: tuple[float, float]) -> None:
    ranges, end = [], 0
    for gap, length in lengths:
        ranges.append(KeyRange(end + gap, end + gap + length))
        end += gap + length
    whole = KeySet(ranges=tuple(ranges))
    keys = whole.to_array()
    positions = np.random.default_rng(len(keys)).permutation(len(keys))
    for samples in (TrainingSamples(whole, None), TrainingSamples(KeySet(array=keys), None)):
        assert np.array_equal(samples.keys_at(positions), keys[positions])
        start, stop = sorted((int(cut[0] * (len(keys) - 1)), 1 + int(cut[1] * (len(keys) - 1))))
        stop = max(stop, start + 1)
        assert np.array_equal(samples.keys_between(start, stop).to_array(), keys[start:stop])

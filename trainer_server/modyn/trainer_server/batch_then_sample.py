"""Batch-then-sample: what is chosen of each batch, in full batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modyn.core.plugins.downsampling import Choice, ScoringStrategy
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.feeds import Downsampling, Feed
from modyn.trainer_server.scoring import candidates_of


class BatchThenSampleFeed(Feed):
    """Scores each batch, keeps a part of it, and makes full batches of the parts."""

    def __init__(self, source: BatchSource, work: Downsampling[ScoringStrategy]) -> None:
        super().__init__(source, work.record, work.costs)
        self._work = work
        self._batch_size = source.batch_size
        source.narrow(_All())

    def epoch(self, epoch: int, *, last: bool) -> Iterator[Batch]:
        random = self._work.random(epoch)
        waiting = _Waiting()
        num_full = 0
        for part in self._parts(epoch, random, last=last):
            waiting.add(part)
            while len(waiting) >= self._batch_size:
                num_full += 1
                yield waiting.take(self._batch_size)
        if len(waiting) and not (self._work.schedule.drop_last and num_full):
            yield waiting.take(len(waiting))

    def _parts(self, epoch: int, random: np.random.Generator, *, last: bool) -> Iterator[Batch]:
        """What is kept of each batch. Sizes are such that they add up to the target of the epoch."""
        strategy = self._work.strategy
        target = strategy.target_size(len(self.source))
        # Batches get what their share rounds to, up or down by chance: each has its turn, in whatever order they come.
        offset = int(random.integers(strategy.ratio_max))
        seen = chosen = 0
        first: Batch | None = None
        for batch in self.source.epoch(epoch, last=last):
            first = first or batch
            seen += len(batch)
            due = min(target, (strategy.ratio * seen + offset) // strategy.ratio_max)
            if due > chosen:
                yield self._choose(batch, min(due - chosen, len(batch)), random)
                chosen = due
        if not chosen and first is not None:  # a small set, of which at least one is trained
            yield self._choose(first, 1, random)

    def _choose(self, batch: Batch, size: int, random: np.random.Generator) -> Batch:
        work = self._work
        with work.costs.timing("score_seconds"), work.scorer.evaluating():
            columns = work.book.columns(batch, work.scorer, work.costs)
        choice = work.chosen(candidates_of(batch.labels.cpu().numpy(), columns), size, random)
        return batch.take(choice.positions).weighted(choice.weights)


class _All:
    """Makes a source know the places of all samples."""

    fixed = True

    def known(self, epoch: int) -> bool:
        return True

    def choice(self, epoch: int) -> Choice | None:
        return None


class _Waiting:
    """Samples that wait for a full batch."""

    def __init__(self) -> None:
        self._parts: list[Batch] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, part: Batch) -> None:
        self._parts.append(part)

    def take(self, count: int) -> Batch:
        """The first ``count`` of them."""
        whole = Batch.join(self._parts)
        self._parts = [whole.take(slice(count, len(whole)))] if count < len(whole) else []
        return whole.take(slice(0, count))

"""Batch-then-sample: what is chosen of each batch, in full batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

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
        self._now = _Epoch(work.random(0))
        source.narrow(_All())

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[Batch]:
        if not skip:  # else it came with the checkpoint
            self._now = _Epoch(self._work.random(epoch))
            # Batches get what their share rounds to, up or down by chance: each has its turn, whatever their order.
            self._now.offset = int(self._now.random.integers(self._work.strategy.ratio_max))
        now = self._now
        for part in self._parts(epoch, now, last=last):
            now.waiting.add(part)
            while len(now.waiting) >= self._batch_size:
                yield now.full(self._batch_size)
        if len(now.waiting) and not (self._work.schedule.drop_last and now.num_full):
            yield now.waiting.take(len(now.waiting))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "book": self._work.book.state(), "now": self._now.state()}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self._work.book.resume(state["book"])
        self._now.resume(state["now"])

    def _parts(self, epoch: int, now: _Epoch, *, last: bool) -> Iterator[Batch]:
        """What is kept of each batch. Sizes are such that they add up to the target of the epoch."""
        strategy = self._work.strategy
        target = strategy.target_size(len(self.source))
        first: Batch | None = None
        for batch in self.source.epoch(epoch, last=last, skip=now.num_read):
            first = first or batch
            now.num_read += 1
            now.seen += len(batch)
            due = min(target, (strategy.ratio * now.seen + now.offset) // strategy.ratio_max)
            if due > now.chosen:
                size = min(due - now.chosen, len(batch))
                now.chosen = due
                yield self._choose(batch, size, now.random)
        if not now.chosen and first is not None:  # a small set, of which at least one is trained
            now.chosen = 1
            yield self._choose(first, 1, now.random)

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


class _Epoch:
    """How far an epoch is.

    Attributes:
        offset: of the rounding of shares.
        num_read: batches of the source.
        seen: samples in them.
        chosen: of these.
        num_full: batches that were made of what was chosen.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.waiting = _Waiting()
        self.offset = self.num_read = self.seen = self.chosen = self.num_full = 0

    def full(self, count: int) -> Batch:
        """A full batch of those that wait."""
        self.num_full += 1
        return self.waiting.take(count)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "random": self.random.bit_generator.state,
            "waiting": self.waiting.state(),
            "numbers": [self.offset, self.num_read, self.seen, self.chosen, self.num_full],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self.random.bit_generator.state = state["random"]
        self.waiting.resume(state["waiting"])
        self.offset, self.num_read, self.seen, self.chosen, self.num_full = state["numbers"]


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

    def state(self) -> list[dict[str, Any]]:
        """For checkpoints: the fields of a batch of them all; of none, nothing."""
        whole = [Batch.join(self._parts)] if self._parts else []
        return [{field.name: getattr(batch, field.name) for field in fields(Batch)} for batch in whole]

    def resume(self, state: list[dict[str, Any]]) -> None:
        """Takes back what :meth:`state` gave."""
        self._parts = [Batch(**fields_of_batch) for fields_of_batch in state]

"""Where the training loop gets its batches from: the training set, or what a downsampling strategy leaves of it.

All choices of a training go through here: when samples are scored, what the strategy is told, and what it took.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from modyn.core.arrow import Int64Array
from modyn.core.errors import InternalError, InvalidInputError
from modyn.core.plugins.downsampling import (
    Candidates,
    Choice,
    DownsamplingStrategy,
    Float32Array,
    IndexStrategy,
    PruningStrategy,
    Score,
    ScoringStrategy,
)
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.scorebook import ScoreBook
from modyn.trainer_server.scoring import Collected, Scorer
from modyn.trainer_server.trained import TrainedRecord

SCORING_BATCHES = 4
"""Samples are scored in batches this many times as large as those that are trained: there is nothing to keep for
a backward pass."""

S_co = TypeVar("S_co", bound=DownsamplingStrategy, covariant=True)

Random = Callable[[int], np.random.Generator]
"""A fresh generator for each epoch."""


@dataclass
class Costs:
    """What downsampling took."""

    samples_scored: int = 0
    scores_reused: int = 0
    score_seconds: float = 0.0
    choose_seconds: float = 0.0
    auxiliary_seconds: float = 0.0
    auxiliary_samples: int = 0
    load_seconds: float = 0.0
    """Reading samples before it is known which of them an epoch trains on."""

    @property
    def seconds(self) -> float:
        return self.score_seconds + self.choose_seconds + self.auxiliary_seconds + self.load_seconds

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Adds the seconds of a block to the field ``what``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - started)


@dataclass(frozen=True)
class Downsampling(Generic[S_co]):
    """What a downsampled training works with.

    Attributes:
        strategy: of its trigger.
        schedule: of the training.
        random: of each epoch.
        book: scores that are known without the model.
        scorer: asks the model.
        record: of what is really trained.
        costs: counted as they arise.
    """

    strategy: S_co
    schedule: Schedule
    random: Random
    book: ScoreBook
    scorer: Scorer
    record: TrainedRecord = field(default_factory=TrainedRecord)
    costs: Costs = field(default_factory=Costs)

    def chosen(self, candidates: Candidates, size: int, random: np.random.Generator) -> Choice:
        """What a :class:`ScoringStrategy` chooses, checked."""
        assert isinstance(self.strategy, ScoringStrategy)
        with self.costs.timing("choose_seconds"):
            try:
                choice = self.strategy.choose(candidates, size, random)
            except InvalidInputError as error:
                name = self.strategy.plugin_name
                raise InvalidInputError(f"downsampling strategy {name}: {error.message}") from error
            check_choice(self.strategy, choice, len(candidates), size)
        return choice


class Feed(ABC):
    """Batches of each epoch."""

    wants_losses = False
    """Whether :meth:`trained` looks at losses."""

    steps = 1
    """How many batches of the planned epoch the last batch stands for, where epochs are shorter than planned."""

    def __init__(self, source: BatchSource, record: TrainedRecord | None = None, costs: Costs | None = None) -> None:
        self.source = source
        self.costs = costs or Costs()
        self._record = record
        self.auxiliary: list[str] = []
        """Digests of the models that were trained for it."""

    @abstractmethod
    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, but for the first ``skip``, which were trained before a restart. Epochs come in
        order, from 0 or from where a training goes on."""

    def trained(self, batch: Batch, losses: torch.Tensor | None) -> None:
        """A batch was trained; with the losses of its samples, [n], if they are wanted."""
        if self._record is not None:
            self._record.add(batch.keys, None if batch.weights is None else batch.weights.numpy())

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "record": None if self._record is None else self._record.state(),
            "costs": asdict(self.costs),
            "auxiliary": self.auxiliary,
            "left_out": [self.source.num_deleted, self.source.num_unlabelled],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        if self._record is not None:
            self._record.resume(state["record"])
        for name, value in state["costs"].items():
            setattr(self.costs, name, value)
        self.auxiliary = state["auxiliary"]
        self.source.num_deleted, self.source.num_unlabelled = state["left_out"]

    def end_epoch(self) -> None:
        """The batches since the last call were an epoch."""
        if self._record is not None:
            self._record.end_epoch()


class WholeFeed(Feed):
    """All samples in every epoch."""

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[Batch]:
        yield from self.source.epoch(epoch, last=last, skip=skip)


class _ChoiceFeed(Feed, Generic[S_co]):
    """Epochs of the samples that were chosen before they begin."""

    def __init__(self, source: BatchSource, work: Downsampling[S_co]) -> None:
        super().__init__(source, work.record, work.costs)
        self._work = work
        self._choice: Choice | None = None
        source.narrow(self)

    fixed = False
    """Whether all epochs train on the same samples."""

    def known(self, epoch: int) -> bool:
        """Whether the choice of the next epoch can be asked already."""
        return False

    def choice(self, epoch: int) -> Choice | None:
        """Positions in the training set."""
        return self._choice

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[Batch]:
        if not skip:  # else its choice came with the checkpoint
            self._begin(epoch)
        yield from self.source.epoch(epoch, last=last, skip=skip)

    @abstractmethod
    def _begin(self, epoch: int) -> None:
        """Makes the choice of an epoch."""

    def state(self) -> dict[str, Any]:
        choice = self._choice
        chosen = None if choice is None else [choice.positions, choice.weights]
        return {**super().state(), "choice": chosen, "book": self._work.book.state()}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self._choice = None if state["choice"] is None else Choice(*state["choice"])
        self._work.book.resume(state["book"])


class SampleThenBatchFeed(_ChoiceFeed[ScoringStrategy]):
    """Scores the whole set every few epochs and trains on what is chosen of it."""

    def known(self, epoch: int) -> bool:
        return not self._scores_at(epoch)

    def _scores_at(self, epoch: int) -> bool:
        period = self._work.strategy.period
        return epoch == 0 or (period > 0 and epoch % period == 0)

    def _begin(self, epoch: int) -> None:
        if not self._scores_at(epoch):
            return
        self._choice = None
        work, collected = self._work, Collected()
        with work.costs.timing("score_seconds"), work.scorer.evaluating():
            for batch in self.source.everything(self.source.batch_size * SCORING_BATCHES):
                collected.add(batch, work.book.columns(batch, work.scorer, work.costs))
        if not len(collected):
            return  # the source says why
        candidates = collected.candidates()
        choice = work.chosen(candidates, work.strategy.target_size(len(candidates)), work.random(epoch))
        self._choice = Choice(collected.places[choice.positions], choice.weights)


class IndexFeed(_ChoiceFeed[IndexStrategy]):
    """Chooses without looking at samples."""

    def __init__(self, source: BatchSource, work: Downsampling[IndexStrategy]) -> None:
        super().__init__(source, work)
        self._choices: dict[int, Choice] = {}
        self._present: Int64Array | None = None
        several = work.schedule.epochs > 1
        self.fixed = several and np.array_equal(self._chosen(0).positions, self._chosen(1).positions)

    def known(self, epoch: int) -> bool:
        return True

    def choice(self, epoch: int) -> Choice | None:
        choice = self._choices.get(epoch)
        if choice is None:  # of the current epoch, and of the next one that is being read meanwhile
            choice = self._chosen(epoch)
            self._choices = {known: c for known, c in self._choices.items() if known >= epoch - 1} | {epoch: choice}
        return choice

    def _chosen(self, epoch: int) -> Choice:
        work, present = self._work, self._present
        num_samples = len(self.source) if present is None else len(present)
        with work.costs.timing("choose_seconds"):
            choice = work.strategy.choose(num_samples, epoch, work.random)
            check_choice(work.strategy, choice, num_samples, work.strategy.target_size(num_samples))
        return choice if present is None else Choice(present[choice.positions], choice.weights)

    def _begin(self, epoch: int) -> None:
        if epoch == 0 and self._work.schedule.epochs > 1 and not self.fixed:
            with self._work.costs.timing("load_seconds"):
                self._present = self.source.load()  # each epoch needs others

    def state(self) -> dict[str, Any]:
        absent = None
        if self._present is not None:  # mostly nothing, where what is present would be the whole set
            absent = np.setdiff1d(np.arange(len(self.source)), self._present, assume_unique=True)
        return {**super().state(), "absent": absent}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        if state["absent"] is not None:
            self._present = np.delete(np.arange(len(self.source)), state["absent"])
            self._choices.clear()


class PruningFeed(_ChoiceFeed[PruningStrategy]):
    """Leaves out samples by the losses that training gave them."""

    wants_losses = True

    def __init__(self, source: BatchSource, work: Downsampling[PruningStrategy]) -> None:
        super().__init__(source, work)
        self._losses: Float32Array = work.book.of_set(Score.LOSS, work.costs)
        self._unread: list[tuple[Int64Array, Int64Array, torch.Tensor]] = []
        self._batches = 0
        """Of the epoch so far."""

    def _begin(self, epoch: int) -> None:
        work, self._choice, self._batches = self._work, None, 0
        if np.isnan(self._losses).all():
            return
        if epoch == 0 and work.schedule.epochs > 1:
            with work.costs.timing("load_seconds"):
                self.source.load()
        with work.costs.timing("choose_seconds"):
            choice = work.strategy.prune(self._losses, epoch, work.schedule.epochs, work.random(epoch))
            check_choice(work.strategy, choice, len(self._losses), None)
        self._choice = choice

    def trained(self, batch: Batch, losses: torch.Tensor | None) -> None:
        super().trained(batch, losses)
        assert losses is not None  # they are wanted
        assert batch.places is not None  # the source is narrowed
        self._unread.append((batch.keys, batch.places, losses))  # reading one would wait for a GPU
        self._batches += 1
        self.steps = self._planned(self._batches) - self._planned(self._batches - 1)

    def _planned(self, batches: int) -> int:
        """How many batches of a whole epoch so many of this one are, so that learning rates follow the plan."""
        schedule = self._work.schedule
        if self._choice is None or schedule.open_ended:
            return batches
        here = max(1, -(-len(self._choice) // self.source.batch_size))
        return min(batches, here) * schedule.batches_per_epoch // here

    def end_epoch(self) -> None:
        super().end_epoch()
        for keys, places, losses in self._unread:
            values = losses.float().cpu().numpy()
            self._losses[places] = values
            self._work.book.note(keys, {Score.LOSS: values})
        self._unread.clear()

    def state(self) -> dict[str, Any]:
        unread = [[keys, places, losses.float().cpu()] for keys, places, losses in self._unread]
        return {**super().state(), "losses": self._losses, "unread": unread, "batches": self._batches}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self._losses, self._batches = state["losses"], state["batches"]
        self._unread = [(keys, places, losses) for keys, places, losses in state["unread"]]


def check_choice(strategy: DownsamplingStrategy, choice: Choice, num_candidates: int, size: int | None) -> None:
    """
    Args:
        size: how many it had to choose; None: that was free.

    Raises:
        InternalError: a strategy did not do what it must.
    """
    positions: Int64Array = choice.positions
    wrong = None
    if size is not None and len(positions) != size:
        wrong = f"chose {len(positions)} of {num_candidates} samples, not {size}"
    elif len(positions) and (positions[0] < 0 or positions[-1] >= num_candidates or (np.diff(positions) <= 0).any()):
        wrong = "chose positions that do not exist, do not ascend or are there twice"
    elif choice.weights is not None and (
        len(choice.weights) != len(positions) or not np.isfinite(choice.weights).all() or (choice.weights < 0).any()
    ):
        wrong = "gave weights that are negative or not finite, or not one per sample"
    if wrong is not None:
        raise InternalError(f"downsampling strategy {strategy.plugin_name} {wrong}; report this to its author")

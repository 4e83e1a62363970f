"""Puts a downsampled training together: its feed, what it is told, and what is left of it for later triggers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa

from modyn.core.errors import InvalidInputError
from modyn.core.peers import Peers
from modyn.core.plugins.downsampling import (
    DownsamplingStrategy,
    IndexStrategy,
    PassesStrategy,
    PruningStrategy,
    ScoringStrategy,
)
from modyn.core.randomness import Purpose, generator
from modyn.core.values import from_value
from modyn.proto.trainer_server_pb2 import DownsamplingResult, TrainRequest
from modyn.selector.reader import read_sample_columns, store_sample_columns
from modyn.trainer_server.batch_then_sample import BatchThenSampleFeed
from modyn.trainer_server.batches import EPOCHS_PER_TRIGGER, BatchSource
from modyn.trainer_server.downsampling.rho_loss import RHOLoss
from modyn.trainer_server.feeds import (
    Costs,
    Downsampling,
    Feed,
    IndexFeed,
    PruningFeed,
    SampleThenBatchFeed,
    WholeFeed,
)
from modyn.trainer_server.irreducible import IrreducibleLosses, Open, Split
from modyn.trainer_server.loop import Setup
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.scorebook import ScoreBook
from modyn.trainer_server.scoring import Scorer
from modyn.trainer_server.trained import TrainedRecord
from modyn.trainer_server.training_sets import TrainingSamples

S = TypeVar("S", bound=DownsamplingStrategy)

SCORES = "scores"
"""Kind of sample columns with what later triggers may reuse."""


def makes_own_batches(strategy: DownsamplingStrategy) -> bool:
    """Whether its feed puts batches together from parts of the source's."""
    return isinstance(strategy, ScoringStrategy) and not strategy.sample_then_batch


@dataclass
class Downsampled:
    """One downsampled training.

    Attributes:
        strategy: how its training set is narrowed.
        samples_offered: passes that the training would be without it.
        samples: what of the training set may be trained on.
    """

    strategy: DownsamplingStrategy
    request: TrainRequest
    peers: Peers
    samples_offered: int
    samples: TrainingSamples
    split: Split | None
    record: TrainedRecord = field(default_factory=TrainedRecord)
    costs: Costs = field(default_factory=Costs)
    _book: ScoreBook | None = None
    _feed: Feed | None = None

    @staticmethod
    def of(
        strategy: DownsamplingStrategy, whole: Schedule, request: TrainRequest, samples: TrainingSamples, peers: Peers
    ) -> Downsampled:
        """
        Args:
            whole: of the training without a strategy.
            samples: the training set.
        """
        split = Split.of(samples, strategy, request.seed) if isinstance(strategy, RHOLoss) else None
        candidates = samples if split is None else split.candidates
        return Downsampled(strategy, request, peers, whole.total_samples, candidates, split)

    def feed(self, source: BatchSource, setup: Setup, open_source: Open, notice: Callable[[str], None]) -> Feed:
        """The batches to train on.

        Args:
            source: of ``samples``.
            open_source: makes sources of other samples, for auxiliary models.
            notice: takes a line for the user.
        """
        strategy = self.strategy
        if isinstance(strategy, PassesStrategy):
            self._feed = WholeFeed(source, self.record, self.costs)
            return self._feed
        book = self._book = ScoreBook(self.samples.keys.to_array(), strategy.reused, self._earlier())
        scorer = self._scorer(setup)
        feed: Feed
        if isinstance(strategy, IndexStrategy):
            feed = IndexFeed(source, self._work(strategy, setup, book, scorer))
        elif isinstance(strategy, PruningStrategy):
            feed = PruningFeed(source, self._work(strategy, setup, book, scorer))
        elif isinstance(strategy, ScoringStrategy):
            kind = SampleThenBatchFeed if strategy.sample_then_batch else BatchThenSampleFeed
            feed = kind(source, self._work(strategy, setup, book, scorer))
        else:
            raise InvalidInputError(f"downsampling strategy {strategy.plugin_name} is of no kind that can be trained")
        self._feed = feed
        # A checkpoint has the irreducible losses; the models that gave them are not trained again.
        if isinstance(strategy, RHOLoss) and self.split is not None and setup.checkpoints.load() is None:
            losses = IrreducibleLosses(
                strategy, self.request, self.peers, setup.device, open_source, setup.loss, self.costs, notice
            )
            feed.auxiliary = losses.compute(self.split, source, book, self.record)
        return feed

    def result(self) -> DownsamplingResult:
        """Stores what was trained and what later triggers may use, and says what it took."""
        costs, dataset = self.costs, self.request.dataset
        result = DownsamplingResult(
            trained=self.record.store(self.peers.selector, dataset),
            auxiliary_models=[] if self._feed is None else self._feed.auxiliary,
            samples_offered=self.samples_offered,
            samples_scored=costs.samples_scored,
            scores_reused=costs.scores_reused,
            score_seconds=costs.score_seconds,
            choose_seconds=costs.choose_seconds,
            auxiliary_seconds=costs.auxiliary_seconds,
            auxiliary_samples=costs.auxiliary_samples,
        )
        if self._book is not None and self._book.worth_keeping:
            result.scores = store_sample_columns(self.peers.selector, dataset, SCORES, self._book.batches())
        return result

    def _work(self, strategy: S, setup: Setup, book: ScoreBook, scorer: Scorer) -> Downsampling[S]:
        return Downsampling(strategy, setup.schedule, self._random, book, scorer, self.record, self.costs)

    def _earlier(self) -> pa.Table | None:
        if not self.strategy.reused or not self.request.HasField("scores"):
            return None
        return read_sample_columns(self.peers.selector, self.request.scores)

    def _scorer(self, setup: Setup) -> Scorer:
        needs = self.strategy.needs if isinstance(self.strategy, ScoringStrategy) else ()
        name = from_value(self.request.model)
        return Scorer(
            setup.model,
            str(name.get("id")) if isinstance(name, dict) else "",
            setup.loss,
            setup.device,
            precision=setup.precision,
            needs=needs,
        )

    def _random(self, epoch: int) -> np.random.Generator:
        index = self.request.trigger_index * EPOCHS_PER_TRIGGER + epoch
        return generator(self.request.seed, Purpose.DOWNSAMPLING, index)

"""Irreducible losses: what models that were not trained on a sample say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import TrainingSection
from modyn.core.peers import Peers
from modyn.core.plugins.downsampling import Float32Array, Score
from modyn.core.randomness import Purpose, generator
from modyn.models.building import build_model
from modyn.models.weights import dump, load
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.storage.reader import fetch_model, store_model
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.downsampling.rho_loss import RHOLoss
from modyn.trainer_server.feeds import SCORING_BATCHES, Costs, WholeFeed
from modyn.trainer_server.loop import Setup, train
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.precision import lower_precision
from modyn.trainer_server.progress import Progress
from modyn.trainer_server.runtime import seed_everything
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.scorebook import ScoreBook
from modyn.trainer_server.scoring import Scorer
from modyn.trainer_server.trained import TrainedRecord
from modyn.trainer_server.training_sets import TrainingSamples

KEYS_PER_BLOCK = 1 << 16

Mask = npt.NDArray[np.bool_]


class Open(Protocol):
    """Makes sources of other samples of the training set."""

    def __call__(self, samples: TrainingSamples, section: TrainingSection, *, drop_last: bool) -> BatchSource: ...


def held_out(keys: Int64Array, seed: int, ratio: int, ratio_max: int) -> Mask:
    """Which samples are held out: by their keys and the seed alone, so that it is the same ones at every trigger.

    Args:
        keys: int64 [n].

    Returns:
        bool [n]; each is true with probability ``ratio/ratio_max``.
    """
    mask = np.zeros(len(keys), dtype=np.bool_)
    blocks, order = keys // KEYS_PER_BLOCK, np.argsort(keys, kind="stable")
    numbers, starts = np.unique(blocks[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        draws = generator(seed, Purpose.HOLDOUT, number).integers(0, ratio_max, KEYS_PER_BLOCK)
        mask[rows] = draws[keys[rows] % KEYS_PER_BLOCK] < ratio
    return mask


@dataclass(frozen=True, eq=False)
class Split:
    """A training set, and which of its samples each auxiliary model is trained on.

    Attributes:
        candidates: what the pipeline's model may be trained on.
        parts: for each auxiliary model its training set, and the candidates whose irreducible loss it gives, bool [n].
    """

    candidates: TrainingSamples
    parts: tuple[tuple[TrainingSamples, Mask], ...]

    @staticmethod
    def of(samples: TrainingSamples, strategy: RHOLoss, seed: int) -> Split:
        """Sets so small that nothing, or everything, would be held out are not split."""
        keys = samples.keys.to_array()
        mask = held_out(keys, seed, strategy.holdout_set_ratio, strategy.holdout_set_ratio_max)
        if mask.all() or not mask.any():
            return Split(samples, ())
        first, second = samples.take(np.flatnonzero(mask)), samples.take(np.flatnonzero(~mask))
        if strategy.holdout_set_strategy == "Twin":
            return Split(samples, ((first, ~mask), (second, mask)))
        return Split(second, ((first, np.ones(len(second), dtype=np.bool_)),))


@dataclass(frozen=True)
class IrreducibleLosses:
    """Trains the auxiliary models of a training and asks them.

    Attributes:
        open: batches of some samples, as a training section says.
        loss: of the pipeline's training; irreducible losses are its values.
    """

    strategy: RHOLoss
    request: TrainRequest
    peers: Peers
    device: torch.device
    open: Open
    loss: Loss
    costs: Costs
    notice: Callable[[str], None]

    def compute(self, split: Split, source: BatchSource, book: ScoreBook, record: TrainedRecord) -> list[str]:
        """Fixes the irreducible losses of all candidates in the book; digests of the models, for the next trigger.

        Args:
            source: of the candidates.
        """
        earlier = list(self.request.auxiliary_models)
        missing = book.unknown(Score.IRREDUCIBLE_LOSS)
        values = book.of_set(Score.IRREDUCIBLE_LOSS, self.costs)
        if not missing.any() or not split.parts:
            if missing.any():
                self.notice(
                    f"trigger {self.request.trigger_index}: too few samples to hold any out for RHOLoss; it chooses by "
                    "their loss alone"
                )
            book.fix(Score.IRREDUCIBLE_LOSS, np.nan_to_num(values))
            return earlier
        digests = []
        for number, (samples, judged) in enumerate(split.parts):
            record.add_auxiliary(samples.keys.to_array())
            model = self._trained(number, samples, earlier)
            digests.append(store_model(self.peers.storage, dump(model)))
            self._judge(model, source, values, missing & judged)
        book.note_set(Score.IRREDUCIBLE_LOSS, values)
        book.fix(Score.IRREDUCIBLE_LOSS, values)
        return digests

    def _trained(self, number: int, samples: TrainingSamples, earlier: Sequence[str]) -> torch.nn.Module:
        section = self.strategy.il_training_config
        index = self.request.trigger_index * 2 + number
        self.notice(
            f"trigger {self.request.trigger_index}: training a model for irreducible losses on {len(samples)} samples"
        )
        with self.costs.timing("auxiliary_seconds"):
            seed_everything(self.request.seed, Purpose.HOLDOUT, index)
            root = self.request.code.root if self.request.code.HasField("root") else None
            model = build_model(section.model, root)
            if section.use_previous_model and number < len(earlier):
                load(model, fetch_model(self.peers.storage, earlier[number]))
            schedule = Schedule.of(len(samples), section, None)
            progress = Progress(lambda _: None)
            setup = Setup.build(model, section, schedule, self.device)
            train(setup, WholeFeed(self.open(samples, section, drop_last=schedule.drop_last)), progress)
            self.costs.auxiliary_samples += progress.samples
        return model

    def _judge(self, model: torch.nn.Module, source: BatchSource, values: Float32Array, wanted: Mask) -> None:
        """Writes a model's losses of the wanted samples into ``values``."""
        section = self.strategy.il_training_config
        precision = lower_precision(section, self.device)
        scorer = Scorer(model, section.il_model_id, self.loss, self.device, precision=precision, needs=(Score.LOSS,))
        with self.costs.timing("score_seconds"), scorer.evaluating():
            for batch in source.everything(source.batch_size * SCORING_BATCHES):
                assert batch.places is not None  # the source is narrowed
                rows = np.flatnonzero(wanted[batch.places])
                if len(rows):
                    part = batch.take(rows)
                    values[batch.places[rows]] = scorer.columns(part)[Score.LOSS]
                    self.costs.samples_scored += len(part)

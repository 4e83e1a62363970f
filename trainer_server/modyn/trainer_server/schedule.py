"""How many batches and samples a training will pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from modyn.core.config.pipeline import TrainingSection
from modyn.core.plugins.downsampling import DownsamplingStrategy, PassesStrategy, PruningStrategy


@dataclass(frozen=True)
class Schedule:
    """Totals of a training, exact before it starts.

    Attributes:
        samples_per_epoch: passed in a whole epoch.
        batches_per_epoch: in a whole epoch.
        epochs: begun; the last may be cut short by ``num_samples_to_pass``.
        total_samples: over all epochs.
        total_batches: over all epochs.
        drop_last: whether the last batch of an epoch is left out when it is not full.
        open_ended: epochs may be shorter than planned, so that ``total_samples`` takes more of them.
        accumulation: batches of an optimizer step; the last step of an epoch may have fewer.
    """

    samples_per_epoch: int
    batches_per_epoch: int
    epochs: int
    total_samples: int
    total_batches: int
    drop_last: bool
    open_ended: bool = False
    accumulation: int = 1

    @property
    def total_steps(self) -> int:
        """Optimizer steps over all epochs."""
        whole, rest = divmod(self.total_batches, self.batches_per_epoch)
        return whole * -(-self.batches_per_epoch // self.accumulation) + -(-rest // self.accumulation)

    def reached(self, samples: int, batches: int) -> bool:
        """Whether the training is over in the middle of an epoch, after so many of both."""
        if self.open_ended:
            return samples >= self.total_samples
        return batches >= self.total_batches < self.epochs * self.batches_per_epoch

    def numbers(self, first: int = 0) -> Iterable[int]:
        """Of the epochs, from one on."""
        return itertools.count(first) if self.open_ended else range(first, self.epochs)

    @staticmethod
    def of(num_samples: int, training: TrainingSection, num_samples_to_pass: int | None) -> Schedule:
        """The totals for a training set of ``num_samples`` > 0.

        A set smaller than one batch is always trained, as one batch. ``num_samples_to_pass`` ends the training
        with the batch that reaches it.
        """
        size = training.batch_size
        drop_last = training.drop_last_batch and num_samples >= size
        per_epoch = num_samples - num_samples % size if drop_last else num_samples
        batches = -(-per_epoch // size)
        if num_samples_to_pass is None:
            epochs = training.epochs_per_trigger
            return Schedule(
                samples_per_epoch=per_epoch,
                batches_per_epoch=batches,
                epochs=epochs,
                total_samples=per_epoch * epochs,
                total_batches=batches * epochs,
                drop_last=drop_last,
                accumulation=training.gradient_accumulation,
            )
        whole, rest = divmod(num_samples_to_pass, per_epoch)
        rest_batches = -(-rest // size)
        rest_samples = min(rest_batches * size, per_epoch)
        return Schedule(
            samples_per_epoch=per_epoch,
            batches_per_epoch=batches,
            epochs=whole + (1 if rest else 0),
            total_samples=whole * per_epoch + rest_samples,
            total_batches=whole * batches + rest_batches,
            drop_last=drop_last,
            accumulation=training.gradient_accumulation,
        )

    @staticmethod
    def downsampled(
        num_samples: int, training: TrainingSection, num_samples_to_pass: int | None, strategy: DownsamplingStrategy
    ) -> Schedule:
        """The totals for a training set that a strategy narrows.

        What a :class:`PruningStrategy` will leave out is not known before: its epochs are planned as whole ones, and
        learning-rate schedules go on as if they were.
        """
        if isinstance(strategy, PruningStrategy):
            whole = Schedule.of(num_samples, training, num_samples_to_pass)
            if num_samples_to_pass is None:
                return whole
            return replace(whole, total_samples=num_samples_to_pass, open_ended=True)
        if isinstance(strategy, PassesStrategy):
            whole = Schedule.of(num_samples, training, num_samples_to_pass)
            return Schedule.of(num_samples, training, strategy.target_size(whole.total_samples))
        return Schedule.of(strategy.target_size(num_samples), training, num_samples_to_pass)

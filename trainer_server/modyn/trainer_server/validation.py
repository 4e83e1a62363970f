"""Early stopping: a part of the training set is held out, and says when a training has gone far enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from modyn.core.arrow import Int64Array
from modyn.core.config.training import EarlyStoppingSection
from modyn.core.draws import Draws
from modyn.core.plugins.downsampling import Score
from modyn.proto.trainer_server_pb2 import TrainResult
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.hooks import Hooks
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.resuming import Weights
from modyn.trainer_server.scoring import Scorer
from modyn.trainer_server.training_sets import TrainingSamples

if TYPE_CHECKING:
    from modyn.trainer_server.loop import Setup

VALIDATION_BATCHES = 4
"""Held-out samples are judged in batches this many times as large as those that are trained: there is nothing to keep
for a backward pass."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A training set in two parts; which sample is in which depends on its key and the seed alone, at every trigger.

    Attributes:
        training: what is trained on.
        validation: what is held out; None if one of the parts would be empty.
    """

    training: TrainingSamples
    validation: TrainingSamples | None

    @staticmethod
    def of(samples: TrainingSamples, section: EarlyStoppingSection | None, seed: int) -> HeldOut:
        """
        Args:
            section: None: nothing is held out.
        """
        if section is None:
            return HeldOut(samples, None)
        mask = held_out(samples.keys.to_array(), section, seed)
        if mask.all() or not mask.any():
            return HeldOut(samples, None)
        return HeldOut(samples.take(np.flatnonzero(~mask)), samples.take(np.flatnonzero(mask)))


def held_out(keys: Int64Array, section: EarlyStoppingSection, seed: int) -> npt.NDArray[np.bool_]:
    """Which samples are held out, bool [n].

    Args:
        keys: of the samples, int64 [n].
    """
    mask: npt.NDArray[np.bool_] = Draws(seed, 0, 0, keys).uniform("early stopping")[:, 0] < section.validation_share
    return mask


class EarlyStopping:
    """Judges the model after each epoch, and keeps what the best one was.

    Args:
        source: of the samples that are held out.
        loss: of the training; what counts is its mean over the samples, without weights.
        model: as it is trained, but neither compiled nor wrapped.
        device: of the model.
        hooks: callbacks, whose state belongs to the weights.
        precision: what to compute with where that may be lower, as training does; None: the type of the weights.
    """

    def __init__(
        self,
        section: EarlyStoppingSection,
        source: BatchSource,
        *,
        loss: Loss,
        model: torch.nn.Module,
        device: torch.device,
        hooks: Hooks,
        parallel: Parallel,
        precision: torch.dtype | None,
    ) -> None:
        self._section = section
        self._source = source
        self._scorer = Scorer(model, "the model", loss, device, precision=precision, needs=(Score.LOSS,))
        self._model = model
        self._weights = Weights(model)
        self._hooks = hooks
        self._parallel = parallel
        self._device = device
        self._best: dict[str, Any] = {}
        self._lowest = math.inf
        self._bar = math.inf
        """What a loss has to be below to count as lower."""
        self._patience = section.patience
        self.losses: list[float] = []
        """After each epoch."""
        self.best_epoch: int | None = None

    @property
    def over(self) -> bool:
        """Whether the loss has not been lower for long enough."""
        return self._patience <= 0

    def judge(self, epoch: int) -> float | None:
        """The mean loss of the model on the held-out samples after an epoch; None if none of them has a label."""
        loss = self._loss()
        if loss is None:
            return None
        self.losses.append(loss)
        if loss < self._bar:
            self._bar = loss - self._section.min_delta
            self._patience = self._section.patience
        else:
            self._patience -= 1
        if loss < self._lowest:
            self._lowest, self.best_epoch = loss, epoch
            if self._section.restore_best:
                self._best = copied({"model": self._weights.state(), "callbacks": self._hooks.state()})
        return loss

    def report(self, result: TrainResult) -> None:
        """Writes down what came of it."""
        result.validation_losses.extend(self.losses)
        if self._section.restore_best and self.best_epoch is not None:
            result.best_epoch = self.best_epoch

    def restore(self) -> None:
        """Puts model and callbacks where they were after the best epoch, if that is wanted."""
        if self._best:
            self._weights.resume(self._best["model"])
            self._hooks.resume(self._best["callbacks"])
            self._best = {}

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "losses": list(self.losses),
            "best_epoch": self.best_epoch,
            "best": self._best,
            "lowest": self._lowest,
            "bar": self._bar,
            "patience": self._patience,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self.losses, self.best_epoch, self._best = list(state["losses"]), state["best_epoch"], state["best"]
        self._lowest, self._bar, self._patience = state["lowest"], state["bar"], state["patience"]

    def _loss(self) -> float | None:
        self._parallel.share_buffers(self._model)  # all judge the model that is stored
        total = torch.zeros(2, dtype=torch.float64, device=self._device)
        with self._scorer.evaluating():
            for batch in self._source.everything(self._source.batch_size * VALIDATION_BATCHES):
                part = batch.take(self._parallel.rows(len(batch)))
                if len(part):
                    losses = self._scorer.columns(part)[Score.LOSS]
                    total += torch.tensor([losses.sum(dtype=np.float64), len(part)], dtype=torch.float64)
        loss, count = self._parallel.total(total).tolist()
        return loss / count if count else None


def copied(state: Any) -> Any:
    """A state of its own: what the tensors and arrays in it are changed to does not change it."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, np.ndarray):
        return state.copy()
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [copied(value) for value in state]
    return state


def early_stopping(
    setup: Setup, source: BatchSource | None, trigger_index: int, notice: Callable[[str], None]
) -> EarlyStopping | None:
    """What ends a training early, if it wants that and there are samples to judge by.

    Args:
        source: of the samples that are held out; None: there are none.
        notice: takes a line for the user.
    """
    section = setup.section.early_stopping
    if section is None:
        return None
    if source is None:
        notice(
            f"trigger {trigger_index}: too few samples to hold any out (training.early_stopping.validation_share "
            f"{section.validation_share}); the training does not stop early"
        )
        return None
    return EarlyStopping(
        section,
        source,
        loss=setup.loss,
        model=setup.model,
        device=setup.device,
        hooks=setup.hooks,
        parallel=setup.parallel,
        precision=setup.precision,
    )

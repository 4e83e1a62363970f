"""The training loop on tensors, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from modyn.core.config.pipeline import TrainingSection
from modyn.proto.trainer_server_pb2 import TrainEvent
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.batches import BatchSource
from modyn.trainer_server.checkpoints import NO_CHECKPOINTS, Checkpoints
from modyn.trainer_server.feeds import Feed
from modyn.trainer_server.loop import Setup, train
from modyn.trainer_server.parallel import ALONE
from modyn.trainer_server.progress import Progress
from modyn.trainer_server.schedule import Schedule
from modyn.trainer_server.validation import EarlyStopping

CPU = torch.device("cpu")


class TensorSource:
    """What the loop and early stopping ask of a source, from tensors."""

    parse_seconds = 0.0
    bytes_read = 0
    num_deleted = 0
    num_unlabelled = 0

    def __init__(self, whole: Batch, batch_size: int) -> None:
        self._whole = whole
        self.batch_size = batch_size

    def everything(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self._whole), batch_size):
            yield self._whole.take(slice(start, start + batch_size))


class TensorFeed(Feed):
    """The rows of some tensors in the same order in each epoch."""

    def __init__(
        self, inputs: torch.Tensor, labels: torch.Tensor, batch_size: int, weights: torch.Tensor | None = None
    ) -> None:
        self.tensors = TensorSource(Batch(np.arange(len(labels)), inputs, labels, weights), batch_size)
        super().__init__(cast("BatchSource", self.tensors))

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(self.tensors.everything(self.tensors.batch_size)):
            if number >= skip:
                yield batch


class Fitted:
    """A training on tensors.

    Args:
        model: is trained.
        training: keys of the section.
        validation: judges for early stopping.
    """

    def __init__(
        self,
        model: nn.Module,
        feed: TensorFeed,
        training: dict[str, Any],
        *,
        num_samples: int,
        to_pass: int | None = None,
        validation: TensorFeed | None = None,
        checkpoints: Checkpoints = NO_CHECKPOINTS,
    ) -> None:
        self.section = TrainingSection.model_validate({"batch_size": feed.tensors.batch_size, **training})
        schedule = Schedule.of(num_samples, self.section, to_pass)
        self.setup = Setup.build(model, self.section, schedule, CPU, ALONE, checkpoints=checkpoints)
        self.events: list[TrainEvent] = []
        self.progress = Progress(lambda message: self.events.append(TrainEvent.FromString(message)))
        self.stopping: EarlyStopping | None = None
        if validation is not None:
            assert self.section.early_stopping is not None
            self.stopping = EarlyStopping(
                self.section.early_stopping,
                validation.source,
                loss=self.setup.loss,
                model=model,
                device=CPU,
                hooks=self.setup.hooks,
                parallel=ALONE,
                precision=None,
            )
        self.seconds = train(self.setup, feed, self.progress, self.stopping)


def sgd(**config: Any) -> dict[str, Any]:
    return {"optimizers": [{"algorithm": "SGD", "param_groups": [{"config": config}]}]}

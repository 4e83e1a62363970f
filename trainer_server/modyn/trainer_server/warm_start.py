"""What a training begins with: the weights of another model, more outputs for new classes, states of optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from modyn.core.config.training import TrainingSection
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.models.decoding import Decoder
from modyn.models.growing import grow
from modyn.models.weights import load
from modyn.proto.storage_pb2 import TRAINING, LabelsAsOf
from modyn.proto.trainer_server_pb2 import TrainRequest
from modyn.storage.reader import Column, Order, SampleBatch, fetch_model, read_samples, store_model, stream_columns
from modyn.trainer_server.loop import Setup
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.optimizer_states import dump_states, load_states


def begin_with(model: nn.Module, section: TrainingSection, request: TrainRequest, peers: Peers) -> None:
    """Puts the initial model's weights, if there is one, into a freshly built model.

    Raises:
        NotFoundError: no such model is stored.
        InvalidInputError: its weights do not fit.
    """
    if not request.HasField("initial_model"):
        return
    prefix = section.prefix_of(request.initial_model)
    load(model, fetch_model(peers.storage, request.initial_model), prefix=prefix, fit=section.new_classes == "grow")


@dataclass(frozen=True)
class NewClasses:
    """Widens a model for labels of its training set that it has no outputs for.

    Attributes:
        section: only with ``new_classes: grow`` anything is done.
        keys: of the whole training set.
        decoder: makes labels and inputs of samples.
        labels: which labels the training set was selected with; None: the newest.
    """

    section: TrainingSection
    peers: Peers
    dataset: str
    keys: KeySet
    decoder: Decoder
    labels: LabelsAsOf | None

    def make_room(self, model: nn.Module) -> None:
        """Widens the model on the CPU, in place; new outputs are drawn from torch's global generator.

        Raises:
            InvalidInputError: the criterion does not take class indices, or it is not known how to widen the model.
        """
        if self.section.new_classes != "grow":
            return
        loss = Loss(self.section.optimization_criterion, torch.device("cpu"))
        if not loss.one_label:
            raise InvalidInputError(
                f"training.new_classes: grow needs labels that are class indices, as CrossEntropyLoss takes them; with "
                f"training.optimization_criterion {self.section.optimization_criterion.name} set it to error"
            )
        needed = self._num_classes(loss.ignored)
        inputs = self._an_input() if needed else None
        if inputs is not None:  # else nothing is left to train on, which the training says
            grow(model, needed, inputs)

    def _num_classes(self, ignored: int | None) -> int:
        """One more than the largest label of the set, but for the one that is ignored."""
        batches = stream_columns(
            self.peers.storage,
            self.dataset,
            self.keys,
            columns=[Column.LABEL],
            order=Order.REQUEST,
            labels=self.labels,
            purpose=TRAINING,
        )
        return max((self._largest(batch.column("label"), ignored) for batch in batches), default=-1) + 1

    def _largest(self, column: pa.Array, ignored: int | None) -> int:
        labelled = column.filter(pc.is_valid(column))
        if not len(labelled):
            return -1
        labels = self.decoder.labels(labelled)
        if labels.is_floating_point():
            raise InvalidInputError(
                f"training.new_classes: grow needs labels that are class indices; they are "
                f"{str(labels.dtype).removeprefix('torch.')}. Make whole numbers of them with "
                "data.label_transformer_function, or set it to error"
            )
        if ignored is not None:
            labels = labels[labels != ignored]
        return int(labels.max()) if labels.numel() else -1

    def _an_input(self) -> Any:
        """What the model gets for one sample; None: all that were looked at are deleted."""
        for samples in self._some_samples():
            return self.decoder.inputs(samples.columns)
        return None

    def _some_samples(self) -> Iterator[SampleBatch]:
        return read_samples(
            self.peers.storage,
            self.dataset,
            self.keys,
            batch_size=1,
            columns=self.decoder.columns,
            labels=self.labels,
            purpose=TRAINING,
        )


def resume_optimizers(setup: Setup, request: TrainRequest, peers: Peers) -> None:
    """Gives optimizers what those of an earlier training knew of the parameters, if the request names it.

    Raises:
        InvalidInputError: it does not fit.
    """
    if not request.HasField("optimizer_state"):
        return
    prefix = setup.section.prefix_of(request.initial_model) if request.HasField("initial_model") else ""
    load_states(fetch_model(peers.storage, request.optimizer_state), setup.optimizers, setup.model, wanted=prefix)


def store_optimizers(setup: Setup, peers: Peers) -> str | None:
    """Stores what optimizers know of the parameters, for a later training; its digest. None: it is not kept."""
    if setup.section.optimizer_state != "keep":
        return None
    return store_model(peers.storage, dump_states(setup.optimizers, setup.model))

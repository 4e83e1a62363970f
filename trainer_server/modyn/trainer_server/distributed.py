"""Several processes that train one model, with ``torch.distributed``.

Each process has the whole model and a part of every batch; gradients are averaged over the processes while they arise
(DistributedDataParallel), so that all make the same optimizer step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modyn.core.errors import InvalidInputError, JobFailedError
from modyn.trainer_server.parallel import Parallel

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "socket")
"""In the messages of what collectives raise once another process is gone."""


class PeerLostError(JobFailedError):
    """Another process of the training ended; why, it says itself."""


class DistributedParallel(Parallel):
    """One of several processes, each with a rank of its own.

    Args:
        rank, size: of this process, and how many there are.
        on_gpus: each process has a GPU, counted on from the training's device.
    """

    def __init__(self, rank: int, size: int, *, on_gpus: bool) -> None:
        self.rank, self.size = rank, size
        self._on_gpus = on_gpus
        # Gradient buckets and the communication threads behind them must outlive whatever trained: taking them down
        # while another process still talks to this one can hang. The process ends without clean-up.
        self._kept: list[nn.Module] = []

    @staticmethod
    def join(*, on_gpus: bool) -> DistributedParallel:
        """Meets the other processes, which torch elastic has started with the same environment."""
        if not on_gpus:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)  # a host name need not resolve
        dist.init_process_group("nccl" if on_gpus else "gloo")
        return DistributedParallel(dist.get_rank(), dist.get_world_size(), on_gpus=on_gpus)

    def device(self, name: str) -> str:
        if not self._on_gpus:
            return name
        return f"cuda:{(torch.device(name).index or 0) + self.rank}"

    def wrap(self, model: nn.Module) -> nn.Module:
        """
        Raises:
            InvalidInputError: there is nothing to train.
        """
        parameters = list(model.parameters())
        trained = [parameter.requires_grad for parameter in parameters]
        if not any(trained):
            raise InvalidInputError("the model has no parameters that are trained; several processes need at least one")
        if self._on_gpus:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # Whatever is frozen now may be trained in later epochs, and the other way round: all take part, and those that
        # a batch leaves out are found in its graph.
        for parameter in parameters:
            parameter.requires_grad_(parameter.is_floating_point())
        wrapped = _Replica(model, find_unused_parameters=True)
        for parameter, was_trained in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was_trained)
        self._kept.append(wrapped)
        return wrapped

    def notice(self, model: nn.Module) -> str | None:
        normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        if self._on_gpus or not normalises:
            return None
        return (
            f"training.processes {self.size}: the model has batch normalisation, whose statistics on the CPU are those "
            "of each process's part of a batch; the model differs from one that is trained in one process"
        )

    def total(self, values: torch.Tensor) -> torch.Tensor:
        summed = values.detach().to(self._where(), copy=True)
        with _naming_lost_peers():
            dist.all_reduce(summed)
        return summed.to(values.device)

    def agreed(self, answer: bool) -> bool:
        told = torch.tensor([answer], dtype=torch.uint8, device=self._where())
        with _naming_lost_peers():
            dist.broadcast(told, src=0)
        return bool(told.item())

    def share_buffers(self, model: nn.Module) -> None:
        with _naming_lost_peers(), torch.no_grad():
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def _where(self) -> torch.device:
        """Where collectives work."""
        return torch.device("cuda", torch.cuda.current_device()) if self._on_gpus else torch.device("cpu")


class _Replica(DistributedDataParallel):
    """A model among its copies in other processes; what goes wrong because one of these ended says so."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        with _naming_lost_peers():
            return super().forward(*inputs, **options)


@contextmanager
def _naming_lost_peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = lost_peer(error)
        if lost is None:
            raise
        raise lost from error


def lost_peer(error: BaseException) -> PeerLostError | None:
    """The error to raise if one means that another process is gone; None if it means something else."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PeerLostError):
            return seen
        text = str(seen).lower()
        if isinstance(seen, dist.DistError) or (isinstance(seen, RuntimeError) and any(word in text for word in _LOST)):
            return PeerLostError("another process of the training ended")
        seen = seen.__cause__
    return None

"""The outcome files of one job, one after the other: each counts as soon as it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from modyn.core.arrow import Int64Array
from modyn.core.digests import digest_file
from modyn.core.errors import InvalidInputError
from modyn.core.files import fsync_file
from modyn.evaluator.outcomes import OutcomeWriter
from modyn.proto.evaluator_pb2 import PredictedModel, PredictEvent, PredictPart

Send = Callable[[PredictEvent], None]


class OutcomeParts:
    """Writes what models say; a file exists once one said something.

    Args:
        output: beginning of the paths of the files.
        keep_scores: whether files have scores.
        seconds: about how long a file is written before the next one is begun.
        send: told of each file that is complete.

    Attributes:
        samples_read: of the part, counted by whoever reads.
        bytes_read: of the part.
    """

    def __init__(self, output: str, *, keep_scores: bool, seconds: float, send: Send) -> None:
        self.keep_scores = keep_scores
        self.samples_read = 0
        self.bytes_read = 0
        self._output = output
        self._seconds = seconds
        self._send = send
        self._begun = time.perf_counter()
        self._number = 0
        self._writer: OutcomeWriter | None = None
        self._num_outputs: int | None = None

    def write(self, model: str, keys: Int64Array, predictions: torch.Tensor, scores: torch.Tensor | None) -> None:
        """Appends what a model said of n samples: int64 [n] and, if they are kept, float32 [n, outputs].

        Raises:
            InvalidInputError: another model has another number of outputs.
        """
        outputs = 0 if scores is None else scores.shape[1]
        if self._num_outputs is None:
            self._num_outputs = outputs
        if outputs != self._num_outputs:
            raise InvalidInputError(
                f"the model has {outputs} outputs, but another one of this evaluation has {self._num_outputs}; "
                "evaluate them in pipelines of their own"
            )
        if self._writer is None:
            self._writer = OutcomeWriter(self._path, outputs if self.keep_scores else None)
        self._writer.write(model, keys, predictions.cpu().numpy(), None if scores is None else scores.cpu().numpy())

    @property
    def is_due(self) -> bool:
        """Whether the file was written for long enough."""
        return time.perf_counter() - self._begun > self._seconds

    def close(self, models: Sequence[PredictedModel]) -> None:
        """Completes the file, tells of it, and goes on with the next one.

        Args:
            models: those whose predictions in it count; nothing of them is held back.
        """
        part = PredictPart(models=models, samples_read=self.samples_read, bytes_read=self.bytes_read)
        if self._writer is not None:
            self._writer.close()
            path = self._path
            self._writer = None
            self._number += 1
            if models:
                fsync_file(path)
                part.path, part.file = str(path), digest_file(path)
            else:
                path.unlink()
        now = time.perf_counter()
        part.seconds, self._begun = now - self._begun, now
        self.samples_read = self.bytes_read = 0
        self._send(PredictEvent(part=part))

    @property
    def _path(self) -> Path:
        return Path(f"{self._output}-{self._number}.arrow")

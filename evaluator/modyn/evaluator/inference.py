"""One model in a prediction job: loaded when first needed, shown its samples, dropped after the last one."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from modyn.core.config.pipeline import ModelSection
from modyn.core.errors import ModynError
from modyn.core.out_of_memory import out_of_memory
from modyn.evaluator.forwarding import ModelFailedError, Said, Viewer
from modyn.evaluator.parts import OutcomeParts
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.reading import Batch
from modyn.models.building import build_model
from modyn.models.usercode import describe_error
from modyn.models.weights import load
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import fetch_model

FLUSH_BYTES = 64 << 20
"""Outputs of one model kept in memory before they are written."""


def seed_torch(seed: int, device: torch.device) -> None:
    """Seeds what draws for tensors."""
    # Not torch.manual_seed: without a GPU, it notes a stack trace for later, which takes milliseconds.
    torch.default_generator.manual_seed(seed % 2**32)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed % 2**32)


@dataclass(frozen=True)
class ModelLoader:
    """Turns stored weights into modules ready to predict."""

    section: ModelSection
    root: str | None
    stub: StorageStub
    device: torch.device
    seed: int

    def __call__(self, digest: str) -> torch.nn.Module:
        data = fetch_model(self.stub, digest)
        seed_torch(self.seed, self.device)  # whatever is random in a model and not part of its weights
        module = build_model(self.section, self.root)
        load(module, data)
        return module.to(self.device).eval()


class ModelRun:
    """One model and what it said since the last write.

    Args:
        task: which samples it needs.
        load: makes its module.
        output: takes its predictions.

    Attributes:
        module: while it is loaded.
    """

    def __init__(self, task: ModelTask, load: Callable[[str], torch.nn.Module], output: OutcomeParts) -> None:
        self.task = task
        self._load = load
        self._output = output
        self.module: torch.nn.Module | None = None
        self._in_part = 0
        self._clear()

    def load(self) -> None:
        """Loads the model now, if it needs the first sample: reading it takes a while anyway.

        Raises:
            ModelFailedError: it cannot be loaded.
        """
        if len(self.task) and self.task.start == 0:
            self._loaded()

    def viewer(self, batch: Batch) -> Viewer | None:
        """The model, if it needs any of some samples; None: it does not. It is loaded if it is the first time.

        Raises:
            ModelFailedError: it cannot be loaded.
        """
        if not self.task.needs(batch.places):
            return None
        return Viewer(self._loaded(), self.task)

    def take(self, outcome: Sequence[Said] | Exception) -> int:
        """Keeps what the model said; of how many samples that is.

        Raises:
            ModelFailedError: it could not say anything, or its output is wrong.
        """
        with self._failing():
            if isinstance(outcome, Exception):
                raise outcome
            count = sum(len(said.keys) for said in outcome)
            self._said += outcome
            self._bytes += sum(said.nbytes for said in outcome)
            self._in_part += count
            if self._bytes >= FLUSH_BYTES:
                self._flush()
        return count

    def passed(self, end: int) -> None:
        """All who need what is before position ``end`` have seen it: a model that needs nothing after it is dropped.

        Raises:
            ModelFailedError: its output is wrong.
        """
        if end >= self.task.end:
            self.finish()

    def finish(self) -> None:
        """All samples were shown: writes what is left. The last ones it needed may have been deleted meanwhile.

        Raises:
            ModelFailedError: its output is wrong.
        """
        with self._failing():
            self._flush()
            self.module = None

    def flush(self) -> int:
        """Writes what is held back, as an outcome file is to be complete; how many predictions are in the file.

        Raises:
            ModelFailedError: its output is wrong.
        """
        with self._failing():
            self._flush()
        count, self._in_part = self._in_part, 0
        return count

    def _loaded(self) -> torch.nn.Module:
        if self.module is None:
            with self._failing():
                self.module = self._load(self.task.model)
        return self.module

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except ModelFailedError:
            raise
        except ModynError as error:
            raise ModelFailedError(error.message) from error
        except Exception as error:
            if out_of_memory(error) is not None:  # the job knows what to do about it
                raise
            traceback.print_exc()
            raise ModelFailedError(f"it raised {describe_error(error)}") from error

    def _flush(self) -> None:
        if self._said:
            whole = Said.join(self._said)
            self._output.write(self.task.model, whole.keys, whole.predictions, whole.scores)
        self._clear()

    def _clear(self) -> None:
        self._said: list[Said] = []
        self._bytes = 0

"""The job behind a stream of questions: it keeps its connection and the models it used last."""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from modyn.core.arrow import MESSAGE_BYTES, Int64Array, batch_of, encode_batch, rows_per_message, slices
from modyn.core.config.pipeline import ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.rpc import connect
from modyn.core.values import from_value
from modyn.evaluator.forwarding import class_scores, moved, predicted_classes
from modyn.evaluator.inference import ModelLoader
from modyn.evaluator.job import Emit, configure, seed_all, transformed_classes
from modyn.evaluator.request import parse_data
from modyn.models.decoding import Decoder
from modyn.models.embedding import EmbeddingTap
from modyn.models.usercode import describe_error
from modyn.proto.evaluator_pb2 import ObserveAnswer, ObserveDone, ObserveJob, ObserveRequest, ObserveSession
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import SampleBatch, read_samples

MAX_MODELS = 3
"""Models kept ready; a trigger compares at most a few."""

Receive = Callable[[], bytes | None]
Send = Callable[[ObserveAnswer], None]


def run(payload: bytes, emit: Emit, receive: Receive) -> None:
    """Entry point: answers serialised :class:`ObserveRequest` messages until there are no more.

    Raises:
        ModynError: a request cannot be answered, for the user.
    """
    job = ObserveJob.FromString(payload)
    session = job.session
    root = session.code.root if session.code.HasField("root") else None
    device = configure(session)
    decoder = Decoder(parse_data(session), root)
    section = parse_section(ModelSection, from_value(session.model), "model")
    with connect(job.storage_address) as channel:
        stub = StorageStub(channel)
        models = Models(section.id, ModelLoader(section, root, stub, device, session.seed))
        observer = SampleObserver(session, stub, decoder, models)
        while (message := receive()) is not None:
            observer.answer(ObserveRequest.FromString(message), lambda answer: emit(answer.SerializeToString()))


class Models:
    """The models used last, ready to predict.

    Args:
        name: of their kind, for messages.
        load: makes the module of a digest.
    """

    def __init__(self, name: str, load: ModelLoader) -> None:
        self._name = name
        self._load = load
        self._ready: OrderedDict[str, torch.nn.Module] = OrderedDict()

    @property
    def device(self) -> torch.device:
        return self._load.device

    def get(self, digest: str) -> torch.nn.Module:
        """A module in evaluation mode.

        Raises:
            NotFoundError: there is no such model.
            InvalidInputError: it does not fit the model section.
        """
        if digest not in self._ready:
            while len(self._ready) >= MAX_MODELS:  # before the next one takes its memory
                self._ready.popitem(last=False)
            with _blamed(digest, "cannot be loaded"):
                self._ready[digest] = self._load(digest)
        self._ready.move_to_end(digest)
        return self._ready[digest]

    def tap(self, module: torch.nn.Module) -> EmbeddingTap:
        return EmbeddingTap(module, self._name)


@dataclass(frozen=True)
class _Said:
    """What a model said of the n samples of a batch.

    Attributes:
        keys, predictions: int64 [n].
        scores, embeddings: float32 [n, k], or None if nobody asked.
    """

    keys: Int64Array
    predictions: Int64Array
    scores: npt.NDArray[np.float32] | None
    embeddings: npt.NDArray[np.float32] | None

    def messages(self) -> Iterator[bytes]:
        """As Arrow IPC streams of about 1 MiB."""
        columns: dict[str, object] = {"key": self.keys, "prediction": self.predictions}
        row_bytes = 16.0
        for name, matrix in (("scores", self.scores), ("embedding", self.embeddings)):
            if matrix is not None:
                flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])
                row_bytes += 4.0 * matrix.shape[1]
        batch = batch_of(**columns)
        for rows in slices(len(self.keys), rows_per_message(row_bytes)):
            yield encode_batch(batch.slice(rows.start, rows.stop - rows.start))


class SampleObserver:
    """Answers requests one after the other."""

    def __init__(self, session: ObserveSession, stub: StorageStub, decoder: Decoder, models: Models) -> None:
        self._session = session
        self._stub = stub
        self._decoder = decoder
        self._models = models

    def answer(self, request: ObserveRequest, send: Send) -> None:
        """Sends what a request asks for; the last message has ``done``.

        Raises:
            ModynError: it cannot be answered.
        """
        begin = time.perf_counter()
        done = ObserveDone()
        if request.HasField("labels"):
            seed_all(self._session.seed, self._models.device)
            done.classes = transformed_classes(self._decoder, request.labels)
        held: bytes | None = None  # the last message says that it is the last
        for message in self._messages(request, done):
            if held is not None:
                send(ObserveAnswer(samples=held))
            held = message
        done.seconds = time.perf_counter() - begin
        send(ObserveAnswer(samples=held, done=done))

    def _messages(self, request: ObserveRequest, done: ObserveDone) -> Iterator[bytes]:
        pending: list[_Said] = []
        size = 0
        for said in self._said(request):
            done.samples += len(said.keys)
            pending.append(said)
            size += sum(part.nbytes for part in vars(said).values() if part is not None)
            if size >= MESSAGE_BYTES:
                yield from _joined(pending).messages()
                pending, size = [], 0
        if pending:
            yield from _joined(pending).messages()

    def _said(self, request: ObserveRequest) -> Iterator[_Said]:
        keys = KeySet.from_proto(request.keys)
        if not len(keys):
            if request.model:
                self._models.get(request.model)
            return
        module = self._models.get(request.model)
        tap = self._models.tap(module) if request.embeddings else None
        # What user code draws must not depend on what was asked, or loaded, before.
        seed_all(self._session.seed, self._models.device)
        samples = read_samples(
            self._stub,
            self._session.dataset,
            keys,
            batch_size=self._session.batch_size,
            columns=self._decoder.columns,
        )
        for batch in samples:
            if len(batch):
                yield self._see(request, batch, module, tap)

    def _see(
        self, request: ObserveRequest, batch: SampleBatch, module: torch.nn.Module, tap: EmbeddingTap | None
    ) -> _Said:
        inputs = moved(self._decoder.inputs(batch.columns), self._models.device)
        catching = nullcontext() if tap is None else tap.catching()
        with _blamed(request.model, "cannot predict"), torch.inference_mode(), catching:
            scores = class_scores(module(inputs), len(batch))
            embeddings = None if tap is None else tap.embeddings(len(batch)).cpu().numpy()
        predictions: Int64Array = predicted_classes(scores).cpu().numpy()
        return _Said(batch.keys, predictions, scores.cpu().numpy() if request.scores else None, embeddings)


def _joined(parts: list[_Said]) -> _Said:
    if len(parts) == 1:
        return parts[0]

    def matrix(name: str) -> npt.NDArray[np.float32] | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return _Said(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.predictions for part in parts]),
        matrix("scores"),
        matrix("embeddings"),
    )


@contextmanager
def _blamed(model: str, what: str) -> Iterator[None]:
    """Errors name the model."""
    try:
        yield
    except ModynError as error:
        raise type(error)(f"model {model} {what}: {error.message}") from error
    except Exception as error:
        traceback.print_exc()
        raise InvalidInputError(f"model {model} {what}: {describe_error(error)}") from error

"""The stream on which a pipeline asks the evaluator what models say of samples."""

from __future__ import annotations

import itertools
import logging
import queue
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from modyn.core.arrow import Int64Array, batch_of, decode_batch, encode_batch, slices
from modyn.core.errors import JobFailedError, ModynError, UnavailableError
from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.evaluator.observing import MAX_KEYS
from modyn.proto.evaluator_pb2 import ObserveAnswer, ObserveRequest, ObserveSession
from modyn.supervisor.calls import StopSignal
from modyn.supervisor.rowcache import Rows

logger = logging.getLogger(__name__)

SCORES, EMBEDDINGS = "scores", "embedding"
PREDICTIONS = "prediction"
"""What a model says, by its column in the evaluator's answers."""


@dataclass
class Said:
    """What a model said of samples.

    Attributes:
        keys: int64 [n], in the order asked for; those of deleted samples are missing.
        rows: by what was asked for: ``prediction`` int64 [n], ``scores`` and ``embedding`` float32 [n, k]; empty if n
            is 0.
        classes: transformed labels, int64, as many as there were labels.
    """

    keys: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    rows: dict[str, Rows] = field(default_factory=dict)
    classes: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class ObserveStream:
    """Asks the evaluator; the stream opens with the first question and is opened anew after an error.

    Args:
        stop: a stop of the pipeline cancels the stream.
        session: what all questions share.
    """

    def __init__(self, peers: Peers, stop: StopSignal, session: ObserveSession) -> None:
        self._peers = peers
        self._stop = stop
        self._session = session
        self._requests: queue.SimpleQueue[ObserveRequest | None] = queue.SimpleQueue()
        self._answers: Iterator[ObserveAnswer] | None = None
        self._unheard = 0
        """Requests whose answers nobody will read."""
        self._last: tuple[str, Int64Array, set[str], pa.Array | None] | None = None
        self._expected = 0
        """Requests of the question that is being answered."""
        self._opened = ExitStack()

    def prepare(self, model: str) -> None:
        """Has a model loaded, or with an empty name the job started, while the caller does something else.

        What goes wrong shows with the next question.
        """
        self._open([ObserveRequest(model=model)])
        self._unheard += 1  # nothing is sent between a question and its answer

    def ask(self, model: str, keys: Int64Array, wanted: set[str], labels: pa.Array | None = None) -> Said:
        """What a model says of samples.

        Args:
            model: content digest.
            keys: int64 [n], each once.
            wanted: of ``scores`` and ``embedding``; predictions are always answered.
            labels: to send through the label transformer, in the same call.

        Raises:
            ModynError: whatever the evaluator or its job raised.
            CancelledError: the pipeline was stopped.
        """
        self.send(model, keys, wanted, labels)
        return self.receive()

    def send(self, model: str, keys: Int64Array, wanted: set[str], labels: pa.Array | None = None) -> None:
        """The first half of :meth:`ask`; the caller may do something else before it calls :meth:`receive`."""
        self._last = (model, keys, wanted, labels)
        requests = list(_requests(model, keys, wanted, labels))
        self._unheard += self._expected  # of a question whose caller never came back
        self._expected = 0
        self._open(requests)
        self._expected = len(requests)

    def receive(self) -> Said:
        """The answer to what was sent last. A job that dies is replaced once: answers depend on the question alone."""
        try:
            return self._received()
        except JobFailedError as error:
            logger.warning("asking again: %s", error.message)
            assert self._last is not None, "something was sent"
            self.send(*self._last)
            return self._received()

    def _received(self) -> Said:
        try:
            assert self._answers is not None, "something was sent"
            for _ in range(self._unheard):
                for _ in _one(self._answers):
                    pass
            self._unheard = 0
            said = _joined([answer for _ in range(self._expected) for answer in _one(self._answers)])
            self._expected = 0
            return said
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Ends the stream, and with it the evaluator's job; waits until it has ended."""
        answers = self._answers
        self._requests.put(None)
        if answers is not None:
            try:
                for _ in answers:
                    pass
            except ModynError:  # whatever went wrong, nobody waits for an answer
                pass
        self._drop()

    def _open(self, requests: list[ObserveRequest]) -> None:
        if self._answers is None:
            requests[0].session.CopyFrom(self._session)
            # The queue belongs to this stream: its reader may still wait for one that ended.
            self._requests = queue.SimpleQueue()
            answers = self._peers.evaluator.Observe(iter(self._requests.get, None))
            self._answers = self._opened.enter_context(self._stop.cancellable(answers, on_stop=True))
        for request in requests:
            self._requests.put(request)

    def _drop(self) -> None:
        self._requests.put(None)
        self._opened.close()
        self._answers = None
        self._unheard = self._expected = 0


def _requests(model: str, keys: Int64Array, wanted: set[str], labels: pa.Array | None) -> Iterator[ObserveRequest]:
    parts = [keys[part] for part in slices(len(keys), MAX_KEYS)]
    label_parts = [] if labels is None else [labels[part] for part in slices(len(labels), MAX_KEYS)]
    for part, some in itertools.zip_longest(parts, label_parts):
        yield ObserveRequest(
            model=model,
            keys=KeySet.from_array([] if part is None else part).to_proto(),
            scores=SCORES in wanted,
            embeddings=EMBEDDINGS in wanted,
            labels=None if some is None else encode_batch(batch_of(label=some)),
        )


def _one(answers: Iterator[ObserveAnswer]) -> Iterator[ObserveAnswer]:
    """The messages that answer one request."""
    for answer in answers:
        yield answer
        if answer.HasField("done"):
            return
    raise UnavailableError("the evaluator ended the stream without an answer; is it stopping?")


def _joined(answers: list[ObserveAnswer]) -> Said:
    said = Said()
    batches = [decode_batch(answer.samples) for answer in answers if answer.HasField("samples")]
    if batches:
        for name in batches[0].schema.names:
            said.rows[name] = np.concatenate([_rows(batch.column(name)) for batch in batches])
        said.keys = said.rows.pop("key")
    classes = b"".join(answer.done.classes for answer in answers)
    said.classes = np.frombuffer(classes, dtype="<i8").astype(np.int64, copy=False)
    return said


def _rows(column: pa.Array) -> Rows:
    if pa.types.is_fixed_size_list(column.type):
        matrix: Rows = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        return matrix
    vector: Rows = column.to_numpy()
    return vector

"""What triggers may ask about samples, answered by the evaluator and storage; every answer is kept while it fits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.config.pipeline import DataSection, EvaluationDataset, evaluation_datasets
from modyn.core.errors import CancelledError, InvalidInputError
from modyn.core.keysets import KeySet
from modyn.core.plugins.evaluation import Outcomes
from modyn.core.plugins.triggers import Features, KnownOutcomes, Observer
from modyn.core.randomness import Purpose, generator
from modyn.core.values import to_value
from modyn.evaluator.samples import class_labels
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.evaluator_pb2 import ObserveSession
from modyn.storage.reader import Column, Order, read_columns, read_samples
from modyn.supervisor.asking import EMBEDDINGS, PREDICTIONS, SCORES, ObserveStream, Said
from modyn.supervisor.context import RunContext
from modyn.supervisor.features import holds_numbers, matrix_of
from modyn.supervisor.labels import KnownLabels
from modyn.supervisor.rowcache import RowCache, Rows

CACHE_BYTES = 512 << 20
"""Of answers that are kept."""

OWNERS_KEPT = 2
"""Models, and sets of columns, whose answers are kept: a trigger compares the newest model with the one before."""

EXPECTED_LABELS = 0.9
"""Samples are predicted while their labels are looked up if this share of them had one last time. Those without one
are not asked for again: what was said of them is kept."""

READ_ROWS = 4_096
"""Rows per batch of raw columns."""

COLUMNS = "columns"
"""Kind of kept rows; the other kinds are what a model says."""

Mask = npt.NDArray[np.bool_]


class PipelineObserver(Observer):
    """The observer of one pipeline; not safe for several threads at once.

    What its trigger asks of models is answered by one job at the evaluator, which starts with the first question and
    ends with :meth:`close` or when the pipeline is stopped. Samples are decoded as the evaluation dataset of the same
    name says if there is one (training may augment them), else as ``data`` does.

    Args:
        run: the pipeline.
        labels: which labels it may see: those that its trainings see.
        max_bytes: of the answers that are kept.

    Attributes:
        samples_predicted: how often a sample was shown to a model.
        samples_embedded: how often that was for its embedding too.
        samples_read: how often a sample's own columns were read.
        seconds: spent on all answers, wall time.
    """

    def __init__(self, run: RunContext, labels: KnownLabels, *, max_bytes: int = CACHE_BYTES) -> None:
        data = _evaluation_data(run)
        self._peers = run.peers
        self._stop = run.stop
        self._dataset = data.dataset_id
        self._seed = run.config.training.seed
        self._labels = labels
        self._transforms_labels = bool(data.label_transformer_function.strip())
        self._stream = ObserveStream(run.peers, run.stop, _session(run, data))
        self._cache = RowCache(max_bytes, OWNERS_KEPT)
        # What was ever asked for is fetched along from then on, so that no sample has to be shown twice.
        self._wanted: set[str] = set()
        self._newest = 0
        self._labelled_share = 1.0
        """Of the samples that were last asked about, those that had a label."""
        self.samples_predicted = 0
        self.samples_embedded = 0
        self.samples_read = 0
        self.seconds = 0.0

    def close(self) -> None:
        """Ends the job at the evaluator; a later question would start another one."""
        self._stream.close()

    def prepare(self, model: str | None = None) -> None:
        """Says what will be asked about next, so that it is ready then: a model, or at first just the job."""
        self._stream.prepare(model or "")

    def generator(self, index: int) -> np.random.Generator:
        return generator(self._seed, Purpose.TRIGGER, index)

    def embeddings(self, keys: Int64Array, model: str) -> Features:
        with self._timed():
            rows = _RowsOf(self._noted(keys))
            self._ask(rows, model, {EMBEDDINGS})
            self._leave_out_deleted(rows)
            return rows.in_order(EMBEDDINGS)

    def columns(self, keys: Int64Array, names: tuple[str, ...]) -> Features:
        with self._timed():
            rows, owner = _RowsOf(self._noted(keys)), "\0".join(names)
            rows.fill_from(self._cache, owner, {COLUMNS})
            for read_keys, matrix in self._read(rows.missing, names):
                self.samples_read += len(read_keys)
                rows.fill(read_keys, {COLUMNS: matrix})
                self._cache.add(COLUMNS, owner, read_keys, matrix)
            self._leave_out_deleted(rows)
            return rows.in_order(COLUMNS)

    def outcomes(
        self, keys: Int64Array, model: str, *, known_at: int, scores: bool, newest_key: int | None = None
    ) -> KnownOutcomes:
        with self._timed():
            distinct = self._noted(np.unique(keys))
            if not len(distinct):
                return KnownOutcomes(distinct, Outcomes(distinct, distinct), distinct)
            wanted = {PREDICTIONS, SCORES} if scores else {PREDICTIONS}
            with self._asked_ahead(distinct, model, wanted):
                there, labels = self._labels_of(distinct, known_at, self._newest if newest_key is None else newest_key)
            self._labelled_share = 1 - labels.null_count / max(len(labels), 1)
            labelled = there[labels.is_valid().to_numpy(zero_copy_only=False)]
            # Whatever is kept of deleted samples is not looked at: these are still there.
            rows = _RowsOf(keys[np.isin(keys, labelled)])
            classes = self._ask(rows, model, wanted, labels.drop_null())
            deleted_meanwhile = rows.missing
            gone = np.union1d(np.setdiff1d(distinct, there), deleted_meanwhile)
            answered, inverse = rows.answered
            outcomes = Outcomes(
                classes[inverse],
                rows.in_order(PREDICTIONS).astype(np.int64, copy=False),
                rows.in_order(SCORES) if scores else None,
            )
            return KnownOutcomes(answered, outcomes, gone)

    @contextmanager
    def _asked_ahead(self, keys: Int64Array, model: str, wanted: set[str]) -> Iterator[None]:
        """Has a model look at samples while the block runs, if they probably have labels; what it says is kept."""
        rows = _RowsOf(keys)
        self._wanted |= wanted
        rows.fill_from(self._cache, model, wanted)
        missing = rows.missing
        if self._transforms_labels or self._labelled_share < EXPECTED_LABELS or not len(missing):
            yield
            return
        self._stream.send(model, missing, self._wanted)
        yield
        self._keep(model, self._stream.receive())

    def _keep(self, model: str, said: Said) -> None:
        self.samples_predicted += len(said.keys)
        self.samples_embedded += len(said.keys) if EMBEDDINGS in self._wanted else 0
        for kind, matrix in said.rows.items():
            self._cache.add(kind, model, said.keys, matrix)

    def _noted(self, keys: Int64Array) -> Int64Array:
        self._newest = max(self._newest, int(keys.max(initial=0)))
        return keys

    def _ask(self, rows: _RowsOf, model: str, wanted: set[str], labels: pa.Array | None = None) -> Int64Array:
        """Fills in what a model says, from what is kept or by asking it; answers the classes of labels, int64."""
        self._wanted |= wanted
        rows.fill_from(self._cache, model, wanted)
        missing = rows.missing
        transform = labels if self._transforms_labels else None
        classes = np.empty(0, dtype=np.int64)
        if labels is not None and transform is None:
            classes = class_labels(labels, self._dataset)
        if len(missing) or (transform is not None and len(transform)):
            said = self._stream.ask(model, missing, self._wanted, transform)
            rows.fill(said.keys, {kind: matrix for kind, matrix in said.rows.items() if kind in wanted})
            self._keep(model, said)
            classes = said.classes if transform is not None else classes
        return classes

    def _leave_out_deleted(self, rows: _RowsOf) -> None:
        """What was kept may be of samples that were deleted since; storage knows."""
        if len(rows.kept):
            there = read_columns(self._peers.storage, self._dataset, KeySet.from_array(rows.kept), order=Order.REQUEST)
            rows.drop(np.setdiff1d(rows.kept, there["key"].to_numpy(), assume_unique=True))

    def _labels_of(self, keys: Int64Array, known_at: int, newest_key: int) -> tuple[Int64Array, pa.Array]:
        """The keys that are still there and their labels, null where none was known."""
        table = read_columns(
            self._peers.storage,
            self._dataset,
            KeySet.from_array(keys),
            columns=[Column.LABEL],
            order=Order.REQUEST,
            labels=self._labels.seen(known_at, newest_key),
        )
        return table["key"].to_numpy(), table["label"].combine_chunks()

    def _read(self, keys: Int64Array, names: tuple[str, ...]) -> Iterator[tuple[Int64Array, Features]]:
        chosen = names
        samples = read_samples(
            self._peers.storage, self._dataset, KeySet.from_array(keys), batch_size=READ_ROWS, columns=names
        )
        for batch in samples if len(keys) else ():
            if not chosen:
                chosen = tuple(name for name, column in batch.columns.items() if holds_numbers(column.type))
            if not chosen:
                payload = ", ".join(f"{name}: {column.type}" for name, column in batch.columns.items())
                raise InvalidInputError(f"dataset {self._dataset!r} has no column of numbers ({payload})")
            if len(batch):
                yield batch.keys, matrix_of(batch.columns, chosen)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        if self._stop.stopped:  # also a policy that only reads columns ends soon
            raise CancelledError("the pipeline is stopping")
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begin


class _RowsOf:
    """Rows of the keys of one question, gathered from where they are to be had.

    Attributes:
        kept: keys whose rows were kept from earlier questions, int64.
    """

    def __init__(self, keys: Int64Array) -> None:
        self._keys = keys
        self._distinct, self._inverse = np.unique(keys, return_inverse=True)
        self._filled: Mask = np.zeros(len(self._distinct), dtype=bool)
        self._rows: dict[str, Rows] = {}
        self.kept: Int64Array = self._distinct[:0]

    @property
    def missing(self) -> Int64Array:
        """Keys without rows, ascending."""
        return self._distinct[~self._filled]

    @property
    def answered(self) -> tuple[Int64Array, Int64Array]:
        """The keys that have rows in the order asked for, and the place of each among the distinct keys."""
        chosen = self._filled[self._inverse]
        return self._keys[chosen], self._inverse[chosen]

    def fill_from(self, cache: RowCache, owner: str, kinds: set[str]) -> None:
        """Takes the rows of keys of which all kinds are kept."""
        places = {kind: cache.find(kind, owner, self._distinct) for kind in kinds}
        everything = np.all([found >= 0 for found in places.values()], axis=0)
        if everything.any():
            self.kept = self._distinct[everything]
            self.fill(self.kept, {kind: cache.take(kind, owner, found[everything]) for kind, found in places.items()})

    def fill(self, keys: Int64Array, rows: dict[str, Rows]) -> None:
        """Takes rows by kind, [n, …], of some of the keys, int64 [n]."""
        if not len(keys):
            return
        places = np.searchsorted(self._distinct, keys)
        for kind, matrix in rows.items():
            if kind not in self._rows:
                self._rows[kind] = np.empty((len(self._distinct), *matrix.shape[1:]), dtype=matrix.dtype)
            self._rows[kind][places] = matrix
        self._filled[places] = True

    def drop(self, keys: Int64Array) -> None:
        """Forgets the rows of some of the keys."""
        self._filled[np.searchsorted(self._distinct, keys)] = False

    def in_order(self, kind: str) -> Rows:
        """The rows in the order in which they were asked for, [n, …]; float32 [0, 0] if there are none."""
        if kind not in self._rows:
            return np.empty((0,) if kind == PREDICTIONS else (0, 0), dtype=np.float32)
        rows: Rows = self._rows[kind][self.answered[1]]
        return rows


def _evaluation_data(run: RunContext) -> DataSection:
    datasets = [
        dataset for dataset in evaluation_datasets(run.config) if dataset.dataset_id == run.config.data.dataset_id
    ]
    return datasets[0] if datasets else run.config.data


def _session(run: RunContext, data: DataSection) -> ObserveSession:
    config = run.config
    batch_size = data.batch_size if isinstance(data, EvaluationDataset) else config.training.batch_size
    return ObserveSession(
        pipeline_id=str(run.pipeline_id),
        dataset=data.dataset_id,
        data=to_value(data.model_dump(mode="json", exclude={"metrics", "batch_size"})),
        model=to_value(config.model.model_dump(mode="json")),
        batch_size=batch_size,
        device=config.evaluation.device if config.evaluation is not None else config.training.device,
        threads=config.training.threads,
        code=CodeOrigin(root=run.options.code_root),
        seed=config.training.seed,
    )

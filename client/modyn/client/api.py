"""The Python client: everything the command line does, for programs and notebooks.

Longer than most modules because one object is the whole interface, and its docstrings are the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa

from modyn.client import datasets, explanations, lineage, loading, models
from modyn.client.checking import check_pipeline
from modyn.client.datasets import Compacted, Deleted, Ingested, Keys, NewKeys, Values, Verified
from modyn.client.export import Downloaded, check_target, download
from modyn.client.garbage import collect_garbage
from modyn.client.lineage import TrainedModel
from modyn.client.models import DeletedModel
from modyn.client.server import EmbeddedServer
from modyn.core.config.source import read_text, write_yaml
from modyn.core.errors import ConflictError, InvalidInputError, JobFailedError
from modyn.core.peers import Addresses, Peers
from modyn.core.report import BaselineKind, Report
from modyn.core.rpc import cancel
from modyn.core.state import SERVICES, StateDirectory
from modyn.core.values import from_value, to_value
from modyn.proto import common_pb2, storage_pb2, supervisor_pb2
from modyn.proto.common_pb2 import Garbage
from modyn.proto.storage_pb2 import (
    CompactProgress,
    Dataset,
    DatasetDescription,
    IngestProgress,
    Role,
    StoredModel,
    VerifyProgress,
)
from modyn.proto.supervisor_pb2 import CheckedStep, Pipeline, PipelineEvent
from modyn.proto.trainer_server_pb2 import ModelDescription
from modyn.storage.reader import Appended, LabelsSet, SampleBatch, append, read_columns, read_samples, set_labels

if TYPE_CHECKING:
    import torch

    from modyn.client.results import PipelineResult

Tabular: TypeAlias = "pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]"

COLUMNS = ("timestamp", "arrival", "label", "role")
"""What :meth:`Client.read_columns` reads beside keys."""

ENDED = (Pipeline.COMPLETED, Pipeline.STOPPED, Pipeline.FAILED, Pipeline.INTERRUPTED)
"""Statuses that a pipeline does not leave."""


@dataclass(frozen=True)
class ReplayOptions:
    """Which part of a dataset is replayed, and in which order.

    Attributes:
        start, stop: Unix seconds, [start, stop); event times, or arrival times with ``order="arrival"``.
        order: by event time, or in the order of arrival, as a live pipeline saw it.
        start_key, end_key: only keys [start_key, end_key).
    """

    start: int | None = None
    stop: int | None = None
    order: Literal["event", "arrival"] = "event"
    start_key: int | None = None
    end_key: int | None = None

    def to_proto(self) -> supervisor_pb2.Replay:
        order = supervisor_pb2.Replay.ARRIVAL if self.order == "arrival" else supervisor_pb2.Replay.EVENT
        return supervisor_pb2.Replay(
            start=self.start, stop=self.stop, order=order, start_key=self.start_key, end_key=self.end_key
        )


@dataclass(frozen=True)
class LiveOptions:
    """Follow a dataset as it grows.

    Attributes:
        start_key: first key to look at; by default what arrives from now on.
    """

    start_key: int | None = None

    def to_proto(self) -> supervisor_pb2.Live:
        return supervisor_pb2.Live(start_key=self.start_key)


class Client:
    """Talks to a Modyn server, or to a private one of its own; a context manager.

    ``Client(address)`` connects to a running ``modyn serve``; :meth:`embedded` starts a server inside this process
    that nobody else can reach and that ends with the client. What it did stays in the state directory. Any number of
    threads may share a client.

    Every method raises a :class:`modyn.core.errors.ModynError` whose message says what is wrong and what to do.

    An ingestion job needs no more than this; repeating a batch id (after a crash, a lost answer) writes nothing twice:

    >>> import tempfile, pyarrow as pa
    >>> from modyn.client import Client
    >>> rows = pa.table({"timestamp": [10, 20], "label": [0, 1], "x": pa.array([0.5, 0.25], pa.float32())})
    >>> with tempfile.TemporaryDirectory() as state, Client.embedded(state, services=["storage"]) as client:
    ...     _ = client.register_dataset("clicks")
    ...     first = client.append("clicks", "2024-05-01T10:00", rows)
    ...     again = client.append("clicks", "2024-05-01T10:00", rows)
    ...     described = client.dataset("clicks")
    >>> (first.keys.start, first.keys.end), again.repeated_batch, described.num_samples
    ((0, 2), True, 2)

    Labels that were not known then are set by key, once they are; reads can ask for what was known at any time:

    >>> with tempfile.TemporaryDirectory() as state, Client.embedded(state, services=["storage"]) as client:
    ...     _ = client.register_dataset("clicks")
    ...     _ = client.append("clicks", "first", rows.drop_columns("label"))
    ...     late = client.set_labels("clicks", "outcomes", keys=[0, 1], labels=[1, 0], label_times=[50, 60])
    ...     known = [client.read_columns("clicks", columns=["label"], label_time=time) for time in (55, 60)]
    ...     batches = list(client.read_samples("clicks", [1, 0]))
    >>> late.version, late.num_labels, late.num_corrected
    (1, 2, 0)
    >>> [table["label"].to_pylist() for table in known]
    [[1, None], [1, 0]]
    >>> batches[0].labels.to_pylist(), batches[0].columns["x"].to_pylist()
    ([0, 1], [0.25, 0.5])

    Args:
        address: ``host:port`` or ``unix:path`` of a server; or one for each service, where they are processes of their
            own.
    """

    def __init__(self, address: str | Addresses) -> None:
        self._peers = Peers(Addresses.all_at(address) if isinstance(address, str) else address)
        self._closing = ExitStack()
        self._closing.callback(self._peers.close)
        self._sends_code_root = False

    @classmethod
    def embedded(
        cls,
        state: Path | str = "./.modyn",
        *,
        catalog_url: str | None = None,
        services: Sequence[str] = SERVICES,
        what: str = "a Python client",
    ) -> Client:
        """A client with a private server on a state directory.

        Args:
            state: directory for everything that outlives the client.
            catalog_url: by default SQLite inside ``state``.
            services: what the private server serves; training and evaluation need a few seconds to start.
            what: how it calls itself to others that want the same state directory.

        Raises:
            ConflictError: another process uses the state directory; the message names it.
        """
        server = EmbeddedServer(StateDirectory(state), what, services=services, catalog_url=catalog_url)
        server.start()
        return cls.of_server(server, owned=True)

    @classmethod
    def of_server(cls, server: EmbeddedServer, *, owned: bool = False) -> Client:
        """A client of a private server in this process.

        Args:
            server: a server that was started.
            owned: closing the client stops the server.
        """
        client = cls(server.address)
        client._sends_code_root = True
        if owned:
            client._closing = ExitStack()
            client._closing.callback(server.close)
            client._closing.callback(client._peers.close)  # disconnects first
        return client

    def close(self) -> None:
        """Disconnects, and stops the private server if there is one."""
        self._closing.close()

    def interrupt(self) -> None:
        """Ends the calls that are under way; they raise. For signal handlers: may be called from any thread. Later
        calls connect anew."""
        self._peers.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------- datasets

    def datasets(self) -> list[DatasetDescription]:
        """All datasets, by name."""
        return list(self._peers.storage.ListDatasets(storage_pb2.ListDatasetsRequest()).datasets)

    def dataset(self, name: str) -> DatasetDescription:
        """Counts, time span, columns and quarantined files of one dataset."""
        return self._peers.storage.DescribeDataset(storage_pb2.DescribeDatasetRequest(name=name))

    def register_dataset(
        self,
        name: str,
        source: Mapping[str, Any] | None = None,
        *,
        role: Literal["any", "train", "test"] | None = None,
    ) -> Dataset:
        """Makes a dataset known; again with the same source it only answers.

        Args:
            name: of the dataset.
            source: the ``data.source`` section of a pipeline, paths as the server sees them; None for a dataset that
                only receives :meth:`append`.
            role: what its samples may be used for, if nothing else says so: ``test`` samples are never handed to a
                training. By default ``any``, or what it was registered with.

        Raises:
            AlreadyExistsError: the name is taken by a dataset with another source or role.
        """
        return self._peers.storage.RegisterDataset(
            storage_pb2.RegisterDatasetRequest(
                name=name,
                source=None if source is None else to_value(source),
                role=Role.ROLE_UNSPECIFIED if role is None else Role.Value(role.upper()),
            )
        )

    def append(self, dataset: str, batch_id: str, data: Tabular) -> Appended:
        """Appends samples exactly once: all of them are durable and visible when this returns, or none.

        Args:
            dataset: a registered dataset.
            batch_id: names the batch; appending it again answers the first answer and writes nothing.
            data: columns ``timestamp`` (int64, Unix seconds) and ``label`` (nulls for labels not known yet), and the
                payload under names of its own. Batches of an iterable share one schema.

        Returns:
            The keys the samples were given, in row order, and whether the batch had been appended before.

        Raises:
            Exception: what an iterable raises, as it is; nothing was written.
        """
        return append(self._peers.storage, dataset, batch_id, _batches(data))

    def ingest(self, dataset: str, progress: Callable[[IngestProgress], None] | None = None) -> Ingested:
        """Looks at the dataset's source now; returns when every complete file that is there has been ingested.

        Args:
            dataset: a registered dataset. One without a source has nothing to ingest.
            progress: called a few times a second.
        """
        return datasets.ingest(self._peers.storage, dataset, progress)

    def set_labels(
        self, dataset: str, batch_id: str, keys: Keys, labels: Values, label_times: Values | int | None = None
    ) -> LabelsSet:
        """Sets labels that were not known when their samples came, or that were wrong; exactly once.

        All of them are durable and visible when this returns, or none. Nothing is overwritten: what was known earlier
        can still be read.

        Args:
            dataset: a registered dataset.
            batch_id: names the batch; setting it again answers the first answer and writes nothing.
            keys: int64 [n], each at most once.
            labels: [n] of the dataset's type; null (None, NaN) withdraws the label.
            label_times: [n], when each became known on the data's clock: Unix seconds or Arrow timestamps; or one for
                all. By default the time of the call.

        Returns:
            The batch's version, and how many labels it has and changed.

        Raises:
            InvalidInputError: a key does not exist or is there twice, or a label is none of this dataset; the message
                names the keys.
        """
        batches = datasets.label_batches(keys, labels, label_times)
        return set_labels(self._peers.storage, dataset, batch_id, batches)

    def delete_samples(self, dataset: str, keys: Keys) -> Deleted:
        """Deletes samples: from now on no read and no selection sees them. :meth:`compact` removes their bytes.

        Repeating is harmless. A very large set is deleted in several steps; if one fails, repeat the call.

        Args:
            dataset: a registered dataset.
            keys: which samples, any number.

        Raises:
            InvalidInputError: a key does not exist; nothing was deleted.
        """
        return datasets.delete_samples(self._peers.storage, dataset, datasets.key_set(keys))

    def compact(self, dataset: str, progress: Callable[[CompactProgress], None] | None = None) -> Compacted:
        """Joins small segments and removes the bytes of deleted samples, now rather than in the background.

        Args:
            dataset: a registered dataset.
            progress: called after every step.
        """
        return datasets.compact(self._peers.storage, dataset, progress)

    def verify(self, dataset: str, progress: Callable[[VerifyProgress], None] | None = None) -> Verified:
        """Reads every byte of a dataset and compares it with the checksums that were taken when it was written.

        Args:
            dataset: a registered dataset.
            progress: called a few times a second.
        """
        return datasets.verify(self._peers.storage, dataset, progress)

    def watch_dataset(self, dataset: str, cursor: int | None = None) -> Iterator[NewKeys]:
        """Samples as they are committed, with the time of their arrival; never ends by itself.

        A key range is answered once. To go on after an interruption, start at the end of the last one.

        Args:
            dataset: a registered dataset.
            cursor: first key not yet seen; by default what arrives from the first ``next`` on.
        """
        return datasets.watch(self._peers.storage, dataset, cursor)

    def read_columns(
        self,
        dataset: str,
        *,
        columns: Sequence[Literal["timestamp", "arrival", "label", "role"]] = ("timestamp", "label"),
        keys: Keys | None = None,
        start: int | None = None,
        stop: int | None = None,
        order: Literal["key", "event"] = "key",
        label_time: int | None = None,
        label_arrival: int | None = None,
        label_version: int | None = None,
    ) -> pa.Table:
        """Per-sample columns: ``key`` and the ones asked for. Deleted samples are left out.

        Args:
            dataset: a registered dataset.
            columns: what to read. Roles are int8: 1 any, 2 train, 3 test.
            keys: which samples; by default all, or those of the interval. Superseded samples are answered if their keys
                are given one by one.
            start, stop: event-time interval [start, stop), Unix seconds; instead of ``keys``.
            order: by key (arrival) or by (timestamp, key).
            label_time: labels as they were known at this time on the data's clock, Unix seconds.
            label_arrival: labels that had reached storage by this time, Unix seconds.
            label_version: labels of batches up to this one; 0 for labels as ingested.
        """
        request = storage_pb2.ReadColumnsRequest
        if keys is not None and (start is not None or stop is not None):
            raise InvalidInputError("read_columns: give keys, or start and stop, not both")
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise InvalidInputError(f"read_columns: there is no column {unknown[0]!r}; expected {', '.join(COLUMNS)}")
        interval = common_pb2.Interval(start=start, end=stop)
        return read_columns(
            self._peers.storage,
            dataset,
            interval if keys is None else datasets.key_set(keys, single=True),
            columns=[request.Column.Value(name.upper()) for name in columns],
            order=request.EVENT_TIME if order == "event" else request.KEY,
            labels=datasets.labels_as_of(label_time, label_arrival, label_version),
        )

    def read_samples(
        self,
        dataset: str,
        keys: Keys,
        *,
        batch_size: int = 1024,
        columns: Sequence[str] = (),
        label_time: int | None = None,
        label_arrival: int | None = None,
        label_version: int | None = None,
    ) -> Iterator[SampleBatch]:
        """Samples with their payload, in the order of ``keys``; deleted ones are left out.

        Args:
            dataset: a registered dataset.
            keys: which samples, in this order; superseded ones too.
            batch_size: samples of each batch; the last may be smaller. A background thread fetches ahead.
            columns: payload columns; all by default.
            label_time, label_arrival, label_version: as of :meth:`read_columns`.

        Raises:
            InvalidInputError: a key or column does not exist.
            CorruptDataError: bytes are damaged; the message names the file.
        """
        return read_samples(
            self._peers.storage,
            dataset,
            datasets.key_set(keys, single=True),
            batch_size=batch_size,
            columns=columns,
            labels=datasets.labels_as_of(label_time, label_arrival, label_version),
        )

    # -------------------------------------------------------------------------------------------- lineage

    def models_trained_on(self, dataset: str, keys: Keys) -> list[TrainedModel]:
        """The stored models that were trained on any of some samples, such as deleted ones; oldest first.

        Exact where a downsampler narrowed the training set, for what was really trained is on record; samples that only
        its auxiliary models were trained on count too. Other models count as trained on their whole training set, also
        on samples that were deleted before the job read them. Models that were warm-started from such a model, or whose
        downsampling took over its auxiliary models, follow as ``inherited``, however many steps later.

        Args:
            dataset: of the samples. Deleted samples are known too.
            keys: which samples.

        Returns:
            An entry for each pair of a model and a training set of which it was made.
        """
        return lineage.models_trained_on(self._peers, dataset, datasets.key_set(keys))

    def models_trained_on_old_labels(self, dataset: str, keys: Keys) -> list[TrainedModel]:
        """Of :meth:`models_trained_on`, those trained with a label that is no longer the newest one of its sample.

        Their ``keys`` are those with another label now. A label that was withdrawn since counts as changed; deleted
        samples have no labels and do not count. Models that were warm-started from such a model are there as
        ``inherited``, unless they were trained with an old label themselves.

        Args:
            dataset: of the samples.
            keys: the samples to look at, such as those of a correction.
        """
        return lineage.models_trained_on_old_labels(self._peers, dataset, datasets.key_set(keys))

    def models(self, pipeline_id: str | None = None) -> list[ModelDescription]:
        """Trained models, oldest first.

        Args:
            pipeline_id: only those that this pipeline has, trained by it or reused.
        """
        return models.list_models(self._peers, pipeline_id)

    def model(self, reference: str) -> ModelDescription:
        """Where a model came from, who has it, and the numbers of its training.

        Args:
            reference: its digest or how that begins; or a pipeline's id, a colon or an at sign, and the index of a
                trigger, for the newest model of that trigger, such as ``3:0``; or ``3@latest``, the model of the last
                trigger that has one.

        Raises:
            NotFoundError: there is no such model.
            InvalidInputError: several digests begin like that, or it is none of the above.
        """
        return models.describe_model(self._peers, reference)

    def stored_models(self) -> dict[str, StoredModel]:
        """The models that storage has, by digest: their sizes, and which are stored as differences from others."""
        return models.stored_models(self._peers)

    def delete_models(
        self, references: Sequence[str], *, rewrite_dependents: bool = False, force: bool = False
    ) -> list[DeletedModel]:
        """Removes the weights of models for good. What is known of them stays, as do reports that name them.

        A pipeline that would reuse such a model trains it again.

        Args:
            references: each as of :meth:`model`.
            rewrite_dependents: store models whole that are stored as differences from these.
            force: even if they belong to a pipeline that is running.

        Raises:
            NotFoundError: there is no such model, or its weights were removed before.
            InvalidInputError: as of :meth:`model`.
            ConflictError: others are stored as differences from one, or a running pipeline may need it. Models named
                before it are gone then; running pipelines are looked at before anything is removed.
        """
        return models.delete_models(self._peers, references, rewrite_dependents=rewrite_dependents, force=force)

    def collect_garbage(
        self, *, dry_run: bool = False, older_than_seconds: float = 7 * 86_400, only: Sequence[str] = ()
    ) -> Iterator[Garbage]:
        """Removes what services keep and nothing needs: models, training sets, predictions, checkpoints.

        What a report or the lineage of a model names stays, unless ``model_storage.retention`` of all pipelines that
        have a model lets it go. Takes all services.

        Args:
            dry_run: only name it.
            older_than_seconds: only what was not used for so long; at least since the oldest running pipeline began.
            only: some of ``models``, ``training-sets``, ``outcomes``, ``checkpoints``; all by default.

        Returns:
            Each thing, once it is removed.
        """
        return collect_garbage(self._peers, dry_run=dry_run, older_than_seconds=older_than_seconds, only=only)

    def trained_samples(self, reference: str) -> pa.Table:
        """The samples that a model was really trained on, and the weights of their losses.

        An epoch has rows only if it trained something else than the epoch before; epoch 0 always has. Without
        downsampling these are its training set, with what early stopping held out of it. Rows of epoch -1 are samples
        that only an auxiliary model was trained on, such as the one that RHO-loss compares with.

        Args:
            reference: as of :meth:`model`.

        Returns:
            Columns ``epoch`` int32, ``key`` int64, ``weight`` float32.

        Raises:
            NotFoundError, InvalidInputError: as of :meth:`model`.
            CorruptDataError: the record is damaged.
        """
        return models.trained_samples(self._peers, self.model(reference))

    def load_model(
        self, reference: str, *, model: Mapping[str, Any] | None = None, code: Path | str | None = None
    ) -> torch.nn.Module:
        """A trained model as a module in evaluation mode, on the CPU of this process; imports torch.

        Args:
            reference: as of :meth:`model`.
            model: its ``model`` section, where no pipeline is known that has it.
            code: folder of the user's own code; by default where it was when the pipeline ran. It is imported.

        Raises:
            NotFoundError: there is no such model, or its weights were removed.
            InvalidInputError: it is not known how to build it, or its code cannot be imported here.
        """
        return loading.load_module(self._peers, self.model(reference), model, code)

    def download_model(
        self,
        reference: str,
        folder: Path | str,
        *,
        onnx: bool = False,
        force: bool = False,
        key: int | None = None,
        model: Mapping[str, Any] | None = None,
        code: Path | str | None = None,
    ) -> Downloaded:
        """Writes a model as a folder that stands on its own: weights, code, parser, signature, one example.

        ``modyn.models.exported.load(folder)`` makes a module of it, without any server. The folder is written whole or
        not at all.

        Args:
            reference: as of :meth:`model`.
            folder: where to; must be empty or not there, or an earlier download.
            onnx: write ``model.onnx`` too; its answers are compared with the model's.
            force: replace an earlier download.
            key: of the sample that is the example; by default the first of the dataset.
            model, code: as of :meth:`load_model`.

        Raises:
            AlreadyExistsError: the folder is not empty, and no earlier download or not to be replaced.
            NotFoundError: there is no such model, or no sample.
            InvalidInputError: it is not known how to build it, or it cannot be an ONNX graph.
            NotAvailableError: the libraries for ONNX are not installed on the trainer server.
        """
        check_target(Path(folder), force=force)
        found = self.model(reference)
        origin = loading.origin_of(self._peers, found, model, code)
        return download(self._peers, found, origin, Path(folder), onnx=onnx, force=force, key=key)

    # ------------------------------------------------------------------------------------------ pipelines

    def submit(
        self,
        pipeline: Path | str,
        mode: ReplayOptions | LiveOptions | None = None,
        *,
        maximum_triggers: int | None = None,
        reuse: bool = True,
        simulate: bool = False,
        folder: Path | str | None = None,
    ) -> str:
        """Starts a pipeline and returns its id at once; follow it with :meth:`watch`.

        Args:
            pipeline: a YAML file, or YAML text (recognised by its line breaks).
            mode: a replay of everything by default.
            maximum_triggers: no trigger after this many; evaluation still covers everything.
            reuse: use stored results of the same inputs instead of training and evaluating again.
            simulate: only run its trigger, as :meth:`simulate` does.
            folder: what relative paths and code of the pipeline refer to; by default that of the file, and for text the
                working directory.

        Raises:
            InvalidInputError: something is wrong in the file; the message lists every problem.
        """
        request, beside = _request_of(pipeline, mode)
        request.reuse, request.simulate = reuse, simulate
        if maximum_triggers is not None:
            request.maximum_triggers = maximum_triggers
        return self._submit(request, beside if folder is None else Path(folder).absolute())

    def submit_baseline(
        self, pipeline_id: str, baseline: BaselineKind, *, folder: Path | str = ".", reuse: bool = True
    ) -> str:
        """Starts a pipeline to compare another one's downsampling with, and returns its id at once.

        It is the other one, on the same samples and with the same options, but for its downsampling strategies: in
        their place it trains on as many samples drawn uniformly in every epoch (``uniform``), or on all samples in
        fewer epochs (``fewer_epochs``). The other one's :meth:`report` then has it beside its own numbers.

        Args:
            pipeline_id: of a replay that has completed and trained with a downsampling strategy.
            baseline: which one.
            folder: what relative paths and code of that pipeline refer to; with a private server only.
            reuse: as of :meth:`submit`.

        Raises:
            NotFoundError: there is no such pipeline.
            ConflictError: it has not completed.
            InvalidInputError: it cannot be compared.
        """
        from modyn.client.baselines import baseline_yaml

        status = self.status(pipeline_id).status
        if status != Pipeline.COMPLETED:
            name = Pipeline.Status.Name(status).lower()
            raise ConflictError(f"pipeline {pipeline_id} is {name}; a baseline is compared with one that completed")
        report, pipeline = self.report_and_yaml(pipeline_id)
        text = baseline_yaml(report, pipeline, baseline)
        run = report.run
        order: Literal["event", "arrival"] = "arrival" if run.order == "arrival" else "event"
        request = supervisor_pb2.SubmitPipelineRequest(
            pipeline_yaml=text,
            yaml_name=f"baseline of pipeline {pipeline_id}",
            replay=ReplayOptions(run.start, run.stop, order, run.start_key, run.end_key).to_proto(),
            maximum_triggers=run.maximum_triggers,
            reuse=reuse,
            baseline_of=pipeline_id,
            baseline=baseline,
        )
        return self._submit(request, Path(folder).absolute())

    def _submit(self, request: supervisor_pb2.SubmitPipelineRequest, folder: Path) -> str:
        self._send_code_root(request, folder)
        return self._peers.supervisor.SubmitPipeline(request).id

    def _send_code_root(self, request: supervisor_pb2.SubmitPipelineRequest, folder: Path) -> None:
        if self._sends_code_root:  # a server elsewhere does not see our folders
            request.code.root = str(folder)
            request.base_path = str(folder)

    def check(
        self,
        pipeline: Path | str,
        mode: ReplayOptions | LiveOptions | None = None,
        *,
        on_step: Callable[[CheckedStep], None] | None = None,
    ) -> list[CheckedStep]:
        """Runs one batch of real data through parser, model, loss, optimizer and metrics; nothing is trained or kept.

        Datasets are ingested if they have a source. Pipelines do the same before their first training.

        Args:
            pipeline, mode: as of :meth:`submit`.
            on_step: called with each step once it is done, also with the one that fails.

        Returns:
            What was found: ``data``, ``training``, and ``evaluation on …`` for each evaluation dataset.

        Raises:
            InvalidInputError: what is wrong; the message names the layer, the metric, or the key.
            JobFailedError: a job died.
        """
        request, folder = _request_of(pipeline, mode)
        self._send_code_root(request, folder)
        return check_pipeline(self._peers, request, on_step)

    def simulate(
        self, pipeline: Path | str, replay: ReplayOptions | None = None, *, maximum_triggers: int | None = None
    ) -> Report:
        """Runs only a pipeline's trigger over history and says when it would have fired; nothing is trained.

        Takes storage and supervisor alone. It stays in :meth:`pipelines`, marked as simulated.

        Args:
            pipeline, maximum_triggers: as of :meth:`submit`.
            replay: everything by default.

        Returns:
            A report without trainings: ``triggers`` are the firings, ``trigger_evaluations`` say why.

        Raises:
            InvalidInputError: something is wrong in the file, or its trigger cannot decide without trained models.
            JobFailedError: it failed.
        """
        pipeline_id = self.submit(pipeline, replay, maximum_triggers=maximum_triggers, simulate=True)
        raise_for_status(self.wait(pipeline_id))
        return self.report(pipeline_id)

    def trigger(self, pipeline_id: str) -> int:
        """Fires a running pipeline's trigger now, whatever its policy says, with all samples since the last trigger.

        Waits for a training that is under way. The policy goes on as it would have without.

        Args:
            pipeline_id: of a pipeline that runs.

        Returns:
            The index of the trigger; its training goes on after that.

        Raises:
            NotFoundError: there is no such pipeline.
            ConflictError: it does not run, has had all of its triggers, or nothing new has come since the last one.
        """
        request = supervisor_pb2.FirePipelineRequest(id=pipeline_id)
        return int(self._peers.supervisor.FirePipeline(request).trigger_index)

    def watch(self, pipeline_id: str, *, from_seq: int = 0) -> Iterator[PipelineEvent]:
        """What the pipeline does: past events first, then as they happen, until it has ended."""
        request = supervisor_pb2.WatchPipelineRequest(id=pipeline_id, from_seq=from_seq)
        stream = self._peers.supervisor.WatchPipeline(request)
        try:
            yield from stream
        finally:
            cancel(stream)

    def status(self, pipeline_id: str) -> Pipeline:
        """Where a pipeline stands."""
        return self._peers.supervisor.GetPipeline(supervisor_pb2.PipelineRef(id=pipeline_id))

    def pipelines(self) -> list[Pipeline]:
        """All pipelines, oldest first."""
        return list(self._peers.supervisor.ListPipelines(supervisor_pb2.ListPipelinesRequest()).pipelines)

    def stop(self, pipeline_id: str, *, wait: bool = True) -> Pipeline:
        """Asks a pipeline to stop; its after-pipeline evaluation still runs, and its report is complete up to then.

        Args:
            pipeline_id: from :meth:`submit` or :meth:`pipelines`.
            wait: return when it has ended.
        """
        return self._peers.supervisor.StopPipeline(supervisor_pb2.StopPipelineRequest(id=pipeline_id, wait=wait))

    def wait(self, pipeline_id: str) -> Pipeline:
        """Blocks until a pipeline has ended, and says how."""
        for event in self.watch(pipeline_id):
            if event.WhichOneof("kind") == "pipeline" and event.pipeline.status in ENDED:
                return event.pipeline
        return self.status(pipeline_id)

    def evaluate(
        self,
        pipeline_id: str,
        evaluation: Mapping[str, Any] | Path | str | None = None,
        handlers: Sequence[str] = (),
        *,
        reuse: bool = True,
        again: bool = False,
    ) -> Iterator[PipelineEvent]:
        """Scores the stored models of a pipeline that has ended; it happens while the events are taken.

        Nothing is trained. Results are in :meth:`report` afterwards. Whatever ends it early, what was scored stays, and
        calling again goes on from there.

        Args:
            pipeline_id: of the pipeline.
            evaluation: an ``evaluation`` section: a mapping, YAML text, or the path of a file that is one or has one.
                What it leaves out, but for handlers, is as in the pipeline. By default the pipeline's own: what is
                missing of it is scored, ``manual`` handlers included.
            handlers: only these of its handlers.
            reuse: use stored predictions of the same inputs.
            again: also score what was scored already.

        Raises:
            NotFoundError: there is no such pipeline.
            ConflictError: it has not ended, or another handler has the name of one of these.
            InvalidInputError: something is wrong in the section, or there is no such handler.
        """
        request = supervisor_pb2.EvaluatePipelineRequest(id=pipeline_id, handlers=handlers, reuse=reuse, again=again)
        folder = Path.cwd()
        if isinstance(evaluation, Path):
            request.evaluation_yaml, request.yaml_name = read_text(evaluation), evaluation.name
            folder = evaluation.absolute().parent
        elif evaluation is not None:
            request.evaluation_yaml = evaluation if isinstance(evaluation, str) else write_yaml(evaluation)
            request.yaml_name = "evaluation"
        if self._sends_code_root:
            request.base_path = str(folder)
        stream = self._peers.supervisor.EvaluatePipeline(request)
        try:
            yield from stream
        finally:
            cancel(stream)

    def result(self, pipeline_id: str) -> PipelineResult:
        """The report of a pipeline as tables and pictures, for notebooks."""
        from modyn.client.results import PipelineResult

        return PipelineResult(*self.report_and_yaml(pipeline_id))

    def trigger_evaluations(self, pipeline_id: str) -> pa.Table:
        """Why a pipeline's trigger fired or did not, so far or in the end; a row per evaluation and finding.

        Simple triggers evaluate only when they fire. An evaluation without findings, such as a firing by hand, has one
        row.

        Returns:
            Columns of the evaluation, repeated in each of its rows:

            - ``evaluation`` int64: its number, 0, 1, 2 …
            - ``trigger`` int64: index of the trigger that it fired; null if it fired none.
            - ``first_timestamp``, ``last_timestamp`` int64: event times of the samples looked at, Unix seconds.
            - ``num_samples`` int64: how many they were.
            - ``fired`` bool, ``reason`` string.
            - ``seconds`` float64: spent deciding.

            Columns of the finding, null where there is none:

            - ``finding`` string: metric, criterion or subtrigger; empty: the trigger itself.
            - ``statistic``, ``threshold`` float64: what was measured, and compared with; null where nothing could be.
            - ``p_value`` float64: of a hypothesis test.
            - ``finding_decision`` bool: whether it speaks for a trigger.
            - ``note`` string: such as why nothing was measured.
        """
        return explanations.evaluation_table(self.report(pipeline_id).trigger_evaluations)

    def report(self, pipeline_id: str) -> Report:
        """What a pipeline did and what it was worth, so far or in the end."""
        return self.report_and_yaml(pipeline_id)[0]

    def report_and_yaml(self, pipeline_id: str) -> tuple[Report, str]:
        """The report and the pipeline's YAML with every default filled in."""
        chunks = self._peers.supervisor.GetReport(supervisor_pb2.PipelineRef(id=pipeline_id))
        answer = supervisor_pb2.Report.FromString(b"".join(chunk.data for chunk in chunks))
        return Report.model_validate(from_value(answer.document)), answer.resolved_yaml

    def server_info(self) -> common_pb2.ServerInfo:
        """Version and services of the server."""
        return self._peers.supervisor.GetServerInfo(common_pb2.ServerInfoRequest())


def raise_for_status(pipeline: Pipeline) -> None:
    """
    Raises:
        InvalidInputError: the pipeline failed because of the user's input.
        JobFailedError: it failed otherwise.
    """
    if pipeline.HasField("error"):
        raise (InvalidInputError if pipeline.error.input_error else JobFailedError)(pipeline.error.message)


def _batches(data: Tabular) -> Iterable[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return [data]
    if isinstance(data, pa.Table):  # an empty one may have no batches, and its columns are checked all the same
        return data.to_batches() or [pa.RecordBatch.from_pylist([], schema=data.schema)]
    return _flattened(data)


def _flattened(data: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch]:
    for item in data:
        if not isinstance(item, pa.RecordBatch | pa.Table):
            raise InvalidInputError(
                f"samples are given as {type(item).__name__}; expected an Arrow table, a record batch, or an "
                "iterable of them"
            )
        yield from _batches(item)


def _request_of(
    pipeline: Path | str, mode: ReplayOptions | LiveOptions | None
) -> tuple[supervisor_pb2.SubmitPipelineRequest, Path]:
    """What a supervisor is sent of a pipeline, and the folder it lies in."""
    text, name, folder = _read_pipeline(pipeline)
    mode = mode or ReplayOptions()
    request = supervisor_pb2.SubmitPipelineRequest(
        pipeline_yaml=text,
        yaml_name=name,
        replay=mode.to_proto() if isinstance(mode, ReplayOptions) else None,
        live=mode.to_proto() if isinstance(mode, LiveOptions) else None,
    )
    return request, folder


def _read_pipeline(pipeline: Path | str) -> tuple[str, str, Path]:
    """Text, name for messages, and folder that relative paths refer to."""
    if isinstance(pipeline, str) and "\n" in pipeline:
        return pipeline, "pipeline", Path.cwd()
    path = Path(pipeline)
    try:
        return path.read_text(encoding="utf-8"), path.name, path.absolute().parent
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: the file is no UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot read the pipeline file: {error.strerror}") from error

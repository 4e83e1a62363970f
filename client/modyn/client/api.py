"""The Python client: everything the command line does, for programs and notebooks.

Longer than most modules because one object is the whole interface, and its docstrings are the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from modyn.client.server import EmbeddedServer
from modyn.core.errors import InvalidInputError
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.peers import Addresses, Peers
from modyn.core.report import Report
from modyn.core.rpc import cancel
from modyn.core.state import SERVICES, StateDirectory
from modyn.core.values import from_value, to_value
from modyn.proto import common_pb2, storage_pb2, supervisor_pb2
from modyn.proto.storage_pb2 import Dataset, DatasetDescription
from modyn.proto.supervisor_pb2 import Pipeline, PipelineEvent
from modyn.storage.reader import Appended, append, read_columns

Tabular: TypeAlias = "pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]"

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

    Args:
        address: ``host:port`` or ``unix:path`` of a server.
    """

    def __init__(self, address: str) -> None:
        self._peers = Peers(Addresses.all_at(address))
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

    def register_dataset(self, name: str, source: Mapping[str, Any] | None = None) -> Dataset:
        """Makes a dataset known; again with the same source it only answers.

        Args:
            name: of the dataset.
            source: the ``data.source`` section of a pipeline, paths as the server sees them; None for a dataset that
                only receives :meth:`append`.
        """
        value = None if source is None else to_value(source)
        return self._peers.storage.RegisterDataset(storage_pb2.RegisterDatasetRequest(name=name, source=value))

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

    def read_columns(
        self,
        dataset: str,
        *,
        columns: Sequence[Literal["timestamp", "arrival", "label"]] = ("timestamp", "label"),
        keys: KeySet | Sequence[KeyRange] | None = None,
        start: int | None = None,
        stop: int | None = None,
        order: Literal["key", "event"] = "key",
    ) -> pa.Table:
        """Per-sample columns: ``key`` and the ones asked for.

        Args:
            dataset: a registered dataset.
            columns: what to read.
            keys: which samples; by default all, or those of the interval.
            start, stop: event-time interval [start, stop), Unix seconds; instead of ``keys``.
            order: by key (arrival) or by (timestamp, key).
        """
        request = storage_pb2.ReadColumnsRequest
        if keys is not None and (start is not None or stop is not None):
            raise InvalidInputError("read_columns: give keys, or start and stop, not both")
        if keys is not None and not isinstance(keys, KeySet):
            keys = KeySet.from_ranges(keys)
        part = common_pb2.Interval(start=start, end=stop) if keys is None else keys
        return read_columns(
            self._peers.storage,
            dataset,
            part,
            columns=[request.Column.Value(name.upper()) for name in columns],
            order=request.EVENT_TIME if order == "event" else request.KEY,
        )

    # ------------------------------------------------------------------------------------------ pipelines

    def submit(
        self,
        pipeline: Path | str,
        mode: ReplayOptions | LiveOptions | None = None,
        *,
        maximum_triggers: int | None = None,
        reuse: bool = True,
    ) -> str:
        """Starts a pipeline and returns its id at once; follow it with :meth:`watch`.

        Args:
            pipeline: a YAML file, or YAML text (recognised by its line breaks).
            mode: a replay of everything by default.
            maximum_triggers: no trigger after this many; evaluation still covers everything.
            reuse: use stored results of the same inputs instead of training and evaluating again.

        Raises:
            InvalidInputError: something is wrong in the file; the message lists every problem.
        """
        text, name, folder = _read_pipeline(pipeline)
        mode = mode or ReplayOptions()
        request = supervisor_pb2.SubmitPipelineRequest(
            pipeline_yaml=text,
            yaml_name=name,
            replay=mode.to_proto() if isinstance(mode, ReplayOptions) else None,
            live=mode.to_proto() if isinstance(mode, LiveOptions) else None,
            maximum_triggers=maximum_triggers,
            reuse=reuse,
        )
        if self._sends_code_root:  # a server elsewhere does not see our folders
            request.code.root = str(folder)
            request.base_path = str(folder)
        return self._peers.supervisor.SubmitPipeline(request).id

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


def _batches(data: Tabular) -> Iterable[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return [data]
    if isinstance(data, pa.Table):  # an empty one may have no batches, and its columns are checked all the same
        return data.to_batches() or [pa.RecordBatch.from_pylist([], schema=data.schema)]
    return data


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

"""Makes sure that the datasets of a pipeline exist and hold what lies in their sources."""

from __future__ import annotations

import time

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.core.plugins.formats import FORMATS
from modyn.core.values import to_value
from modyn.proto import storage_pb2
from modyn.proto import supervisor_pb2 as pb
from modyn.proto.common_pb2 import Interval
from modyn.supervisor.context import RunContext

SHOWN = 5
"""How many files that could not be read a message names."""


class Datasets:
    """Registration and ingest of the datasets that a pipeline names."""

    def __init__(self, run: RunContext) -> None:
        self._storage = run.peers.storage
        self._options = run.options
        self._events = run.events
        self._stop = run.stop
        self._ready: dict[str, int] = {}
        self.ingest_seconds = 0.0

    def ensure(self, data: DataSection, section: str, *, known: bool = False) -> int:
        """Registers a dataset if the pipeline says where it comes from, and ingests what is there.

        Args:
            data: names it.
            section: where it stands, for messages.
            known: one that is registered is taken as it is, wherever it says it comes from.

        Returns:
            Its end key after that.

        Raises:
            NotFoundError: it is not registered and has no ``source``.
            InvalidInputError: its source cannot be used.
        """
        if data.dataset_id in self._ready:
            return self._ready[data.dataset_id]
        started = time.perf_counter()
        request = storage_pb2.RegisterDatasetRequest(name=data.dataset_id)
        if data.source is not None and not (known and self._is_registered(data.dataset_id)):
            path = self._options.resolve(data.source.path, f"{section}.source.path")
            request.source.CopyFrom(to_value(FORMATS.dump(data.source.model_copy(update={"path": path}))))
            self._storage.RegisterDataset(request)
        description = self._describe(data.dataset_id, section)
        end_key = self._ingest(data.dataset_id) if description.HasField("source") else description.end_key
        self._ready[data.dataset_id] = end_key
        self.ingest_seconds += time.perf_counter() - started
        return end_key

    def span(self, dataset: str, end_key: int) -> tuple[int, int] | None:
        """Smallest and largest event time among the samples below a key; None if there are none."""
        info = self._storage.InspectSamples(
            storage_pb2.InspectSamplesRequest(dataset=dataset, interval=Interval(), end_key=end_key)
        )
        return (info.first_timestamp, info.last_timestamp) if info.num_samples else None

    def end_key(self, dataset: str) -> int:
        """The dataset's end key now."""
        return self._storage.DescribeDataset(storage_pb2.DescribeDatasetRequest(name=dataset)).end_key

    def count_replayed(self, dataset: str, end_key: int) -> int:
        """How many samples a replay will see (an upper bound where arrival times restrict it).

        Raises:
            InvalidInputError: none at all.
        """
        options = self._options
        span = self.span(dataset, end_key)
        if span is None:
            reasons = self.set_aside(dataset)
            hint = f"; {reasons}" if reasons else "; ingest some first, or run with --live"
            raise InvalidInputError(f"data.dataset_id: dataset {dataset!r} has no samples{hint}")
        if options.order == "arrival":
            return max(0, end_key - (options.start_key or 0))
        request = storage_pb2.InspectSamplesRequest(
            dataset=dataset,
            interval=interval_of(options.start, options.stop),
            end_key=end_key,
            purpose=storage_pb2.TRAINING,
        )
        count = self._storage.InspectSamples(request).num_samples
        if count == 0:
            request.purpose = storage_pb2.PURPOSE_UNSPECIFIED
            if for_tests := self._storage.InspectSamples(request).num_samples:
                raise InvalidInputError(
                    f"dataset {dataset!r}: all {for_tests} samples to be replayed have the role `test`, which training "
                    "never sees; replay others, or register the data with another role"
                )
            raise InvalidInputError(
                f"dataset {dataset!r} has no samples in the replayed interval "
                f"[{_bound(options.start)}, {_bound(options.stop)}); its timestamps run from {span[0]} to {span[1]}"
            )
        return count

    def set_aside(self, dataset: str) -> str:
        """Which files could not be read, and why; empty if there are none."""
        files = self._describe(dataset, "data").quarantined
        reasons = "".join(f"\n  {bad.path}: {bad.reason}" for bad in files[:SHOWN])
        more = f"\n  and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        return f"files set aside:{reasons}{more}" if files else ""

    def _is_registered(self, dataset: str) -> bool:
        try:
            self._storage.DescribeDataset(storage_pb2.DescribeDatasetRequest(name=dataset))
        except NotFoundError:
            return False
        return True

    def _describe(self, dataset: str, section: str) -> storage_pb2.DatasetDescription:
        try:
            return self._storage.DescribeDataset(storage_pb2.DescribeDatasetRequest(name=dataset))
        except NotFoundError as error:
            raise NotFoundError(f"{section}.dataset_id: {error.message}") from None

    def _ingest(self, dataset: str) -> int:
        stream = self._storage.Ingest(storage_pb2.IngestRequest(dataset=dataset))
        progress = storage_pb2.IngestProgress()
        with self._stop.cancellable(stream, on_stop=True):
            for progress in stream:
                self._events.add(
                    progress=True,
                    ingest=pb.IngestStatus(
                        files_done=progress.files_done, files_total=progress.files_total, samples=progress.samples
                    ),
                )
        self._events.add(
            ingest=pb.IngestStatus(
                files_done=progress.files_done, files_total=progress.files_total, samples=progress.samples
            )
        )
        if progress.quarantined:
            self._events.add(
                notice=f"dataset {dataset!r}: files that could not be read and were set aside: {progress.quarantined}; "
                f"`modyn-client datasets describe {dataset}` says why"
            )
        return progress.end_key


def interval_of(start: int | None, end: int | None) -> Interval:
    """An event-time interval with open bounds where there is None."""
    interval = Interval()
    if start is not None:
        interval.start = start
    if end is not None:
        interval.end = end
    return interval


def _bound(value: int | None) -> str:
    return "…" if value is None else str(value)

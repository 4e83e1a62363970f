"""A storage service behind a real server, and short names for its calls."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modyn.core.catalog import Catalog
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.rpc import Channel, RpcServer, connect
from modyn.core.state import StateDirectory
from modyn.core.values import to_value
from modyn.proto.common_pb2 import Interval
from modyn.proto.storage_pb2 import (
    CompactDatasetRequest,
    CompactProgress,
    Dataset,
    DatasetDescription,
    DeleteSamplesRequest,
    DeleteSamplesResponse,
    DescribeDatasetRequest,
    IngestProgress,
    IngestRequest,
    RegisterDatasetRequest,
    Role,
    VerifyDatasetRequest,
)
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import LabelsSet, append, set_labels
from modyn.storage.service import StorageService

NAME = "stream"
LONG_AGO = 1_000_000_000
"""A time at which files count as settled."""


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


class StorageServer:
    """A running storage service on one state directory; can be stopped and started again."""

    def __init__(self, state: StateDirectory, catalog_url: str | None = None, *, read_only: bool = False) -> None:
        self.state = state
        self._read_only = read_only
        self._url = catalog_url or state.default_catalog_url
        self.start()

    def start(self) -> None:
        self.catalog = Catalog(self._url)
        self.service = StorageService(self.state, self.catalog, read_only=self._read_only)
        self.server = RpcServer("127.0.0.1:0", [self.service.add_to])
        self.server.start()
        self.channel: Channel = connect(self.server.address)
        self.stub = StorageStub(self.channel)

    def stop(self) -> None:
        self.service.close()
        self.server.stop(0.5)
        self.channel.close()
        self.catalog.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def register(
        self,
        source: dict[str, Any] | None = None,
        name: str = NAME,
        role: Role.ValueType = Role.ROLE_UNSPECIFIED,
    ) -> Dataset:
        said = None if source is None else to_value(source)
        return self.stub.RegisterDataset(RegisterDatasetRequest(name=name, source=said, role=role))

    def ingest(self, name: str = NAME) -> IngestProgress:
        """Ingests and answers the last progress."""
        return list(self.stub.Ingest(IngestRequest(dataset=name)))[-1]

    def describe(self, name: str = NAME) -> DatasetDescription:
        return self.stub.DescribeDataset(DescribeDatasetRequest(name=name))

    def verify(self, name: str = NAME) -> list[str]:
        """What is damaged."""
        messages = self.stub.VerifyDataset(VerifyDatasetRequest(dataset=name))
        return [damage for message in messages for damage in message.damaged]

    def compact(self, name: str = NAME) -> CompactProgress:
        """Compacts everything and answers the last progress."""
        return list(self.stub.CompactDataset(CompactDatasetRequest(dataset=name)))[-1]

    def delete(self, keys: Sequence[int], name: str = NAME) -> DeleteSamplesResponse:
        wanted = KeySet.from_array(np.array(keys, dtype=np.int64)).to_proto()
        return self.stub.DeleteSamples(DeleteSamplesRequest(dataset=name, keys=wanted))

    def set_labels(self, batch_id: str, columns: dict[str, Any], name: str = NAME) -> LabelsSet:
        """Columns ``key``, ``label`` and perhaps ``label_time``."""
        return set_labels(self.stub, name, batch_id, [pa.record_batch(columns)])

    def append(self, batch_id: str, columns: dict[str, Any], name: str = NAME) -> tuple[KeyRange, bool]:
        return append(self.stub, name, batch_id, [pa.record_batch(columns)])


def interval(start: int | None = None, end: int | None = None) -> Interval:
    return Interval(start=start, end=end)


def settle(path: Path, mtime: int = LONG_AGO) -> Path:
    """Gives a file an old modification time, so that it counts as complete."""
    os.utime(path, (mtime, mtime))
    return path


def columns_of(table: pa.Table, *names: str) -> Sequence[Any]:
    """Columns as Python lists, for comparison with an oracle."""
    return [table.column(name).to_pylist() for name in names]

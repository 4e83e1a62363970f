"""Services on a real gRPC server, for tests of what stands on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from modyn.core.catalog import Catalog
from modyn.core.peers import Addresses, Peers
from modyn.core.rpc import RpcServer
from modyn.core.state import StateDirectory
from modyn.proto.storage_pb2 import RegisterDatasetRequest
from modyn.selector.service import SelectorService
from modyn.storage.reader import append
from modyn.storage.service import StorageService


@dataclass
class StorageAndSelector:
    """Both services on one port of one state directory; closing leaves the state for the next."""

    state: StateDirectory
    catalog: Catalog
    peers: Peers
    _server: RpcServer
    _services: tuple[StorageService, SelectorService]

    @staticmethod
    def start(folder: Path, catalog_url: str | None = None) -> StorageAndSelector:
        state = StateDirectory(folder).create()
        catalog = Catalog(catalog_url or state.default_catalog_url)
        storage = StorageService(state, catalog)
        # The selector finds storage through peers, which need the address of a server that holds the selector.
        peers = Peers(Addresses.all_at(f"unix:{folder}/socket"))
        selector = SelectorService(state, catalog, peers)
        server = RpcServer(f"unix:{folder}/socket", [storage.add_to, selector.add_to])
        server.start()
        return StorageAndSelector(state, catalog, peers, server, (storage, selector))

    def close(self) -> None:
        self.peers.close()
        self._server.stop(0)
        for service in self._services:
            service.close()
        self.catalog.close()


def append_numbers(
    peers: Peers, dataset: str, labels: Sequence[int | None], *, first_timestamp: int = 0, batch_id: str = "first"
) -> None:
    """Registers a dataset if needed and appends samples of one number each, one a second."""
    peers.storage.RegisterDataset(RegisterDatasetRequest(name=dataset))
    count = len(labels)
    batch = pa.record_batch(
        {
            "x": np.arange(count, dtype=np.float32),
            "label": pa.array(labels, type=pa.int64()),
            "timestamp": np.arange(first_timestamp, first_timestamp + count, dtype=np.int64),
        }
    )
    append(peers.storage, dataset, batch_id, [batch])

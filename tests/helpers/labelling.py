"""Late labels and deletions through the storage service's rpcs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.keysets import KeySet
from modyn.core.peers import Peers
from modyn.proto.storage_pb2 import DeleteSamplesRequest
from modyn.storage import reader


def set_labels(
    peers: Peers,
    dataset: str,
    batch_id: str,
    keys: npt.ArrayLike,
    labels: Sequence[int | None],
    label_time: npt.ArrayLike,
) -> None:
    """Gives samples labels that were known from ``label_time`` on; one number, or one for each sample."""
    key_array = np.asarray(keys, dtype=np.int64)
    times = np.broadcast_to(np.asarray(label_time, dtype=np.int64), key_array.shape)
    batch = pa.record_batch(
        {"key": key_array, "label": pa.array(labels, pa.int64()), "label_time": np.ascontiguousarray(times)}
    )
    reader.set_labels(peers.storage, dataset, batch_id, [batch])


def delete(peers: Peers, dataset: str, keys: npt.ArrayLike) -> int:
    """Deletes samples; how many there were."""
    request = DeleteSamplesRequest(dataset=dataset, keys=KeySet.from_array(np.asarray(keys)).to_proto())
    return peers.storage.DeleteSamples(request).num_deleted

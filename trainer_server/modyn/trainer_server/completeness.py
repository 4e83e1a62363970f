"""Whether a training set is still all there."""

from __future__ import annotations

from modyn.core.keysets import KeySet, ranges_to_proto
from modyn.proto.storage_pb2 import TRAINING, InspectSamplesRequest, LabelsAsOf
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.storage.reader import Column, stream_columns

MOST_RANGES = 4_096
"""Sets of more ranges are looked at key by key, as those of single keys are."""


def all_usable(stub: StorageStub, dataset: str, keys: KeySet, labels: LabelsAsOf | None) -> bool:
    """Whether storage has all these samples, and labels of all of them: each batch is then where it is expected.

    Takes a moment for key ranges, and for single keys the time to read their labels.
    """
    if keys.ranges is not None and len(keys.ranges) <= MOST_RANGES:
        request = InspectSamplesRequest(
            dataset=dataset, ranges=ranges_to_proto(keys.ranges), labels=labels, purpose=TRAINING
        )
        info = stub.InspectSamples(request)
        return bool(info.num_samples == len(keys) and not info.num_unlabelled)
    left = len(keys)
    for batch in stream_columns(stub, dataset, keys, columns=[Column.LABEL], labels=labels, purpose=TRAINING):
        if batch.column(1).null_count:
            return False
        left -= batch.num_rows
    return left == 0

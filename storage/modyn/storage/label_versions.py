"""Client side: how many label batches a dataset had received, now or earlier."""

from __future__ import annotations

from modyn.proto.common_pb2 import KeyRange, KeyRanges
from modyn.proto.storage_pb2 import InspectSamplesRequest
from modyn.proto.storage_pb2_grpc import StorageStub


def newest_label_version(stub: StorageStub, dataset: str) -> int:
    """The number of the last label batch; 0 if there is none. To pin several reads to the same labels.

    Raises:
        NotFoundError: there is no such dataset.
    """
    return stub.InspectSamples(InspectSamplesRequest(dataset=dataset, ranges=KeyRanges())).label_version


def label_version_before(stub: StorageStub, dataset: str, key: int) -> int:
    """The number of the last label batch that reached storage before a sample did; 0 if none had.

    Raises:
        NotFoundError: there is no such dataset.
        InvalidInputError: there is no such key.
    """
    sample = KeyRanges(ranges=[KeyRange(start=key, end=key + 1)])
    request = InspectSamplesRequest(dataset=dataset, ranges=sample, end_key=key + 1)
    return stub.InspectSamples(request).label_version

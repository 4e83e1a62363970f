"""Which labels belong to a training set: labels as known at its trigger (see the ``LabelsAsOf`` message)."""

from __future__ import annotations

from modyn.core.digests import digest_inputs
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.selector.catalog import TrainingSetRow


def pinned(labels: LabelsAsOf, version: int) -> LabelsAsOf:
    """The same, and no label batch after ``version``."""
    answer = LabelsAsOf()
    answer.CopyFrom(labels)
    answer.version = version
    return answer


def named(labels: LabelsAsOf, data_clock: int | None) -> LabelsAsOf:
    """The plainest way to say the same of samples up to a data clock.

    Before there are label batches every label is the one its sample came with, which is known since the sample's event
    time. Of such data, training sets do not depend on when they were selected.

    >>> named(LabelsAsOf(label_time=70, version=0), 60)
    version: 0
    <BLANKLINE>

    Args:
        labels: with a version.
        data_clock: the largest event time among the samples, Unix seconds; None if it is not known.
    """
    if labels.version != 0 or labels.HasField("arrival"):
        return labels
    if labels.HasField("label_time") and (data_clock is None or labels.label_time < data_clock):
        return labels
    return LabelsAsOf(version=0)


def digest_of(key_file: str, labels: LabelsAsOf) -> str:
    """The digest of a training set: of its keys and weights, and of its labels if they are not just those of ingest."""
    if labels == LabelsAsOf(version=0):
        return key_file
    return digest_inputs({"keys": key_file, "labels": tree_of(labels)})


def labels_of(row: TrainingSetRow) -> LabelsAsOf:
    """The labels of a stored set."""
    return LabelsAsOf(label_time=row.label_time, arrival=row.label_arrival, version=row.label_version)


def tree_of(labels: LabelsAsOf) -> dict[str, int]:
    """Its fields that are set, for digests."""
    return {field.name: value for field, value in labels.ListFields()}

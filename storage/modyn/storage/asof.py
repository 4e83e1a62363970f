"""Which versions of a label a reader sees."""

from __future__ import annotations

from dataclasses import dataclass

from modyn.core.errors import InvalidInputError
from modyn.proto.storage_pb2 import LabelsAsOf


@dataclass(frozen=True)
class AsOf:
    """Labels as they were known at some moment. What is None restricts nothing.

    A sample's label has versions: the one it was ingested with (label time = its event time, arrival = its own, version
    0; none if it was ingested without a label) and those of later label batches. Seen are the versions that satisfy all
    fields; of these the one with the largest (label time, version) is the label.

    Attributes:
        label_time: Unix seconds on the data's clock; versions with a label time after it are not seen.
        arrival: Unix seconds; versions that reached storage after it are not seen.
        version: number of the last label batch that is seen; 0 for labels as ingested.
    """

    label_time: int | None = None
    arrival: int | None = None
    version: int | None = None

    @staticmethod
    def from_proto(message: LabelsAsOf | None) -> AsOf:
        """
        Raises:
            InvalidInputError: the version is negative.
        """
        if message is None:
            return NEWEST
        if message.version < 0:
            raise InvalidInputError(
                f"labels.version is {message.version}; expected the number of a label batch, or 0 for labels as "
                "ingested"
            )
        return AsOf(
            label_time=message.label_time if message.HasField("label_time") else None,
            arrival=message.arrival if message.HasField("arrival") else None,
            version=message.version if message.HasField("version") else None,
        )

    def to_proto(self) -> LabelsAsOf:
        return LabelsAsOf(label_time=self.label_time, arrival=self.arrival, version=self.version)

    @property
    def is_newest(self) -> bool:
        """Whether nothing is restricted."""
        return self == NEWEST

    @property
    def restricts_base(self) -> bool:
        """Whether labels that samples were ingested with may be hidden; a version never hides them."""
        return self.label_time is not None or self.arrival is not None

    def hides_base(self, max_timestamp: int, max_arrival: int) -> bool:
        """Whether it hides one of some samples' ingested labels, by the largest of their event times and arrivals."""
        return (self.label_time is not None and max_timestamp > self.label_time) or (
            self.arrival is not None and max_arrival > self.arrival
        )


NEWEST = AsOf()
"""All that storage knows."""

"""Which labels a pipeline sees at a trigger: those that were known then (docs/decisions/0011)."""

from __future__ import annotations

from modyn.core.keysets import KeySet
from modyn.proto.storage_pb2 import LabelsAsOf
from modyn.storage.label_versions import label_version_before, newest_label_version
from modyn.supervisor.context import RunContext


class KnownLabels:
    """Labels as known at each trigger of one pipeline.

    A label counts if it was known on the data's clock when the newest data of the trigger were made. Where samples are
    seen in the order of arrival, it must also have reached storage before the newest of them: so a replay of a live
    stretch sees what the live pipeline saw. By event time nothing is said of arrivals, and labels are taken from all
    that storage had when the replay began.
    """

    def __init__(self, run: RunContext) -> None:
        self._peers = run.peers
        self._dataset = run.config.data.dataset_id
        self._by_arrival = run.options.order == "arrival"
        self._end_key = 0
        self._version = 0

    def begin(self) -> None:
        """The run begins: later batches of labels do not change a replay by event time."""
        if not self._by_arrival:
            self._version = newest_label_version(self._peers.storage, self._dataset)

    def at(self, data_clock: int | None, new_data: KeySet) -> LabelsAsOf:
        """As known at a trigger.

        Args:
            data_clock: the largest event time among all data handed over so far, Unix seconds.
            new_data: of this trigger; triggers come in order.
        """
        if self._by_arrival:
            self._end_key = max(self._end_key, _end_key(new_data))
            self._version = label_version_before(self._peers.storage, self._dataset, self._end_key - 1)
        return LabelsAsOf(label_time=data_clock, version=self._version)

    def seen(self, known_at: int, newest_key: int) -> LabelsAsOf:
        """As known at an evaluation of the triggering policy, which may be at any moment between two triggers.

        Args:
            known_at: Unix seconds on the data's clock.
            newest_key: of all samples that the policy has seen by then.
        """
        if self._by_arrival:
            version = label_version_before(self._peers.storage, self._dataset, newest_key)
        else:
            version = self._version
        return LabelsAsOf(label_time=known_at, version=version)


def _end_key(keys: KeySet) -> int:
    if keys.ranges is not None:
        return keys.ranges[-1].end if keys.ranges else 0
    return int(keys.to_array().max()) + 1

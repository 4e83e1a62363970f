"""The new data of all triggers of a pipeline, loaded only as far as a policy looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from modyn.core.keysets import KeySet
from modyn.core.plugins.selection import TriggerData
from modyn.selector.catalog import SelectorCatalog
from modyn.selector.keyfiles import KeyFiles

Load = Callable[[int, int], list[TriggerData]]


class History(Sequence[TriggerData]):
    """Past triggers and, last, the current one; entry ``i`` is trigger ``i``.

    Args:
        load: new data of triggers ``first <= index < stop``.
        current: the trigger for which data are being selected.
    """

    def __init__(self, load: Load, current: TriggerData) -> None:
        self._load = load
        self._current = current

    def __len__(self) -> int:
        return self._current.trigger_index + 1

    @overload
    def __getitem__(self, index: int) -> TriggerData: ...
    @overload
    def __getitem__(self, index: slice) -> list[TriggerData]: ...

    def __getitem__(self, index: int | slice) -> TriggerData | list[TriggerData]:
        positions = range(len(self))[index]
        if isinstance(positions, int):
            return self._between(positions, positions + 1)[0]
        if not positions:
            return []
        first, stop = min(positions), max(positions) + 1
        entries = self._between(first, stop)
        return [entries[position - first] for position in positions]

    def __iter__(self) -> Iterator[TriggerData]:
        return iter(self[:])  # one look-up for all: one for each would make triggers slower and slower

    def _between(self, first: int, stop: int) -> list[TriggerData]:
        past = min(stop, self._current.trigger_index)
        entries = self._load(first, past) if first < past else []
        return [*entries, self._current] if stop > self._current.trigger_index else entries


class PastSelections(Sequence[KeySet]):
    """Keys of the training sets of a pipeline's triggers before one, oldest first; entry ``i`` is trigger ``i``."""

    def __init__(self, catalog: SelectorCatalog, files: KeyFiles, pipeline_id: str, num_triggers: int) -> None:
        self._catalog = catalog
        self._files = files
        self._pipeline_id = pipeline_id
        self._num_triggers = num_triggers

    def __len__(self) -> int:
        return self._num_triggers

    @overload
    def __getitem__(self, index: int) -> KeySet: ...
    @overload
    def __getitem__(self, index: slice) -> list[KeySet]: ...

    def __getitem__(self, index: int | slice) -> KeySet | list[KeySet]:
        positions = range(self._num_triggers)[index]
        if isinstance(positions, int):
            return self._files.get(self._catalog.selected(self._pipeline_id, positions, positions + 1)[0]).keys
        if not positions:
            return []
        first, stop = min(positions), max(positions) + 1
        digests = self._catalog.selected(self._pipeline_id, first, stop)
        return [self._files.get(digests[position - first]).keys for position in positions]

    def __iter__(self) -> Iterator[KeySet]:
        """One after the other, with one query."""
        for digest in self._catalog.selected(self._pipeline_id, 0, self._num_triggers):
            yield self._files.get(digest).keys

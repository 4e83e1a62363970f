"""What follows from the model x window matrix of a pipeline: transfer, distances from training data, confusion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from modyn.core.report import ConfusionPart, OffsetPart, TransferPart
from modyn.core.scores import ScoreName
from modyn.evaluator.transfer import transfer
from modyn.supervisor.composites import Better, Cell, CellGroups, interval_of_mean, is_greater_better, metrics_of
from modyn.supervisor.handlers import Known
from modyn.supervisor.journal import TriggerRow
from modyn.supervisor.rows import ConfusionRow, OffsetRow, trigger_subject

UNTRAINED = "majority_class"
"""The baseline that stands in for a model that has learned nothing."""


def transfer_parts(
    groups: CellGroups, known: Mapping[str, Known], better: Better, trained: Sequence[TriggerRow]
) -> list[TransferPart]:
    """Of handlers that scored every model on every window, for metrics over all samples and classes."""
    parts: list[TransferPart] = []
    if not trained:
        return parts
    last = np.array([trigger.last_timestamp for trigger in trained], dtype=np.int64)
    subjects = [trigger_subject(trigger.trigger_index) for trigger in trained]
    for (handler, dataset), cells in groups.items():
        if known[handler].handler.models != "matrix" or known[handler].handler.strategy.belongs_to_models:
            continue
        for metric in filter(_is_whole, metrics_of(cells)):
            scores = np.array(
                [[_number(cell.of_subject(subject, metric).value) for cell in cells] for subject in subjects]
            )
            found = transfer(
                scores,
                windows=[cell.row.window for cell in cells],
                last_timestamps=last,
                baseline=np.array([_number(cell.of_baseline(UNTRAINED, metric)) for cell in cells]),
                greater_is_better=is_greater_better(better, handler, dataset, metric),
            )
            parts.append(
                TransferPart(
                    handler=handler,
                    dataset=dataset,
                    metric=metric,
                    forgetting=found.forgetting,
                    backward_transfer=found.backward_transfer,
                    forward_transfer=found.forward_transfer,
                    windows_backward=found.windows_backward,
                    windows_forward=found.windows_forward,
                )
            )
    return parts


def offset_parts(groups: CellGroups, rows: Sequence[OffsetRow]) -> list[OffsetPart]:
    """Means over models at the same distance from their training data.

    Args:
        groups: all windows.
        rows: which of them belong to which models, by trigger.
    """
    belonging: dict[tuple[str, str], dict[str, list[OffsetRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        belonging[row.handler, row.dataset][row.offset].append(row)
    parts: list[OffsetPart] = []
    for (handler, dataset), by_offset in belonging.items():
        cells = {cell.row.window: cell for cell in groups.get((handler, dataset), ())}
        for metric in metrics_of(list(cells.values())):
            for offset, own in by_offset.items():
                if not any(row.window in cells for row in own):
                    continue  # noted by an attempt that scored nothing
                found = [
                    value
                    for row in own
                    if row.window in cells
                    and (value := cells[row.window].of_trigger(row.trigger_index, metric).value) is not None
                ]
                values = np.array(found, dtype=np.float64)
                level = next(iter(cells.values())).level
                parts.append(
                    OffsetPart(
                        handler=handler,
                        dataset=dataset,
                        metric=metric,
                        offset=offset,
                        models=len(found),
                        mean=float(values.mean()) if found else None,
                        interval=interval_of_mean(values, level) if _is_whole(metric) else None,
                    )
                )
    return parts


def confusion_parts(groups: CellGroups, rows: Sequence[ConfusionRow]) -> list[ConfusionPart]:
    """Labels against what the active model of each window predicted, summed over windows."""
    active = {
        (handler, dataset, cell.row.window): cell for (handler, dataset), cells in groups.items() for cell in cells
    }
    chosen: dict[tuple[str, str], list[ConfusionRow]] = defaultdict(list)
    for row in rows:
        cell = active.get((row.handler, row.dataset, row.window))
        if cell is not None and _is_in_charge(cell, row.subject):
            chosen[row.handler, row.dataset].append(row)
    return [_sum(handler, dataset, counted) for (handler, dataset), counted in sorted(chosen.items())]


def _is_in_charge(cell: Cell, subject: str) -> bool:
    return cell.asked_for != "training" and cell.active is not None and subject == trigger_subject(cell.active)


def _sum(handler: str, dataset: str, rows: Sequence[ConfusionRow]) -> ConfusionPart:
    triples = np.array([triple for row in rows for triple in row.counts], dtype=np.int64).reshape(-1, 3)
    classes, places = np.unique(triples[:, :2], return_inverse=True)
    places = places.reshape(-1, 2)
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (places[:, 0], places[:, 1]), triples[:, 2])
    return ConfusionPart(
        handler=handler, dataset=dataset, classes=classes.tolist(), counts=counts.tolist(), windows=len(rows)
    )


def _is_whole(metric: str) -> bool:
    return ScoreName.parse(metric).is_whole


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

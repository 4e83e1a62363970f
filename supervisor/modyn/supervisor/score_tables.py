"""The journal of what evaluations said; a part of :class:`modyn.supervisor.journal.Journal`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from modyn.core.catalog import Catalog, insert_missing, replace_rows
from modyn.core.plugins.evaluation import Window
from modyn.supervisor.rows import (
    ConfusionRow,
    EvaluationCost,
    FailureRow,
    HandlerRow,
    MetricRow,
    OffsetRow,
    ScoreRow,
    WindowRow,
)
from modyn.supervisor.tables import CONFUSIONS, FAILURES, HANDLERS, METRICS, OFFSETS, PIPELINES, SCORES, WINDOWS

_OF_WINDOWS = (WINDOWS, SCORES, CONFUSIONS, OFFSETS)


@dataclass(frozen=True)
class Scored:
    """A portion of an evaluation's answer.

    Attributes:
        replaced: places whose subjects are scored anew: scores of theirs that are not among ``scores`` go.
    """

    windows: Sequence[WindowRow] = ()
    scores: Sequence[ScoreRow] = ()
    confusions: Sequence[ConfusionRow] = ()
    replaced: Sequence[tuple[str, str, Window, str]] = ()


class ScoreTables:
    """Windows, scores and what belongs to them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # ------------------------------------------------------------------------------------------------ writing

    def add_scores(self, pipeline_id: int, windows: Sequence[WindowRow], scores: Sequence[ScoreRow]) -> None:
        """Adds what an evaluation said; windows and scores known already are replaced."""
        self.add_scored(pipeline_id, Scored(windows, scores))

    def add_scored(self, pipeline_id: int, scored: Scored) -> None:
        """Adds a portion of an answer, all or nothing; what is known already is replaced."""
        with self._catalog.write() as connection:
            if scored.replaced:
                gone = [
                    {**_key(pipeline_id, handler, dataset, window, "b_"), "b_subject": subject}
                    for handler, dataset, window, subject in scored.replaced
                ]
                for table in (SCORES, CONFUSIONS):
                    matches = [table.c[name.removeprefix("b_")] == sa.bindparam(name) for name in gone[0]]
                    connection.execute(table.delete().where(*matches), gone)
            replace_rows(connection, WINDOWS, [_values(pipeline_id, row) for row in scored.windows])
            replace_rows(connection, SCORES, [_values(pipeline_id, row) for row in scored.scores])
            replace_rows(connection, CONFUSIONS, [_values(pipeline_id, row) for row in scored.confusions])

    def add_offsets(self, pipeline_id: int, rows: Sequence[OffsetRow]) -> None:
        """To which models windows belong; again it changes nothing."""
        if rows:
            with self._catalog.write() as connection:
                insert_missing(connection, OFFSETS, [_values(pipeline_id, row) for row in rows])

    def add_metrics(self, pipeline_id: int, rows: Sequence[MetricRow]) -> None:
        with self._catalog.write() as connection:
            replace_rows(connection, METRICS, [{"pipeline_id": pipeline_id, **asdict(row)} for row in rows])

    def add_failure(self, pipeline_id: int, message: str) -> None:
        """Something could not be scored, whatever it was."""
        self.add_failures(pipeline_id, [FailureRow(message)])

    def add_failures(self, pipeline_id: int, rows: Sequence[FailureRow]) -> None:
        values = [
            {
                "pipeline_id": pipeline_id,
                "message": storable_text(row.message),
                "handler": row.handler,
                "dataset": row.dataset,
                "trigger_index": row.trigger_index,
                "start_time": row.start,
                "end_time": row.end,
                "metric": row.metric,
            }
            for row in rows
        ]
        if values:
            with self._catalog.write() as connection:
                connection.execute(FAILURES.insert(), values)

    def forget_failures(self, ids: Sequence[int]) -> None:
        """What had failed was tried again."""
        if ids:
            with self._catalog.write() as connection:
                connection.execute(
                    FAILURES.delete().where(FAILURES.c.id == sa.bindparam("gone")), [{"gone": i} for i in ids]
                )

    def drop_windows(self, pipeline_id: int, handler: str, dataset: str, windows: Collection[Window]) -> None:
        """Windows that are laid no more, with all that is known of them."""
        gone = [_key(pipeline_id, handler, dataset, window, "b_") for window in windows]
        if gone:
            with self._catalog.write() as connection:
                for table in _OF_WINDOWS:
                    matches = [table.c[name.removeprefix("b_")] == sa.bindparam(name) for name in gone[0]]
                    connection.execute(table.delete().where(*matches), gone)

    def add_evaluation_cost(self, pipeline_id: int, cost: EvaluationCost) -> None:
        """Adds what an evaluation took to what others of the pipeline did."""
        column = PIPELINES.c
        with self._catalog.write() as connection:
            connection.execute(
                PIPELINES.update()
                .where(column.id == pipeline_id)
                .values(
                    evaluate_seconds=column.evaluate_seconds + cost.seconds,
                    evaluate_reused_seconds=column.evaluate_reused_seconds + cost.reused_seconds,
                    evaluate_later_seconds=column.evaluate_later_seconds + (cost.seconds if cost.later else 0.0),
                    evaluate_bytes=column.evaluate_bytes + cost.bytes_read,
                    evaluate_samples=column.evaluate_samples + cost.samples,
                    evaluate_samples_reused=column.evaluate_samples_reused + cost.samples_reused,
                )
            )

    def keep_handlers(self, pipeline_id: int, rows: Sequence[HandlerRow]) -> None:
        """Handlers added later; those of the same name are replaced, but stay as old as they are."""
        known = {row.name: row.created_at for row in self.handlers(pipeline_id)}
        dated = [replace(row, created_at=known.get(row.name, row.created_at or time.time())) for row in rows]
        with self._catalog.write() as connection:
            replace_rows(connection, HANDLERS, [{"pipeline_id": pipeline_id, **asdict(row)} for row in dated])

    def drop_unscored_handlers(self, pipeline_id: int, names: Sequence[str]) -> None:
        """Forgets handlers added later that have no window."""
        here = HANDLERS.c.pipeline_id == pipeline_id
        scored = sa.select(WINDOWS.c.handler).where(WINDOWS.c.pipeline_id == pipeline_id)
        with self._catalog.write() as connection:
            connection.execute(
                HANDLERS.delete().where(here, HANDLERS.c.name.in_(names), HANDLERS.c.name.not_in(scored))
            )

    # ------------------------------------------------------------------------------------------------ reading

    def handlers(self, pipeline_id: int) -> list[HandlerRow]:
        """Handlers added later, oldest first."""
        query = sa.select(HANDLERS).where(HANDLERS.c.pipeline_id == pipeline_id)
        rows = self._rows(query.order_by(HANDLERS.c.created_at, HANDLERS.c.name))
        return [HandlerRow(**{key: value for key, value in row.items() if key != "pipeline_id"}) for row in rows]

    def metrics(self, pipeline_id: int) -> list[MetricRow]:
        """What scores mean, by handler, dataset and name."""
        query = sa.select(METRICS).where(METRICS.c.pipeline_id == pipeline_id)
        rows = self._rows(query.order_by(METRICS.c.handler, METRICS.c.dataset, METRICS.c.metric))
        return [MetricRow(**{key: value for key, value in row.items() if key != "pipeline_id"}) for row in rows]

    def failure_rows(self, pipeline_id: int) -> list[FailureRow]:
        """In the order in which they came."""
        query = sa.select(FAILURES).where(FAILURES.c.pipeline_id == pipeline_id).order_by(FAILURES.c.id)
        return [
            FailureRow(
                row["message"],
                row["id"],
                row["handler"],
                row["dataset"],
                row["trigger_index"],
                row["start_time"],
                row["end_time"],
                row["metric"],
            )
            for row in self._rows(query)
        ]

    def windows(self, pipeline_id: int) -> list[WindowRow]:
        """All windows, by handler, dataset and time."""
        query = (
            sa.select(WINDOWS)
            .where(WINDOWS.c.pipeline_id == pipeline_id)
            .order_by(WINDOWS.c.handler, WINDOWS.c.dataset, WINDOWS.c.anchor, WINDOWS.c.start_time, WINDOWS.c.end_time)
        )
        return [
            WindowRow(
                row["handler"],
                row["dataset"],
                _window(row),
                row["samples"],
                row["unlabelled"],
                row["certification"],
                row["data_digest"],
                row["baselines"],
            )
            for row in self._rows(query)
        ]

    def scores(self, pipeline_id: int) -> list[ScoreRow]:
        """All scores, in no order."""
        names = ("handler", "dataset", "start_time", "end_time", "anchor", "subject", "metric", "value", "low", "high")
        query = sa.select(*(SCORES.c[name] for name in names)).where(SCORES.c.pipeline_id == pipeline_id)
        windows: dict[tuple[int, int, int], Window] = {}  # there are many scores to each
        with self._catalog.read() as connection:
            rows = connection.execute(query).all()
            return [
                ScoreRow(
                    handler,
                    dataset,
                    windows.get(place) or windows.setdefault(place, Window(*place)),
                    subject,
                    metric,
                    value,
                    low,
                    high,
                )
                for handler, dataset, start, end, anchor, subject, metric, value, low, high in rows
                for place in ((start, end, anchor),)
            ]

    def scored(self, pipeline_id: int) -> Iterator[tuple[str, str, Window, str]]:
        """Handler, dataset, window and subject of all that has scores."""
        names = ("handler", "dataset", "start_time", "end_time", "anchor", "subject")
        query = sa.select(*(SCORES.c[name] for name in names)).where(SCORES.c.pipeline_id == pipeline_id).distinct()
        for row in self._rows(query):
            yield row["handler"], row["dataset"], _window(row), row["subject"]

    def confusions(self, pipeline_id: int) -> list[ConfusionRow]:
        query = sa.select(CONFUSIONS).where(CONFUSIONS.c.pipeline_id == pipeline_id)
        return [
            ConfusionRow(
                row["handler"],
                row["dataset"],
                _window(row),
                row["subject"],
                [(label, prediction, count) for label, prediction, count in row["counts"]],
            )
            for row in self._rows(query)
        ]

    def offsets(self, pipeline_id: int) -> list[OffsetRow]:
        """Which windows belong to which models, by handler, dataset and trigger."""
        query = (
            sa.select(OFFSETS)
            .where(OFFSETS.c.pipeline_id == pipeline_id)
            .order_by(OFFSETS.c.handler, OFFSETS.c.dataset, OFFSETS.c.trigger_index, OFFSETS.c.anchor)
        )
        return [
            OffsetRow(row["handler"], row["dataset"], _window(row), row["trigger_index"], row["offset"])
            for row in self._rows(query)
        ]

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        with self._catalog.read() as connection:
            return connection.execute(query).mappings().all()


def storable_text(message: str) -> str:
    """What PostgreSQL stores as text: the output of a failed job, which stands in its error, may hold anything."""
    return message.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _window(row: sa.RowMapping) -> Window:
    return Window(row["start_time"], row["end_time"], row["anchor"])


def _key(pipeline_id: int, handler: str, dataset: str, window: Window, prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}pipeline_id": pipeline_id,
        f"{prefix}handler": handler,
        f"{prefix}dataset": dataset,
        f"{prefix}start_time": window.start,
        f"{prefix}end_time": window.end,
        f"{prefix}anchor": window.anchor,
    }


def _values(pipeline_id: int, row: WindowRow | ScoreRow | ConfusionRow | OffsetRow) -> dict[str, Any]:
    own = {name: value for name, value in vars(row).items() if name not in ("handler", "dataset", "window")}
    return {**_key(pipeline_id, row.handler, row.dataset, row.window), **own}

"""Stored outcomes: files named by their content, and the catalog rows that say what they hold."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from modyn.core.catalog import Catalog
from modyn.core.digests import digest_file
from modyn.core.errors import CorruptDataError, UnavailableError
from modyn.core.files import TEMPORARY_PREFIX, fsync_directory, remove_leftovers
from modyn.core.state import StateDirectory
from modyn.evaluator.outcomes import OutcomeFile
from modyn.evaluator.tables import outcomes, paid

logger = logging.getLogger(__name__)

_QUERY_DIGESTS = 500
"""Digests per query; databases limit the number of parameters."""

_NO_FAULT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What opening fails with where too many files are open, or too little memory is left."""


@dataclass(frozen=True)
class StoredOutcomes:
    """Where the predictions of one model on some samples are.

    Attributes:
        input_digest: of everything a prediction depends on but the sample.
        first_key: smallest key with a prediction.
        end_key: one more than the largest.
        content_digest: of the data under that key span.
        coverage: digest of the keys, in order.
        seconds: what predicting them took.
        file: digest of the outcome file.
    """

    input_digest: str
    model: str
    dataset: str
    first_key: int
    end_key: int
    content_digest: str
    coverage: str
    num_samples: int
    has_scores: bool
    seconds: float
    file: str


@dataclass(frozen=True)
class Use:
    """Some predictions that were used again.

    Attributes:
        num_samples: how many of those that ``stored`` is about.
    """

    stored: StoredOutcomes
    num_samples: int


class ModelFileRow(NamedTuple):
    """Outcomes of one model in one file; ``created_at`` in Unix seconds."""

    model: str
    file: str
    created_at: float


class OutcomeStore:
    """All outcomes of a state directory; safe to use from many threads."""

    def __init__(self, state: StateDirectory, catalog: Catalog) -> None:
        self._folder = state.folder("outcomes")
        self._catalog = catalog
        self._lock = threading.Lock()  # between putting a file in place and recording it
        self._verified: set[str] = set()
        remove_leftovers(self._folder)
        catalog.migrate("evaluator", Path(__file__).parent / "migrations" / "versions")

    def temporary_output(self) -> str:
        """Beginning of the paths of files that a job may write, in a folder of their own; each counts once it is
        adopted."""
        folder = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        folder.mkdir()
        return str(folder / "part")

    def discard(self, output: str) -> None:
        """Removes the files that begin so and were not adopted."""
        shutil.rmtree(Path(output).parent, ignore_errors=True)

    def find(self, input_digests: Iterable[str], *, with_scores: bool) -> dict[str, list[StoredOutcomes]]:
        """Stored outcomes by input digest, oldest first."""
        wanted = list(input_digests)
        found: dict[str, list[StoredOutcomes]] = {digest: [] for digest in wanted}
        columns = [outcomes.c[name] for name in StoredOutcomes.__dataclass_fields__]
        with self._catalog.read() as connection:
            for start in range(0, len(wanted), _QUERY_DIGESTS):
                query = sa.select(*columns).where(outcomes.c.input_digest.in_(wanted[start : start + _QUERY_DIGESTS]))
                if with_scores:
                    query = query.where(outcomes.c.has_scores)
                for row in connection.execute(query.order_by(outcomes.c.id)):
                    found[row.input_digest].append(StoredOutcomes(**row._mapping))
        return found

    def open(self, stored: StoredOutcomes) -> OutcomeFile | None:
        """The file with these outcomes; None, and the rows forgotten, if it is missing or damaged.

        Raises:
            UnavailableError: the machine cannot open any file now, which says nothing of this one.
        """
        path = self._path(stored.file)
        try:
            if stored.file not in self._verified and digest_file(path) != stored.file:
                raise CorruptDataError(f"outcome file {path} does not match its checksum")
            self._verified.add(stored.file)
            return OutcomeFile(path)
        except (OSError, CorruptDataError) as error:
            if isinstance(error, OSError) and error.errno in _NO_FAULT_OF_THE_FILE:
                raise UnavailableError(f"outcome file {path} cannot be opened now: {error}; try again") from error
            logger.warning("stored predictions are made again: %s", error)
            with self._catalog.write() as connection:
                connection.execute(outcomes.delete().where(outcomes.c.file == stored.file))
                connection.execute(paid.delete().where(paid.c.file == stored.file))
            return None

    def adopt(self, temporary: Path, file: str, rows: Sequence[StoredOutcomes]) -> OutcomeFile:
        """Puts a job's file in place and records it; rows that say what an older one says are dropped.

        Args:
            temporary: the fsynced file; gone afterwards.
            file: digest of its content.
            rows: what it holds; with none, the file lives only as long as the answer.
        """
        path = self._path(file)
        with self._lock:
            os.replace(temporary, path)
            fsync_directory(self._folder)
            self._verified.add(file)
            kept = self._record(file, rows)
            opened = OutcomeFile(path)
            if not kept:
                path.unlink()  # the open mapping stays readable
        return opened

    def pay(self, made: Sequence[StoredOutcomes], uses: Sequence[Use], pipeline_id: str) -> float:
        """The costs of a pipeline contain some predictions from now on.

        Costs never contain more of a file than all that it took, however often it is used.

        Args:
            made: by the pipeline just now; its costs contain what that took anyway.
            uses: predictions that it used again.

        Returns:
            What making those that it used again once took, in seconds, as far as its costs did not contain it yet.
        """
        seconds = 0.0
        with self._lock, self._catalog.write() as connection:
            query = sa.select(paid.c.file, paid.c.model, paid.c.num_samples).where(paid.c.pipeline_id == pipeline_id)
            before = {(row.file, row.model): row.num_samples for row in connection.execute(query)}
            after = before | {(row.file, row.model): row.num_samples for row in made}
            for use in uses:
                stored, key = use.stored, (use.stored.file, use.stored.model)
                new = max(0, min(use.num_samples, stored.num_samples - after.get(key, 0)))
                after[key] = after.get(key, 0) + new
                seconds += stored.seconds * new / stored.num_samples
            there = _stored_of(connection, {file for file, _ in after.keys() - before.keys()})
            rows = [
                {"of_file": file, "of_model": model, "of_pipeline": pipeline_id, "count": count}
                for (file, model), count in after.items()
                if before.get((file, model)) != count
            ]
            new_rows = [row for row in rows if (row["of_file"], row["of_model"]) in there - before.keys()]
            old_rows = [row for row in rows if (row["of_file"], row["of_model"]) in before]
            if new_rows:
                connection.execute(_INSERT_PAID, new_rows)
            if old_rows:
                connection.execute(_UPDATE_PAID, old_rows)
        return seconds

    def models(self) -> list[ModelFileRow]:
        """Which models each file holds outcomes of, and when they were made."""
        query = sa.select(outcomes.c.model, outcomes.c.file, sa.func.max(outcomes.c.created_at).label("created_at"))
        with self._catalog.read() as connection:
            rows = connection.execute(query.group_by(outcomes.c.model, outcomes.c.file)).all()
        return [ModelFileRow(row.model, row.file, row.created_at) for row in rows]

    def files(self) -> dict[str, os.stat_result]:
        """What is in the folder, by digest."""
        found: dict[str, os.stat_result] = {}
        for path in self._folder.glob("*.arrow"):
            with contextlib.suppress(FileNotFoundError):  # replaced at this moment
                if path.name[0] != ".":
                    found[path.stem] = path.stat()
        return found

    def forget(self, row: ModelFileRow) -> None:
        """Forgets what a file holds of a model; a file that holds nothing else goes with :meth:`remove`."""
        here = sa.and_(outcomes.c.model == row.model, outcomes.c.file == row.file)
        with self._lock, self._catalog.write() as connection:
            connection.execute(outcomes.delete().where(here, outcomes.c.created_at <= row.created_at))
            left = sa.select(outcomes.c.id).where(here)
            if connection.execute(left).first() is None:
                connection.execute(paid.delete().where(paid.c.model == row.model, paid.c.file == row.file))

    def remove(self, file: str) -> bool:
        """Removes a file unless a row names it; whether it did. Whoever has it open goes on reading."""
        with self._lock:
            with self._catalog.read() as connection:
                if connection.execute(sa.select(outcomes.c.id).where(outcomes.c.file == file)).first() is not None:
                    return False
            self._path(file).unlink(missing_ok=True)
            fsync_directory(self._folder)
        return True

    def _record(self, file: str, rows: Sequence[StoredOutcomes]) -> bool:
        with self._catalog.write() as connection:
            for row in rows:
                same = sa.and_(
                    outcomes.c.input_digest == row.input_digest,
                    outcomes.c.coverage == row.coverage,
                    outcomes.c.content_digest == row.content_digest,
                    outcomes.c.has_scores == row.has_scores,
                )
                if connection.execute(sa.select(outcomes.c.id).where(same)).first() is None:
                    connection.execute(outcomes.insert().values(**vars(row), created_at=time.time()))
            return connection.execute(sa.select(outcomes.c.id).where(outcomes.c.file == file)).first() is not None

    def _path(self, file: str) -> Path:
        return self._folder / f"{file}.arrow"


def _stored_of(connection: sa.Connection, files: Collection[str]) -> set[tuple[str, str]]:
    """Files and models that outcomes are stored of, among some files; others may have been collected meanwhile."""
    found: set[tuple[str, str]] = set()
    names = sorted(files)
    for start in range(0, len(names), _QUERY_DIGESTS):
        query = sa.select(outcomes.c.file, outcomes.c.model)
        rows = connection.execute(query.where(outcomes.c.file.in_(names[start : start + _QUERY_DIGESTS])))
        found |= {(row.file, row.model) for row in rows}
    return found


_INSERT_PAID = paid.insert().values(
    file=sa.bindparam("of_file"),
    model=sa.bindparam("of_model"),
    pipeline_id=sa.bindparam("of_pipeline"),
    num_samples=sa.bindparam("count"),
)
_UPDATE_PAID = (
    paid.update()
    .where(
        paid.c.file == sa.bindparam("of_file"),
        paid.c.model == sa.bindparam("of_model"),
        paid.c.pipeline_id == sa.bindparam("of_pipeline"),
    )
    .values(num_samples=sa.bindparam("count"))
)

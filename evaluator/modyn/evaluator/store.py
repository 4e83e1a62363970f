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
from collections.abc import Iterable, Sequence
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

    def adopt(self, temporary: Path, file: str, rows: Sequence[StoredOutcomes], pipeline_id: str) -> OutcomeFile:
        """Puts a job's file in place and records it; rows that say what an older one says are dropped.

        Args:
            temporary: the fsynced file; gone afterwards.
            file: digest of its content.
            rows: what it holds; with none, the file lives only as long as the answer.
            pipeline_id: whose costs contain what it took.
        """
        path = self._path(file)
        with self._lock:
            os.replace(temporary, path)
            fsync_directory(self._folder)
            self._verified.add(file)
            kept = self._record(file, rows, pipeline_id)
            opened = OutcomeFile(path)
            if not kept:
                path.unlink()  # the open mapping stays readable
        return opened

    def unpaid(self, uses: Sequence[Use], pipeline_id: str) -> float:
        """What making some predictions took that a pipeline used again, in seconds, as far as its costs do not contain
        it yet; they do from now on.

        Costs never contain more of a file than all that it took, however often it is used.
        """
        seconds = 0.0
        with self._catalog.write() as connection:
            for use in uses:
                new = _pay(connection, use.stored, pipeline_id, use.num_samples)
                seconds += use.stored.seconds * new / use.stored.num_samples
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

    def _record(self, file: str, rows: Sequence[StoredOutcomes], pipeline_id: str) -> bool:
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
                    _pay(connection, row, pipeline_id, row.num_samples)
            return connection.execute(sa.select(outcomes.c.id).where(outcomes.c.file == file)).first() is not None

    def _path(self, file: str) -> Path:
        return self._folder / f"{file}.arrow"


def _pay(connection: sa.Connection, stored: StoredOutcomes, pipeline_id: str, num_samples: int) -> int:
    """The costs of a pipeline contain so many predictions more, if there are so many; how many there are."""
    key = {"file": stored.file, "model": stored.model, "pipeline_id": pipeline_id}
    here = sa.and_(*(paid.c[name] == value for name, value in key.items()))
    before = connection.execute(sa.select(paid.c.num_samples).where(here)).scalar()
    new = max(0, min(num_samples, stored.num_samples - (before or 0)))
    if before is None:
        connection.execute(paid.insert().values(**key, num_samples=new))
    elif new:
        connection.execute(paid.update().where(here).values(num_samples=before + new))
    return new

"""Scores of samples that hold for a whole trigger or longer, by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modyn.core.arrow import Int64Array
from modyn.core.errors import CorruptDataError
from modyn.core.plugins.downsampling import Float32Array, Score

if TYPE_CHECKING:
    from modyn.trainer_server.batch import Batch
    from modyn.trainer_server.feeds import Costs
    from modyn.trainer_server.scoring import Scorer

ROWS_PER_BATCH = 100_000


class ScoreBook:
    """What is known of the samples of a training set before the model is asked, and what is to be kept for later.

    Args:
        keys: of the training set, in its order, int64 [n].
        kept: scores of which an earlier trigger's serve again, and which later triggers get.
        earlier: table of that trigger: ``key``, and a column for each score.
    """

    def __init__(self, keys: Int64Array, kept: Sequence[Score] = (), earlier: pa.Table | None = None) -> None:
        self._keys, self._rows = np.unique(keys, return_inverse=True)
        self._kept = tuple(kept)
        self._values: dict[Score, Float32Array] = {}
        self._known: dict[Score, npt.NDArray[np.bool_]] = {}
        self._fixed: dict[Score, Float32Array] = {}
        if earlier is not None:
            self._take_over(earlier)

    def fix(self, score: Score, values: Float32Array) -> None:
        """A score that no model of this training gives.

        Args:
            values: in the order of the training set, float32 [n].
        """
        self._fixed[score] = values

    def note_set(self, score: Score, values: Float32Array) -> None:
        """Keeps a score of the whole set, if it is kept at all.

        Args:
            values: in the order of the training set, float32 [n]; NaN: none.
        """
        known = np.flatnonzero(~np.isnan(values))
        self.note(self._keys[self._rows[known]], {score: values[known]})

    def unknown(self, score: Score) -> npt.NDArray[np.bool_]:
        """Which samples of the set have no such score yet, in its order, bool [n]."""
        known = self._known.get(score)
        if known is None:
            return np.ones(len(self._rows), dtype=np.bool_)
        missing: npt.NDArray[np.bool_] = ~known[self._rows]
        return missing

    def of_set(self, score: Score, costs: Costs) -> Float32Array:
        """A score of one number in the order of the set, float32 [n], NaN where it is not known."""
        missing = self.unknown(score)
        values = np.full(len(self._rows), np.nan, dtype=np.float32)
        if not missing.all():
            values[~missing] = self._values[score][self._rows[~missing]]
            costs.scores_reused += int(np.count_nonzero(~missing))
        return values

    def columns(self, batch: Batch, scorer: Scorer, costs: Costs) -> dict[Score, Float32Array]:
        """All scores of a batch, [n] or [n, …] each; the model is asked only about samples that have none yet."""
        known = self._have_all(batch.keys, scorer.needs)
        if not known.any():
            columns = scorer.columns(batch)
            self.note(batch.keys, columns)
        else:
            if not known.all():
                unknown = batch.take(np.flatnonzero(~known))
                self.note(unknown.keys, scorer.columns(unknown))
            places = np.searchsorted(self._keys, batch.keys)
            columns = {score: self._values[score][places] for score in scorer.needs}
        if scorer.needs:
            costs.samples_scored += int(np.count_nonzero(~known))
            costs.scores_reused += int(np.count_nonzero(known))
        for score, values in self._fixed.items():
            assert batch.places is not None  # downsampling sources know them
            columns[score] = values[batch.places]
        return columns

    def note(self, keys: Int64Array, columns: dict[Score, Float32Array]) -> None:
        """Keeps new scores of some samples, as far as they are kept at all.

        Args:
            keys: of samples of the set, int64 [b].
            columns: [b] or [b, …] each.
        """
        places = np.searchsorted(self._keys, keys)
        for score, values in columns.items():
            if score not in self._kept:
                continue
            if score not in self._values:
                self._values[score] = np.zeros((len(self._keys), *values.shape[1:]), dtype=np.float32)
                self._known[score] = np.zeros(len(self._keys), dtype=np.bool_)
            self._values[score][places] = values
            self._known[score][places] = True

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            name: {score.value: column for score, column in columns.items()}
            for name, columns in (("values", self._values), ("known", self._known), ("fixed", self._fixed))
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        self._values, self._known, self._fixed = (
            {Score(score): column for score, column in state[name].items()} for name in ("values", "known", "fixed")
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What later triggers get: ``key`` and the kept scores of the samples that have all of them."""
        complete = np.ones(len(self._keys), dtype=np.bool_)
        for score in self._kept:
            complete &= self._known.get(score, np.zeros(len(self._keys), dtype=np.bool_))
        rows = np.flatnonzero(complete)
        for start in range(0, len(rows), ROWS_PER_BATCH):
            part = rows[start : start + ROWS_PER_BATCH]
            columns: dict[str, Any] = {"key": pa.array(self._keys[part])}
            for score in self._kept:
                columns |= _arrow(score, self._values[score][part])
            yield pa.record_batch(columns)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything for later triggers."""
        return bool(self._kept) and any(known.any() for known in self._known.values())

    def _have_all(self, keys: Int64Array, scores: Sequence[Score]) -> npt.NDArray[np.bool_]:
        """Which samples have all of some scores already, bool [n]."""
        have = np.full(len(keys), bool(scores) and set(scores) <= self._known.keys())
        if have.any():
            places = np.searchsorted(self._keys, keys)
            for score in scores:
                have &= self._known[score][places]
        return have

    def _take_over(self, earlier: pa.Table) -> None:
        if "key" not in earlier.column_names:
            raise CorruptDataError(f"stored scores have the columns {', '.join(earlier.column_names)}; expected key")
        keys = earlier.column("key").to_numpy()
        here = np.isin(keys, self._keys)
        for score in self._kept:
            values = _numpy(score, earlier)
            if values is not None and here.any():
                self.note(keys[here], {score: values[here]})


def _arrow(score: Score, values: Float32Array) -> dict[str, pa.Array]:
    """Columns of a score: one of its name, or ``name.0``, ``name.1`` … where it has several numbers."""
    if values.ndim == 1:
        return {score.value: pa.array(values)}
    flat = values.reshape(len(values), -1)
    return {f"{score.value}.{i}": pa.array(flat[:, i]) for i in range(flat.shape[1])}


def _numpy(score: Score, table: pa.Table) -> Float32Array | None:
    if score.value in table.column_names:
        return np.asarray(table.column(score.value).to_numpy(), dtype=np.float32)
    several = [name for name in table.column_names if name.startswith(f"{score.value}.")]
    if not several:
        return None
    several.sort(key=lambda name: int(name.rpartition(".")[2]))
    return np.stack([table.column(name).to_numpy() for name in several], axis=1).astype(np.float32)

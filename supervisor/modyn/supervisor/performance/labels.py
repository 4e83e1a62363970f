"""Predictions whose labels are not known yet."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from modyn.core.arrow import Int64Array
from modyn.core.packed import EMPTY, Int64Column
from modyn.core.plugins.evaluation import Outcomes
from modyn.core.plugins.triggers import Observer


class Learned(NamedTuple):
    """Outcomes of one model that became known.

    Attributes:
        number: of the model.
        outcomes: in the order in which their labels became known.
    """

    number: int
    outcomes: Outcomes


class PendingLabels(BaseModel):
    """Samples and the model that was live when they were looked at, until their labels are known.

    Attributes:
        keys, timestamps, numbers: of the samples, in the order of arrival; ``numbers`` are those of their models.
        models: content digests by number, of the newest model and of those that have samples here.
        newest: number of the newest model; -1 before the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Int64Column = EMPTY
    timestamps: Int64Column = EMPTY
    numbers: Int64Column = EMPTY
    models: dict[int, str] = Field(default_factory=dict)
    newest: int = -1

    def remember(self, keys: Int64Array, timestamps: Int64Array, model: str) -> Self:
        """With more samples, int64 [n] each, that ``model`` predicts."""
        models, newest = self.models, self.newest
        if models.get(newest) != model:
            newest += 1
            models = {**models, newest: model}
        changes = {
            "keys": np.concatenate((self.keys, keys)),
            "timestamps": np.concatenate((self.timestamps, timestamps)),
            "numbers": np.concatenate((self.numbers, np.full(len(keys), newest, dtype=np.int64))),
            "models": models,
            "newest": newest,
        }
        return self.model_copy(update=changes)

    def forget_before(self, timestamp: int) -> Self:
        """Without samples whose event time is earlier."""
        return self._only(self.timestamps >= timestamp)

    def forget_models_before(self, number: int) -> Self:
        """Without samples that models with a lower number predicted."""
        return self._only(self.numbers >= number)

    def learn(
        self, observe: Observer, *, clock: int, delay: int | None, scores: bool, newest_key: int | None = None
    ) -> tuple[Self, tuple[Learned, ...]]:
        """What becomes known at a data time.

        Args:
            clock: Unix seconds.
            delay: seconds after which labels count, in the order of the event times; None: as soon as storage has
                them, in the order of arrival.
            scores: whether raw model outputs are needed.
            newest_key: of all samples seen so far.

        Returns:
            Without what became known or was deleted; outcomes by model, earlier models first.
        """
        due = np.arange(len(self.keys))
        if delay is not None:
            due = np.flatnonzero(self.timestamps + delay <= clock)
            due = due[np.argsort(self.timestamps[due], kind="stable")]
        learned, done = [], [EMPTY]
        for number in np.unique(self.numbers[due]).tolist():
            asked = self.keys[due[self.numbers[due] == number]]
            known = observe.outcomes(asked, self.models[number], known_at=clock, scores=scores, newest_key=newest_key)
            done += [known.keys, known.gone]
            if len(known.outcomes):
                learned.append(Learned(number, known.outcomes))
        return self._only(~np.isin(self.keys, np.concatenate(done))), tuple(learned)

    def _only(self, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Self:
        if kept.all():
            return self
        numbers = self.numbers[kept]
        used = {*np.unique(numbers).tolist(), self.newest}
        changes = {
            "keys": self.keys[kept],
            "timestamps": self.timestamps[kept],
            "numbers": numbers,
            "models": {number: model for number, model in self.models.items() if number in used},
        }
        return self.model_copy(update=changes)


def joined(learned: tuple[Learned, ...]) -> Outcomes:
    """Outcomes of at least one model as one."""
    outcomes = [part.outcomes for part in learned]
    scores = [part.scores for part in outcomes if part.scores is not None]
    return Outcomes(
        np.concatenate([part.labels for part in outcomes]),
        np.concatenate([part.predictions for part in outcomes]),
        np.concatenate(scores) if scores else None,
    )

"""An observer over arrays, so that triggers can be tested without storage or models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.evaluation import Outcomes
from modyn.core.plugins.triggers import Features, KnownOutcomes, Observer

Embed = Callable[[str, Features], Features]
Predict = Callable[[str, Features], npt.NDArray[np.generic]]


class ArrayObserver(Observer):
    """Answers from arrays; the key of a sample is its row.

    Args:
        features: float32 [n, d]; the samples' own columns.
        labels: int64 [n]; None if nothing is asked about labels.
        label_times: when each label is known, int64 [n], Unix seconds; None: from the beginning.
        names: of the columns; ``x0``, ``x1`` … if not given.
        embed: (model, features) -> embeddings; by default the features themselves.
        predict: (model, features) -> classes [n], or raw scores [n, outputs]; by default class 0.
        gone: keys that are deleted; may be added to at any time.
        remember: an answer is kept for so many further calls about its model; None: for ever.

    Attributes:
        embedded: model -> how often each sample was shown to it for an embedding, int64 [n].
        predicted: model -> how often each sample was shown to it for a prediction, int64 [n].
        calls: names of the methods that were called, in order.
    """

    def __init__(
        self,
        features: npt.NDArray[np.generic],
        labels: npt.NDArray[np.generic] | None = None,
        *,
        label_times: npt.NDArray[np.generic] | None = None,
        names: tuple[str, ...] | None = None,
        embed: Embed | None = None,
        predict: Predict | None = None,
        gone: set[int] | None = None,
        remember: int | None = None,
        seed: int = 0,
    ) -> None:
        self.features = np.asarray(features, dtype=np.float32)
        count = len(self.features)
        self.labels = np.zeros(count, dtype=np.int64) if labels is None else np.asarray(labels, dtype=np.int64)
        never = np.full(count, np.iinfo(np.int64).min)
        self.label_times = never if label_times is None else np.asarray(label_times, dtype=np.int64)
        self.names = names or tuple(f"x{i}" for i in range(self.features.shape[1]))
        self.gone = set() if gone is None else gone
        self.embedded: dict[str, Int64Array] = defaultdict(lambda: np.zeros(count, dtype=np.int64))
        self.predicted: dict[str, Int64Array] = defaultdict(lambda: np.zeros(count, dtype=np.int64))
        self.calls: list[str] = []
        self._embed: Embed = embed or (lambda model, rows: rows)
        self._predict: Predict = predict or (lambda model, rows: np.zeros(len(rows), dtype=np.int64))
        self._remember = remember
        self._seed = seed
        self._turns: dict[tuple[str, str], int] = defaultdict(int)
        self._asked_at: dict[tuple[str, str], Int64Array] = defaultdict(lambda: np.full(count, -1))

    def embeddings(self, keys: Int64Array, model: str) -> Features:
        self.calls.append("embeddings")
        kept = self._kept(keys)
        self._show("embeddings", model, kept, self.embedded[model])
        return np.asarray(self._embed(model, self.features[kept]), dtype=np.float32)

    def columns(self, keys: Int64Array, names: tuple[str, ...]) -> Features:
        self.calls.append("columns")
        for name in names:
            if name not in self.names:
                raise InvalidInputError(f"no column is named {name!r}; expected one of {', '.join(self.names)}")
        chosen = [self.names.index(name) for name in names or self.names]
        return self.features[self._kept(keys)][:, chosen]

    def outcomes(
        self, keys: Int64Array, model: str, *, known_at: int, scores: bool, newest_key: int | None = None
    ) -> KnownOutcomes:
        self.calls.append("outcomes")
        kept = self._kept(keys)
        gone = np.setdiff1d(keys, kept)
        known = kept[self.label_times[kept] <= known_at]
        self._show("outcomes", model, known, self.predicted[model])
        answers = np.asarray(self._predict(model, self.features[known]))
        raw = answers.astype(np.float32) if answers.ndim == 2 else None
        classes = (answers if raw is None else raw.argmax(axis=1)).astype(np.int64)
        return KnownOutcomes(known, Outcomes(self.labels[known], classes, raw if scores else None), gone)

    def generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, index])

    def _kept(self, keys: Int64Array) -> Int64Array:
        keys = np.asarray(keys, dtype=np.int64)
        kept: Int64Array = keys[~np.isin(keys, list(self.gone))] if self.gone else keys
        return kept

    def _show(self, method: str, model: str, keys: Int64Array, counts: Int64Array) -> None:
        """Counts the samples whose answers are not remembered."""
        turn = self._turns[method, model] = self._turns[method, model] + 1
        asked_at = self._asked_at[method, model]
        oldest = 0 if self._remember is None else turn - self._remember
        distinct = np.unique(keys)
        counts[distinct[asked_at[distinct] < oldest]] += 1
        asked_at[distinct] = turn

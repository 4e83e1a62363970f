"""Which models were trained on some samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn.core.arrow import Int64Array, int64_column
from modyn.core.keysets import KeySet, mark_members
from modyn.core.peers import Peers
from modyn.proto.selector_pb2 import FindTrainingSetsRequest, FoundTrainingSet
from modyn.proto.trainer_server_pb2 import FindTrainingsRequest, TrainedModel
from modyn.selector.reader import stream_sample_columns
from modyn.trainer_server.descriptions import uses_of
from modyn.trainer_server.store import LineageRow, TrainingStore

Mask = npt.NDArray[np.bool_]


@dataclass
class _Trained:
    """A model and one of the training sets of which it was made; ``rows`` oldest first."""

    model: str
    training_set: str
    rows: list[LineageRow] = field(default_factory=list)

    @property
    def parents(self) -> set[str]:
        """The models that it was made of: initial weights, and auxiliary models of earlier triggers."""
        used = {model for row in self.rows for model in row.auxiliary_used or ()}
        return used | {row.initial_model for row in self.rows if row.initial_model is not None}

    @property
    def left(self) -> set[str]:
        """It, and the auxiliary models that its training left."""
        return {self.model, *(model for row in self.rows for model in row.auxiliary_left or ())}

    def message(self, found: FoundTrainingSet | None, members: Mask | None = None) -> TrainedModel:
        """
        Args:
            found: its training set, if it was trained on any of the keys.
            members: which of the distinct keys it was trained on.
        """
        first = self.rows[0]
        answer = TrainedModel(
            model=self.model,
            training_set=self.training_set,
            dataset=first.dataset,
            uses=uses_of(self.rows),
            trained_at=first.created_at,
            initial_model=first.initial_model,
            inherited=found is None,
            trained=first.trained,
        )
        if found is not None and members is not None:
            answer.num_keys = int(np.count_nonzero(members))
            answer.members = np.packbits(members, bitorder="little").tobytes()
            answer.labels.CopyFrom(found.labels)
        return answer


class Lineage:
    """Finds models by the samples they were trained on.

    The selector says which training sets hold the samples, this service's rows which models came of them, and what
    their trainings recorded which samples they really used. A model that was warm-started from such a model, or whose
    downsampling took over its auxiliary models, is one too, as it goes back to them.
    """

    def __init__(self, store: TrainingStore, peers: Peers) -> None:
        self._store = store
        self._peers = peers

    def find(self, requests: Iterator[FindTrainingsRequest]) -> Iterator[TrainedModel]:
        """Models trained on any of the keys, oldest training first, each once per training set; then their heirs."""
        chunks: list[Int64Array] = [np.empty(0, np.int64)]

        def asked() -> Iterator[FindTrainingSetsRequest]:
            for request in requests:
                chunks.append(KeySet.from_proto(request.keys).to_array())
                yield FindTrainingSetsRequest(dataset=request.dataset, keys=request.keys)

        found = {one.digest: one for one in self._peers.selector.FindTrainingSets(asked())}
        records = _Records(self._peers, np.unique(np.concatenate(chunks)))
        trained = self._all()
        tainted: set[str] = set()
        rest: list[_Trained] = []
        for one in trained:
            members = records.members(one, found[one.training_set]) if one.training_set in found else None
            if members is None or not members.any():
                rest.append(one)
                continue
            tainted |= one.left
            yield one.message(found[one.training_set], members)
        yield from _heirs(rest, tainted)

    def _all(self) -> list[_Trained]:
        by_set: dict[tuple[str, str], _Trained] = {}
        for row in self._store.lineage():
            key = (row.model, row.training_set)
            by_set.setdefault(key, _Trained(*key)).rows.append(row)
        return list(by_set.values())


class _Records:
    """Looks for keys in the records of what was really trained; each is read once.

    Args:
        wanted: distinct and ascending, int64 [n].
    """

    def __init__(self, peers: Peers, wanted: Int64Array) -> None:
        self._peers = peers
        self._wanted = wanted
        self._known: dict[str, Mask] = {}

    def members(self, one: _Trained, found: FoundTrainingSet) -> Mask:
        """Which of the keys a model was trained on, bool [n]; without a record, those in its training set."""
        digests = {row.trained for row in one.rows}
        if None in digests:
            packed = np.frombuffer(found.members, dtype=np.uint8)
            return np.unpackbits(packed, count=len(self._wanted), bitorder="little").astype(np.bool_)
        members = np.zeros(len(self._wanted), dtype=np.bool_)
        for digest in filter(None, digests):
            members |= self._of(digest)
        return members

    def _of(self, digest: str) -> Mask:
        if digest not in self._known:
            members = np.zeros(len(self._wanted), dtype=np.bool_)
            for batch in stream_sample_columns(self._peers.selector, digest):
                mark_members(members, self._wanted, int64_column(batch, "key"))
                if members.all():
                    break
            self._known[digest] = members
        return self._known[digest]


def _heirs(rest: list[_Trained], tainted: set[str]) -> Iterator[TrainedModel]:
    """Those of the rest that go back to models that are named already, parents first."""
    heirs = tainted
    while heirs:
        children = [one for one in rest if one.parents & heirs]
        yield from (child.message(None) for child in children if child.model not in tainted)
        heirs = set().union(*(child.left for child in children)) - tainted
        tainted = tainted | heirs
        known = {id(child) for child in children}
        rest = [one for one in rest if id(one) not in known]

"""Which models were trained on some samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from modyn.core.peers import Peers
from modyn.proto.selector_pb2 import FindTrainingSetsRequest, FoundTrainingSet
from modyn.proto.trainer_server_pb2 import FindTrainingsRequest, ModelUse, TrainedModel
from modyn.trainer_server.store import LineageRow, TrainingStore


@dataclass
class _Trained:
    """A model and one of the training sets of which it was made; ``rows`` oldest first."""

    model: str
    training_set: str
    rows: list[LineageRow] = field(default_factory=list)

    def message(self, found: FoundTrainingSet | None) -> TrainedModel:
        """
        Args:
            found: its training set, if that has any of the keys.
        """
        first = self.rows[0]
        uses = (ModelUse(pipeline_id=r.pipeline_id, trigger_index=r.trigger_index, reused=r.reused) for r in self.rows)
        answer = TrainedModel(
            model=self.model,
            training_set=self.training_set,
            dataset=first.dataset,
            uses=uses,
            trained_at=first.created_at,
            initial_model=first.initial_model,
            inherited=found is None,
        )
        if found is not None:
            answer.num_keys, answer.members = found.num_keys, found.members
            answer.labels.CopyFrom(found.labels)
        return answer


class Lineage:
    """Finds models by the samples they were trained on.

    The selector says which training sets hold the samples, this service's rows which models came of them. A model that
    was warm-started from such a model is one too, as its weights go back to them.
    """

    def __init__(self, store: TrainingStore, peers: Peers) -> None:
        self._store = store
        self._peers = peers

    def find(self, requests: Iterator[FindTrainingsRequest]) -> Iterator[TrainedModel]:
        """Models trained on any of the keys, oldest training first, each once per training set; then their heirs."""
        asked = (FindTrainingSetsRequest(dataset=request.dataset, keys=request.keys) for request in requests)
        found = {one.digest: one for one in self._peers.selector.FindTrainingSets(asked)}
        trained = self._all()
        tainted: set[str] = set()
        for one in trained:
            if one.training_set in found:
                tainted.add(one.model)
                yield one.message(found[one.training_set])
        heirs = tainted
        rest = [one for one in trained if one.training_set not in found]
        while heirs:
            children = [one for one in rest if any(row.initial_model in heirs for row in one.rows)]
            yield from (child.message(None) for child in children if child.model not in tainted)
            heirs = {child.model for child in children} - tainted
            tainted |= heirs
            known = {id(child) for child in children}
            rest = [one for one in rest if id(one) not in known]

    def _all(self) -> list[_Trained]:
        by_set: dict[tuple[str, str], _Trained] = {}
        for row in self._store.lineage():
            key = (row.model, row.training_set)
            by_set.setdefault(key, _Trained(*key)).rows.append(row)
        return list(by_set.values())

"""What is known of the models that were trained here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.proto.trainer_server_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    ModelDescription,
    ModelUse,
    TrainResult,
    TriggerRef,
)
from modyn.trainer_server.store import LineageRow, TrainingStore

NAMED_IN_ERRORS = 5
"""How many models an error about an ambiguous digest names."""


class Models:
    """Describes models by this service's rows."""

    def __init__(self, store: TrainingStore) -> None:
        self._store = store

    def describe(self, request: DescribeModelRequest) -> ModelDescription:
        """
        Raises:
            NotFoundError: there is no such model.
            InvalidInputError: the request names none, or several models' digests begin like that.
        """
        if request.WhichOneof("which") == "trigger":
            model = self._of_trigger(request.trigger)
        else:
            model = self._of_prefix(request.model)
        return _description(self._store.lineage_of(model))

    def all(self, request: ListModelsRequest) -> Iterator[ModelDescription]:
        """All models, or those of a pipeline; oldest first."""
        whole = not request.HasField("pipeline_id")
        rows = self._store.lineage() if whole else self._store.lineage_of_models_of(request.pipeline_id)
        by_model: dict[str, list[LineageRow]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        return map(_description, by_model.values())

    def _of_trigger(self, trigger: TriggerRef) -> str:
        model = self._store.newest_model_of(trigger.pipeline_id, trigger.trigger_index)
        if model is None:
            raise NotFoundError(
                f"trigger {trigger.trigger_index} of pipeline {trigger.pipeline_id} has no model; "
                "`modyn-client models list` shows all models"
            )
        return model

    def _of_prefix(self, prefix: str) -> str:
        if not re.fullmatch("[0-9a-f]+", prefix):
            raise InvalidInputError(f"model {prefix!r}: expected a digest or how it begins, such as 1f3a09")
        found = self._store.models_like(prefix, NAMED_IN_ERRORS + 1)
        if not found:
            raise NotFoundError(f"there is no model {prefix!r}; `modyn-client models list` shows all models")
        if len(found) > 1 and prefix != found[0]:
            named = ", ".join(found[:NAMED_IN_ERRORS]) + (", …" if len(found) > NAMED_IN_ERRORS else "")
            raise InvalidInputError(f"model {prefix!r}: several begin like that ({named}); expected more of its digest")
        return found[0]


def uses_of(rows: Sequence[LineageRow]) -> list[ModelUse]:
    """Who has a model, in the order of the rows."""
    return [ModelUse(pipeline_id=r.pipeline_id, trigger_index=r.trigger_index, reused=r.reused) for r in rows]


def _description(rows: Sequence[LineageRow]) -> ModelDescription:
    """
    Args:
        rows: all of one model, oldest first.
    """
    first = next((row for row in rows if row.numbers is not None), rows[0])
    return ModelDescription(
        model=first.model,
        dataset=first.dataset,
        training_set=first.training_set,
        trained=first.trained,
        initial_model=first.initial_model,
        uses=uses_of(rows),
        trained_at=first.created_at,
        result=None if first.numbers is None else TrainResult(**first.numbers),
    )

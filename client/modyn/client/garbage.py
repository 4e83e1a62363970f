"""What services keep that nothing needs any more: asking each of them to remove it.

Only what no record names is removed: journals of pipelines, as far as their retention keeps models, and the lineage of
models. Each service adds that it is old enough; what a running pipeline has made or reused since it began never is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

from modyn.core.errors import InvalidInputError
from modyn.core.peers import Peers
from modyn.proto.common_pb2 import CollectGarbageRequest, Garbage, ListReferencesRequest
from modyn.proto.storage_pb2 import ListStoredModelsRequest
from modyn.proto.supervisor_pb2 import ListPipelinesRequest, Pipeline

GarbageKind: TypeAlias = Literal["models", "training-sets", "outcomes", "checkpoints"]
KINDS: tuple[GarbageKind, ...] = get_args(GarbageKind)
"""In the order in which they are collected: outcomes are kept as long as their models are stored."""

RUNNING = (Pipeline.STARTING, Pipeline.RUNNING, Pipeline.STOPPING)

MARGIN_SECONDS = 60.0
"""Clocks of different machines may differ by so much."""


def collect_garbage(
    peers: Peers, *, dry_run: bool, older_than_seconds: float, only: Sequence[str] = ()
) -> Iterator[Garbage]:
    """See :meth:`modyn.client.Client.collect_garbage`."""
    kinds = _checked(only)
    age = max(older_than_seconds, 0.0)
    pipelines = peers.supervisor.ListPipelines(ListPipelinesRequest()).pipelines
    running = {pipeline.id: pipeline.created_at for pipeline in pipelines if pipeline.status in RUNNING}
    if running:
        age = max(age, time.time() - min(running.values()) + MARGIN_SECONDS)
    needed = _needed(peers, running) if {"models", "training-sets"} & set(kinds) else set()

    def collected(
        call: Callable[[CollectGarbageRequest], Iterator[Garbage]], keep: Collection[str]
    ) -> Iterator[Garbage]:
        yield from call(CollectGarbageRequest(dry_run=dry_run, older_than_seconds=age, keep=sorted(keep)))

    removed: set[str] = set()
    if "models" not in kinds:  # storage says whether records are those of its state directory: before anything goes
        for _ in peers.storage.CollectModelGarbage(CollectGarbageRequest(dry_run=True, older_than_seconds=math.inf)):
            pass
    if "models" in kinds:
        for garbage in collected(peers.storage.CollectModelGarbage, needed):
            removed.add(garbage.name)
            yield garbage
    if "training-sets" in kinds:
        yield from collected(peers.selector.CollectSelectionGarbage, needed)
    if "outcomes" in kinds:
        stored = {model.digest for model in peers.storage.ListStoredModels(ListStoredModelsRequest())}
        yield from collected(peers.evaluator.CollectOutcomeGarbage, stored - removed)
    if "checkpoints" in kinds:
        yield from collected(peers.trainer_server.CollectTrainerGarbage, ())


def garbage_json(garbage: Sequence[Garbage], *, dry_run: bool) -> dict[str, Any]:
    """As plain values."""
    return {
        "dry_run": dry_run,
        "num_bytes": sum(one.num_bytes for one in garbage),
        "garbage": [
            {
                "kind": one.kind,
                "name": one.name,
                "num_bytes": one.num_bytes,
                "age_seconds": one.age_seconds,
                "reason": one.reason,
            }
            for one in garbage
        ],
    }


def _needed(peers: Peers, running: Collection[str]) -> set[str]:
    """Digests of everything that records name, but for models that all pipelines which have them let go.

    Args:
        peers: the services.
        running: ids of pipelines whose journal does not yet name all that they use.
    """
    journals = list(peers.supervisor.ListReferences(ListReferencesRequest()))
    kept = {one.name for one in journals if not one.released}
    released = {one.name for one in journals if one.released} - kept
    lineage = list(peers.trainer_server.ListReferences(ListReferencesRequest()))
    kept |= {one.name for one in lineage if one.pipeline_id in running}
    released -= kept
    return kept | {one.name for one in lineage if not released & {one.name, one.with_model}}


def _checked(only: Sequence[str]) -> Sequence[str]:
    unknown = [kind for kind in only if kind not in KINDS]
    if unknown:
        raise InvalidInputError(f"--only {unknown[0]}: expected one of {', '.join(KINDS)}")
    return only or KINDS

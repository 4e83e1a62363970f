"""Which models pipelines keep, and removing those that none keeps any more.

A pipeline keeps what its ``model_storage.retention`` says: every model that its report names, or those of the last few
triggers that trained one. While it runs, others take it for one that keeps all. A model goes when no pipeline of the
journal keeps it; one that never was any pipeline's is none of our business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from modyn.core.config.model_storage import RetentionSection
from modyn.core.config.pipeline import PipelineConfig
from modyn.core.config.reader import load_pipeline_text
from modyn.core.errors import CancelledError, ConflictError, ModynError, NotFoundError
from modyn.proto.common_pb2 import Reference
from modyn.proto.storage_pb2 import DeleteModelRequest
from modyn.supervisor.context import RunContext
from modyn.supervisor.journal import UNFINISHED, Journal, PipelineRow, TrainedRow

MODEL, TRAINING_SET, SAMPLE_COLUMNS = "model", "training set", "sample columns"
"""Kinds of references."""

KEEP_ALL = RetentionSection()


@dataclass(frozen=True)
class Named:
    """What one pipeline's rows name.

    Attributes:
        row: of the pipeline.
        trained: its triggers that trained a model, in order.
        kept: digests of models that it keeps.
    """

    row: PipelineRow
    trained: Sequence[TrainedRow]
    kept: frozenset[str]

    @property
    def released(self) -> set[str]:
        """Digests of its models that it does not keep."""
        return {row.model for row in self.trained} - self.kept


class Retention:
    """Removes models of one pipeline while it runs, and at its end.

    Nothing is removed while something of the pipeline may still want it: with evaluation handlers, which may score any
    model on windows to come, only at the end; without, after each trigger. Nor is it while another pipeline runs on the
    same dataset, which may be about to reuse a model. What stays for such a reason goes at a later trigger, or with
    ``modyn-client gc``.
    """

    def __init__(self, run: RunContext) -> None:
        self._pipeline_id = run.pipeline_id
        self._dataset = run.config.data.dataset_id
        self._journal = run.journal
        self._peers = run.peers
        self._events = run.events
        section = run.config.model_storage
        self._removes = section is not None and not section.retention.keep_reported and not run.options.simulate
        self._keep_last = section.retention.keep_last if section is not None else None
        self._models: list[str] = []
        """Of the triggers so far that trained one."""
        handlers = run.config.evaluation.handlers if run.config.evaluation else ()
        self._is_evaluated = any(handler.execution_time != "manual" for handler in handlers)
        self._gone: set[str] = set()

    def after_trigger(self, model: str | None) -> None:
        """A trigger has been journaled.

        Args:
            model: that it trained.
        """
        if model is not None:
            self._models.append(model)
            self._gone.discard(model)  # it is there again
        if self._removes and not self._is_evaluated:
            self._apply()

    def at_end(self) -> None:
        """Everything is trained and evaluated."""
        if self._removes:
            self._apply()

    def _apply(self) -> None:
        if not (released := self._released()):
            return
        try:
            # Of others, only what those have that have one of these: the past of all may be long.
            everyone = pipelines_named(self._journal, having=released, besides=self._pipeline_id)
            others = [other.row for other in everyone if other.row.id != self._pipeline_id]
            if any(row.status in UNFINISHED and row.dataset == self._dataset for row in others):
                return
            kept = set().union(*(one.kept for one in everyone))
            self._remove([digest for digest in released if digest not in kept])
        except CancelledError:
            raise
        except ModynError as error:  # no reason to end a pipeline
            self._events.add(notice=f"model_storage.retention: older models could not be removed: {error.message}")

    def _released(self) -> list[str]:
        """What the pipeline does not keep itself and is not gone yet, newest first: a model goes before the whole one
        that it is stored as a difference from."""
        if self._keep_last is None:
            return []
        stay = self._gone.union(self._models[-self._keep_last :])
        return [digest for digest in dict.fromkeys(reversed(self._models)) if digest not in stay]

    def _remove(self, digests: Iterable[str]) -> None:
        for digest in digests:
            try:
                self._peers.storage.DeleteModel(DeleteModelRequest(digest=digest))
            except ConflictError:  # what is kept is stored as a difference from it
                continue
            except NotFoundError:
                pass
            self._gone.add(digest)


def pipelines_named(
    journal: Journal, *, having: Collection[str] | None = None, besides: int | None = None
) -> list[Named]:
    """What each pipeline's rows name, oldest pipeline first.

    Args:
        journal: of the pipelines.
        having, besides: whose triggers count, as of :meth:`Journal.trained`; of others only the initial models do.
    """
    trained: dict[int, list[TrainedRow]] = {}
    for row in journal.trained(having, besides):
        trained.setdefault(row.pipeline_id, []).append(row)
    return [
        Named(row, rows, frozenset(_kept(row, rows, is_running=row.status in UNFINISHED)))
        for row in journal.pipelines()
        for rows in (trained.get(row.id, []),)
    ]


def released_models(everyone: Iterable[Named]) -> set[str]:
    """Digests of models that no pipeline keeps."""
    pipelines = list(everyone)
    released = set().union(*(one.released for one in pipelines))
    return released - set().union(*(one.kept for one in pipelines))


def references(journal: Journal) -> Iterator[Reference]:
    """Everything that rows name, pipeline by pipeline."""
    everyone = pipelines_named(journal)
    released = released_models(everyone)
    for one in everyone:
        pipeline_id = str(one.row.id)
        for row in one.trained:
            yield Reference(kind=MODEL, name=row.model, released=row.model in released, pipeline_id=pipeline_id)
            yield Reference(kind=TRAINING_SET, name=row.training_set, pipeline_id=pipeline_id)
            if row.trained is not None:
                yield Reference(kind=SAMPLE_COLUMNS, name=row.trained, pipeline_id=pipeline_id)
        yield from (Reference(kind=MODEL, name=m, pipeline_id=pipeline_id) for m in _initial_models(one.row))


def _kept(row: PipelineRow, trained: Sequence[TrainedRow], *, is_running: bool) -> set[str]:
    retention = _retention(row)
    last = retention.keep_last
    kept = trained if is_running or retention.keep_reported or last is None else trained[-last:]
    return {one.model for one in kept} | set(_initial_models(row))


def _retention(row: PipelineRow) -> RetentionSection:
    config = _config(row.resolved_yaml) if "keep_last" in row.resolved_yaml else None
    return KEEP_ALL if config is None or config.model_storage is None else config.model_storage.retention


def _initial_models(row: PipelineRow) -> list[str]:
    """The model that a pipeline begins with, if that was trained here."""
    config = _config(row.resolved_yaml) if "pretrained" in row.resolved_yaml else None
    named = None if config is None else config.training.initial_model_id
    return [] if named is None else [named]


@lru_cache(maxsize=1024)
def _config(resolved_yaml: str) -> PipelineConfig | None:
    """None: it is of a release that wrote it otherwise, so nothing of that pipeline is removed."""
    try:
        return load_pipeline_text(resolved_yaml, "journal").config
    except ModynError:
        return None

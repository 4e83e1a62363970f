"""Which evaluation handlers a pipeline has: those of its YAML, and those added when it had ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from modyn.core.config.pipeline import (
    EvaluationDataset,
    EvaluationHandler,
    EvaluationSection,
    PipelineConfig,
    evaluation_datasets,
)
from modyn.core.errors import ConflictError
from modyn.supervisor.rows import HandlerRow

_HOW = ("training_latency", "labels", "label_delay", "confidence")
"""Keys of the evaluation section that decide what scores mean; the device does not."""


@dataclass(frozen=True)
class Extent:
    """How much of an evaluation dataset is looked at, so that a later evaluation lays the same windows.

    Attributes:
        end_key: samples below it.
        origin: event time from which windows are counted, Unix seconds; None: nothing was laid yet.
    """

    end_key: int
    origin: int | None = None

    @staticmethod
    def of_tree(tree: Mapping[str, Any]) -> Extent:
        """From what the journal has."""
        return Extent(tree["end_key"], tree["origin"])


@dataclass(frozen=True, eq=False)
class Known:
    """A handler with all that its scores depend on.

    Attributes:
        handler: as in YAML.
        config: of the pipeline, with the handler's evaluation section.
        extents: of its datasets, as far as they were laid down.
        is_own: it stands in the pipeline's YAML.
        added_at: Unix seconds; None: it does, or it is about to be added.
    """

    handler: EvaluationHandler
    config: PipelineConfig
    extents: Mapping[str, Extent]
    is_own: bool = False
    added_at: float | None = None

    @property
    def section(self) -> EvaluationSection:
        assert self.config.evaluation is not None, "there are no handlers without an evaluation section"
        return self.config.evaluation

    @cached_property
    def datasets(self) -> list[EvaluationDataset]:
        """Those that it looks at, resolved."""
        wanted = self.handler.datasets
        return [data for data in evaluation_datasets(self.config) if wanted is None or data.dataset_id in wanted]

    def definition(self) -> dict[str, Any]:
        """What decides its scores, as a plain tree."""
        handler = self.handler.model_dump(mode="json", exclude={"name", "execution_time", "datasets"})
        data = {data.dataset_id: data.model_dump(mode="json", exclude={"source"}) for data in self.datasets}
        return {"handler": handler, "datasets": data, **self.section.model_dump(mode="json", include=set(_HOW))}

    def row(self) -> HandlerRow:
        """What the journal keeps of it."""
        section = self.section
        return HandlerRow(
            name=self.handler.name,
            config=self.handler.model_dump(mode="json"),
            datasets=[data.model_dump(mode="json") for data in evaluation_datasets(self.config)],
            section=section.model_dump(mode="json", exclude={"handlers", "datasets"}),
            extents=extents_tree(self.extents),
        )


def known_handlers(
    config: PipelineConfig, extents: Mapping[str, Any] | None, added: Sequence[HandlerRow]
) -> dict[str, Known]:
    """All handlers of a pipeline by name, those of its YAML first.

    Args:
        config: of the pipeline.
        extents: of the datasets that its own handlers look at, as journaled.
        added: later.
    """
    own = config.evaluation.handlers if config.evaluation else []
    laid = extents_of(extents)
    known = {handler.name: Known(handler, config, laid, is_own=True) for handler in own}
    for row in added:
        section = {"handlers": [row.config], "datasets": row.datasets, **row.section}
        whole = PipelineConfig.model_validate({**config.model_dump(mode="json"), "evaluation": section})
        assert whole.evaluation is not None, "it was just put there"
        [handler] = whole.evaluation.handlers
        known[row.name] = Known(handler, whole, extents_of(row.extents), added_at=row.created_at)
    return known


def together(handlers: Sequence[Known]) -> Iterator[list[Known]]:
    """Handlers whose sections and extents are equal, so that one request scores all of them."""
    groups: list[list[Known]] = []
    for known in handlers:
        for group in groups:
            if _shares(group[0], known):
                group.append(known)
                break
        else:
            groups.append([known])
    return iter(groups)


def joined(group: Sequence[Known]) -> PipelineConfig:
    """The pipeline with a section that has just these handlers."""
    first = group[0]
    wanted = {data.dataset_id for known in group for data in known.datasets}  # others may be gone
    datasets = [data for data in evaluation_datasets(first.config) if data.dataset_id in wanted]
    section = first.section.model_copy(update={"handlers": [known.handler for known in group], "datasets": datasets})
    return first.config.model_copy(update={"evaluation": section})


def check_same(known: Known, new: Known) -> None:
    """
    Raises:
        ConflictError: a handler of this name exists and means something else; the message names the differences.
    """
    differences = list(_differences(known.definition(), new.definition()))
    if differences:
        shown = "".join(f"\n  {line}" for line in differences)
        raise ConflictError(
            f"handler {new.handler.name!r}: the pipeline has one of this name that is defined otherwise; give yours "
            f"another name{shown}"
        )


def extents_of(tree: Mapping[str, Any] | None) -> dict[str, Extent]:
    """From what the journal has."""
    return {name: Extent.of_tree(extent) for name, extent in (tree or {}).items()}


def extents_tree(extents: Mapping[str, Extent]) -> dict[str, Any]:
    """What the journal has of them."""
    return {name: vars(extent).copy() for name, extent in extents.items()}


def with_extents(known: Known, extents: Mapping[str, Extent]) -> Known:
    """The same handler; more is laid down."""
    return replace(known, extents=dict(extents))


def _shares(one: Known, other: Known) -> bool:
    same_section = one.section.model_copy(update={"handlers": [], "datasets": None}) == other.section.model_copy(
        update={"handlers": [], "datasets": None}
    )
    return (
        one.is_own == other.is_own
        and same_section
        and dict(one.extents) == dict(other.extents)
        and evaluation_datasets(one.config) == evaluation_datasets(other.config)
    )


def _differences(known: Any, new: Any, place: str = "") -> Iterator[str]:
    if isinstance(known, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*known, *new]):
            where = f"{place}.{key}" if place else str(key)
            if key not in known or key not in new:
                yield f"{where}: only {'the new one' if key in new else 'the one that is there'} has it"
            else:
                yield from _differences(known[key], new[key], where)
    elif known != new:
        yield f"{place}: {known!r} there, {new!r} now"

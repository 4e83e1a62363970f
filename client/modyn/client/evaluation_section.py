"""The ``evaluation`` section that ``modyn-client evaluate`` makes of its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modyn.client.shorthand import metrics, window_strategy
from modyn.core.config.data import DataSection
from modyn.core.config.source import read_document
from modyn.core.errors import InvalidInputError

_DECODING_KEYS = tuple(key for key in DataSection.model_fields if key not in ("dataset_id", "source"))
"""What of the ``data`` section says how samples become inputs of a model."""


@dataclass(frozen=True)
class Wanted:
    """What the options ask for.

    Attributes:
        windows: short forms of window strategies; none: those of the pipeline's handlers.
        metrics: short forms of metrics; none: those of the pipeline.
        models: ``composite``, ``active``, ``training`` or ``matrix``; None: as fits the windows.
        datasets: names of evaluation datasets; none: those of the pipeline.
        slices: payload columns whose values are scored separately.
        name: of the handler; None: what it is made of.
    """

    windows: Sequence[str] = ()
    metrics: Sequence[str] = ()
    models: str | None = None
    datasets: Sequence[str] = ()
    slices: Sequence[str] = ()
    name: str | None = None

    def __bool__(self) -> bool:
        return any((self.windows, self.metrics, self.models, self.datasets, self.slices, self.name))


def evaluation_section(wanted: Wanted, resolved_yaml: str) -> dict[str, Any]:
    """The keys of an ``evaluation`` section.

    Args:
        wanted: at least something.
        resolved_yaml: of the pipeline, every default filled in.

    Raises:
        InvalidInputError: an option cannot be understood, or the pipeline has no windows and none are given.
    """
    tree = read_document(resolved_yaml, "the pipeline").tree
    if wanted.windows:
        handlers = [_new_handler(text, wanted) for text in wanted.windows]
        if wanted.name is not None and len(handlers) > 1:  # the section would number them, but only in one call
            for index, handler in enumerate(handlers):
                handler["name"] = f"{wanted.name}-{index + 1}"
    else:
        handlers = _changed_handlers(wanted, (tree.get("evaluation") or {}).get("handlers") or [])
    section: dict[str, Any] = {"handlers": handlers}
    datasets = _datasets(wanted, tree)
    if datasets is not None:
        section["datasets"] = datasets
    return section


def _new_handler(text: str, wanted: Wanted) -> dict[str, Any]:
    name = wanted.name or _said(text.strip(), wanted)
    handler: dict[str, Any] = {"name": name, "execution_time": "manual", "strategy": window_strategy(text)}
    return handler | _choices(wanted)


def _changed_handlers(wanted: Wanted, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pipeline's own handlers with what was asked for instead."""
    if not own:
        raise InvalidInputError(
            "the pipeline has no evaluation handlers whose windows could be used; name some with --windows"
        )
    handlers: list[dict[str, Any]] = []
    for handler in own:
        name = wanted.name if wanted.name is not None and len(own) == 1 else _said(str(handler["name"]), wanted)
        if wanted.name is not None and len(own) > 1:
            name = f"{wanted.name}-{len(handlers) + 1}"
        handlers.append({**handler, "name": name, "execution_time": "manual", **_choices(wanted)})
    return handlers


def _choices(wanted: Wanted) -> dict[str, Any]:
    chosen: dict[str, Any] = {} if wanted.models is None else {"models": wanted.models}
    return chosen | ({"datasets": list(wanted.datasets)} if wanted.datasets else {})


def _said(windows: str, wanted: Wanted) -> str:
    """A name that another choice of options does not have: results are kept under it.

    >>> _said("1w", Wanted(models="matrix", metrics=["RocAuc,Accuracy"], slices=["region"]))
    '1w matrix RocAuc+Accuracy by region'
    """
    parts = [windows, *([wanted.models] if wanted.models else [])]
    parts += ["+".join(wanted.metrics).replace(",", "+")] if wanted.metrics else []
    parts += ["on " + "+".join(wanted.datasets)] if wanted.datasets else []
    parts += ["by " + "+".join(wanted.slices)] if wanted.slices else []
    return " ".join(parts)


def _datasets(wanted: Wanted, tree: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The datasets with what was asked for; None where those of the pipeline do."""
    if not (wanted.metrics or wanted.slices or wanted.datasets):
        return None
    data = tree["data"]
    own = (tree.get("evaluation") or {}).get("datasets") or [{"dataset_id": data["dataset_id"]}]
    known = {str(dataset["dataset_id"]): dict(dataset) for dataset in own}
    decoding = {key: data[key] for key in _DECODING_KEYS if data.get(key) is not None}
    chosen = [
        known.get(name, {"dataset_id": name, **decoding})  # its samples become inputs as those of the training do
        for name in wanted.datasets or known
    ]
    changes: dict[str, Any] = {"metrics": metrics(wanted.metrics)} if wanted.metrics else {}
    changes |= {"slices": list(wanted.slices)} if wanted.slices else {}
    return [dataset | changes for dataset in chosen]

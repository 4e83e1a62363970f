"""Stored models as modules in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.core.errors import InvalidInputError, NotFoundError
from modyn.core.peers import Peers
from modyn.proto.supervisor_pb2 import PipelineRef, Report
from modyn.proto.trainer_server_pb2 import ModelDescription

if TYPE_CHECKING:
    import torch

    from modyn.core.config.pipeline import DataSection, ModelSection


@dataclass(frozen=True)
class Origin:
    """What a model was trained from.

    Attributes:
        pipeline_id: whose sections these are; None: nobody knows.
        pipeline: its name, or an empty string.
        trigger_index: that has the model; None: nobody knows.
        model: how to build it.
        data: how samples become its inputs.
        code: folder of the pipeline's own code, or None.
    """

    pipeline_id: str | None
    pipeline: str
    trigger_index: int | None
    model: ModelSection
    data: DataSection
    code: str | None


def origin_of(
    peers: Peers, found: ModelDescription, model: Mapping[str, Any] | None, code: Path | str | None
) -> Origin:
    """Where a model came from: the newest pipeline that has it and is still known.

    Args:
        peers: of the server.
        found: the model.
        model: the ``model`` section, for models of pipelines that nobody knows; else that of the pipeline counts.
        code: folder of the user's code; by default where it was when the pipeline ran.

    Raises:
        InvalidInputError: no pipeline is known, and there is no section either.
    """
    from modyn.core.config.pipeline import DataSection, ModelSection
    from modyn.core.config.problems import parse_section
    from modyn.core.config.reader import load_pipeline_text

    folder = None if code is None else str(Path(code).absolute())
    given = None if model is None else parse_section(ModelSection, dict(model), "model")
    for use in reversed(found.uses):
        try:
            report = _report(peers, use.pipeline_id)
        except (NotFoundError, InvalidInputError):  # it was trained by something else than a pipeline
            continue
        config = load_pipeline_text(report.resolved_yaml, f"pipeline {use.pipeline_id}").require_runnable()
        root = report.code.root if report.code.HasField("root") else None
        return Origin(
            use.pipeline_id,
            config.pipeline.name,
            use.trigger_index,
            given or config.model,
            config.data,
            folder or root,
        )
    if given is None:
        raise InvalidInputError(
            f"model {found.model} was trained by no pipeline that is known here, so it is not known how to build it; "
            "give its model section as model={'id': …, 'config': {…}}"
        )
    return Origin(None, "", None, given, DataSection(dataset_id=found.dataset), folder)


def load_module(
    peers: Peers, found: ModelDescription, model: Mapping[str, Any] | None, code: Path | str | None
) -> torch.nn.Module:
    """See :meth:`modyn.client.Client.load_model`."""
    from modyn.models.building import build_model
    from modyn.models.weights import load
    from modyn.storage.reader import fetch_model

    origin = origin_of(peers, found, model, code)
    weights = fetch_model(peers.storage, found.model)
    module = build_model(origin.model, origin.code)
    load(module, weights)
    return module.eval()


def load_model(
    reference: str,
    *,
    state: Path | str = ".modyn",
    server: str | None = None,
    model: Mapping[str, Any] | None = None,
    code: Path | str | None = None,
) -> torch.nn.Module:
    """A trained model as a module in evaluation mode, on the CPU.

    >>> from modyn.client import load_model
    >>> model = load_model("3@latest")  # doctest: +SKIP

    Args:
        reference: as of :meth:`modyn.client.Client.model`.
        state: state directory, where no server is named.
        server: ``host:port`` or ``unix:path`` of a server.
        model, code: as of :meth:`modyn.client.Client.load_model`.

    Raises:
        NotFoundError: there is no such model or state directory.
        InvalidInputError: as of :meth:`modyn.client.Client.load_model`.
    """
    from modyn.client.connection import Target, connected
    from modyn.client.server import LINEAGE_SERVICES

    services = (*LINEAGE_SERVICES, "supervisor")
    target = Target(server, Path(state), None)
    with connected(target, what="load_model", services=services, joins="trainer_server") as client:
        return client.load_model(reference, model=model, code=code)


def _report(peers: Peers, pipeline_id: str) -> Report:
    chunks = peers.supervisor.GetReport(PipelineRef(id=pipeline_id))
    return Report.FromString(b"".join(chunk.data for chunk in chunks))

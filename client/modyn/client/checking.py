"""A check of a pipeline: one batch of real data through everything, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

from modyn.core.errors import InvalidInputError, JobFailedError
from modyn.core.peers import Peers
from modyn.proto.supervisor_pb2 import CheckedStep, SubmitPipelineRequest


def check_pipeline(
    peers: Peers, request: SubmitPipelineRequest, on_step: Callable[[CheckedStep], None] | None
) -> list[CheckedStep]:
    """See :meth:`modyn.client.Client.check`."""
    steps: list[CheckedStep] = []
    for step in peers.supervisor.CheckPipeline(request):
        steps.append(step)
        if on_step is not None:
            on_step(step)
        if step.HasField("error"):
            kind = InvalidInputError if step.error.input_error else JobFailedError
            raise kind(f"{step.what}: {step.error.message}")
    return steps

"""``torch.compile`` as the ``training.compile`` section says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from modyn.core.config.problems import nearest
from modyn.core.errors import InvalidInputError
from modyn.models.usercode import describe_error

if TYPE_CHECKING:
    from modyn.core.config.training import CompileSection

KEY = "training.compile"

MESSAGE_CHARS = 600
"""How much of a compiler's message is shown; they can be pages long."""


def compiled(network: nn.Module, section: CompileSection) -> nn.Module:
    """A module that compiles itself with its first batch. Parameters and their names are those of ``network``.

    Raises:
        InvalidInputError: there is no such backend.
    """
    backends = torch._dynamo.list_backends(None)
    if section.backend not in backends:
        raise InvalidInputError(
            f"{KEY}.backend: {section.backend!r} is not known{nearest(section.backend, backends)}; expected one of "
            f"{', '.join(backends)}"
        )
    if next(network.parameters()).device.type == "cpu" and section.backend == "inductor":
        # Its worker processes take longer to start than the few C++ kernels of a model take one after the other.
        import torch._inductor.config as inductor

        inductor.compile_threads = 1
    mode = None if section.mode == "default" else section.mode
    if section.backend != "inductor" and mode is not None:
        raise InvalidInputError(
            f"{KEY}.mode: {mode!r} is for the backend inductor; leave it out with {section.backend!r}"
        )
    return cast(
        "nn.Module",
        torch.compile(
            network, mode=mode, backend=section.backend, dynamic=section.dynamic, fullgraph=section.fullgraph
        ),
    )


def compiler_error(error: Exception, model: nn.Module, inputs: Any) -> InvalidInputError | None:
    """What to tell the user of an error that the compiler raised; None if the model does not run without it either.

    Args:
        model: not compiled.
        inputs: on which it failed when it was compiled.
    """
    from torch._dynamo.exc import TorchDynamoException

    if not isinstance(error, TorchDynamoException):
        return None
    try:
        with torch.no_grad():
            model(inputs)
    except Exception:  # noqa: BLE001 - whoever asks says what it is
        return None
    text = " ".join(describe_error(error).split())[:MESSAGE_CHARS]
    return InvalidInputError(
        f"{KEY}: torch.compile failed: {text}; the backend inductor needs a C++ compiler (g++) on the trainer server; "
        "leave compile out to train without it"
    )

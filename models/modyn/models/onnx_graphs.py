"""Models as ONNX graphs with a batch of any size, compared with the module they came from."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import Any

import numpy as np
import torch

from modyn.core.errors import InvalidInputError, NotAvailableError
from modyn.models.exported import INPUT, OUTPUT, named
from modyn.models.usercode import describe_error

TOLERANCE = 1e-3
"""Largest difference, absolute or relative, between what graph and module answer."""

TRIED_BATCHES = (1, 3)
"""Sizes of the batches that both are asked; none is the one the graph was traced with."""

_TRACED_BATCH = 2


def to_onnx(model: torch.nn.Module, inputs: Any) -> bytes:
    """The graph as a serialised ``ModelProto``.

    Args:
        model: in evaluation mode.
        inputs: of one sample: a tensor [1, …] or several by name. They become graph inputs called as in
            :func:`modyn.models.exported.named`, with dots as underscores.

    Raises:
        NotAvailableError: the libraries are not installed.
        InvalidInputError: torch cannot export the model, or the graph answers something else.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise NotAvailableError(f"ONNX export needs {' and '.join(missing)}: pip install 'modyn[onnx]'")
    try:
        graph = _traced(model, inputs)
    except Exception as error:
        raise _refused(error) from error
    _compare(model, inputs, graph)
    return graph


def _traced(model: torch.nn.Module, inputs: Any) -> bytes:
    batch = _repeated(inputs, _TRACED_BATCH)
    free = {0: torch.export.Dim.DYNAMIC}
    shapes = dict.fromkeys(batch, free) if isinstance(batch, dict) else free
    names = [name.replace(".", "_") for name in named(inputs, INPUT)]
    with torch.inference_mode():
        outputs = [name.replace(".", "_") for name in named(model(batch), OUTPUT)]
    traced = torch.export.export(model, (batch,), dynamic_shapes=(shapes,))
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
        program = torch.onnx.export(traced, (), input_names=names, output_names=outputs, verbose=False)
    assert program is not None  # that is how the exporter answers when it writes no file
    serialised: bytes = program.model_proto.SerializeToString()
    return serialised


def _compare(model: torch.nn.Module, inputs: Any, graph: bytes) -> None:
    """
    Raises:
        InvalidInputError: the reference evaluator of ONNX answers something else than the module.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(onnx.load_from_string(graph))
        for size in TRIED_BATCHES:
            batch = _repeated(inputs, size)
            feeds = {name.replace(".", "_"): part.numpy() for name, part in named(batch, INPUT).items()}
            answers = evaluator.run(None, {name: feeds[name] for name in evaluator.input_names})
            with torch.inference_mode():
                expected = named(model(batch), OUTPUT)
            for (name, tensor), answer in zip(expected.items(), answers, strict=True):
                _check_close(name, tensor.numpy(), np.asarray(answer))
    except InvalidInputError:
        raise
    except Exception as error:
        raise _refused(error) from error


def _check_close(name: str, expected: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> None:
    if expected.shape == answer.shape and np.allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        return
    raise InvalidInputError(
        f"the ONNX graph answers another {name} than the model (shape {list(answer.shape)}, expected "
        f"{list(expected.shape)}), so it is not written; leave --onnx out"
    )


def _repeated(inputs: Any, count: int) -> Any:
    """A batch of one sample many times."""
    if isinstance(inputs, dict):
        return {name: _repeated(part, count) for name, part in inputs.items()}
    return torch.cat([inputs] * count)


def _refused(error: Exception) -> InvalidInputError:
    cause: BaseException = error
    while cause.__cause__ is not None:  # the exporter wraps what it tripped over several times
        cause = cause.__cause__
    return InvalidInputError(
        f"the model cannot be exported to ONNX: {describe_error(cause).splitlines()[0]}; leave --onnx out, or "
        "write its forward pass in operations that torch.onnx.export knows"
    )

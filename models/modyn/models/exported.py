"""A model as a folder that stands on its own: ``model = load(folder)``. No service, no connection is needed.

What ``modyn-client models download`` writes:

| file | what |
|---|---|
| ``modyn-model.json`` | model and data sections, signature, versions, where the model came from |
| ``model.safetensors`` | the weights |
| ``code/`` | the user's own code, with all that it imports from the same folder |
| ``example.arrow`` | one sample's payload, as the parser gets it |
| ``example.safetensors`` | the model's inputs for that sample, and what the model answered |
| ``model.onnx`` | the model as an ONNX graph, if asked for |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import CorruptDataError, InvalidInputError, NotFoundError
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.weights import load as load_weights

if TYPE_CHECKING:
    import torch

    Tensors = torch.Tensor | dict[str, torch.Tensor]

FORMAT_VERSION = 1

DESCRIPTION = "modyn-model.json"
WEIGHTS = "model.safetensors"
CODE = "code"
SAMPLE = "example.arrow"
EXAMPLE = "example.safetensors"
ONNX = "model.onnx"

INPUT, OUTPUT = "input", "output"
"""What the only input and output are called; of several, each name follows after a dot."""

TOLERANCE = 1e-4
"""How far answers may be from the recorded ones: other machines and thread counts add up in another order."""


def load(folder: Path | str) -> torch.nn.Module:
    """The model of an exported folder, on the CPU and in evaluation mode.

    Args:
        folder: as ``modyn-client models download`` wrote it. Code in it is run.

    Raises:
        NotFoundError: it is no such folder.
        CorruptDataError: a file of it is damaged.
        InvalidInputError: a library that its code needs is missing, or of another version that does not fit.
    """
    folder = Path(folder)
    model = build_model(_section(ModelSection, describe(folder), "model"), _code_root(folder))
    load_weights(model, _read(folder / WEIGHTS))
    return model.eval()


def load_decoder(folder: Path | str) -> Decoder:
    """What makes model inputs of payload columns: ``load_decoder(folder).inputs({"x": array, …})``.

    Raises:
        ModynError: as of :func:`load`.
    """
    folder = Path(folder)
    return Decoder(_section(DataSection, describe(folder), "data"), _code_root(folder))


def describe(folder: Path | str) -> dict[str, Any]:
    """The content of ``modyn-model.json``.

    Raises:
        NotFoundError: it is not there.
        InvalidInputError: a newer release wrote it.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise NotFoundError(f"{folder}: there is no {DESCRIPTION}; expected a folder of `modyn-client models download`")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptDataError(f"{path}: no JSON ({error}); download the model again") from error
    if document.get("format_version") != FORMAT_VERSION:
        raise InvalidInputError(
            f"{path}: format_version {document.get('format_version')!r}; this release reads {FORMAT_VERSION}, install "
            f"modyn {document.get('versions', {}).get('modyn', 'in the version that wrote it')}"
        )
    return document


@dataclass(frozen=True)
class Example:
    """One sample and what the model answered when it was exported.

    Attributes:
        inputs: of the model, with a batch dimension of 1.
        outputs: by name; the only one is called ``output``.
    """

    inputs: Tensors
    outputs: dict[str, torch.Tensor]


def load_example(folder: Path | str) -> Example:
    """The recorded example.

    Raises:
        NotFoundError: it is not there.
        CorruptDataError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    path = Path(folder) / EXAMPLE
    try:
        tensors = load_tensors(_read(path))
    except SafetensorError as error:
        raise CorruptDataError(f"{path}: no safetensors file ({error}); download the model again") from error
    prefix = f"{INPUT}."
    several = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    outputs = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] == OUTPUT}
    return Example(tensors.get(INPUT, several), outputs)


def check(folder: Path | str, model: torch.nn.Module | None = None) -> None:
    """Runs the example and compares the answer with the recorded one.

    Args:
        folder: of the export.
        model: loaded from it already; by default it is loaded.

    Raises:
        CorruptDataError: the answers differ by more than :data:`TOLERANCE`.
    """
    import torch

    example = load_example(folder)
    module = model if model is not None else load(folder)
    with torch.inference_mode():
        answered = named(module(example.inputs), OUTPUT)
    for name, expected in example.outputs.items():
        got = answered.get(name)
        if got is None or got.shape != expected.shape:
            shape = None if got is None else list(got.shape)
            raise CorruptDataError(f"{folder}: {name} has shape {shape}; expected {list(expected.shape)}")
        if not torch.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            most = (got.double() - expected.double()).abs().max().item()
            raise CorruptDataError(f"{folder}: {name} differs from what was recorded by up to {most:g}")


def named(value: Any, name: str) -> dict[str, torch.Tensor]:
    """All tensors of a model's inputs or outputs by name: ``name`` itself, or with the place after a dot.

    >>> import torch
    >>> list(named({"ids": torch.zeros(1), "mask": torch.zeros(1)}, "input"))
    ['input.ids', 'input.mask']

    Raises:
        InvalidInputError: there is something else than tensors in it.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: tensor for place, part in parts for key, tensor in named(part, f"{name}.{place}").items()}
    raise InvalidInputError(f"the model's {name} is a {type(value).__name__}; expected tensors")


def _section(kind: Any, document: dict[str, Any], name: str) -> Any:
    return parse_section(kind, document.get(name), name)


def _code_root(folder: Path) -> str | None:
    code = folder / CODE
    return str(code.absolute()) if code.is_dir() else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: there is no such file; download the model again") from None

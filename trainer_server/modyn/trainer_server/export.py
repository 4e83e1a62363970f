"""The job behind an export: a model, its code and an example as files (see ``modyn.models.exported``)."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import save

from modyn.core.arrow import MESSAGE_BYTES, slices
from modyn.core.config.pipeline import DataSection, ModelSection
from modyn.core.config.problems import parse_section
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.keysets import KeySet
from modyn.core.randomness import Purpose
from modyn.core.rpc import connect
from modyn.core.values import from_value
from modyn.core.versions import package_version
from modyn.models import exported
from modyn.models.building import build_model
from modyn.models.decoding import Decoder
from modyn.models.onnx_graphs import to_onnx
from modyn.models.shapes import misfit
from modyn.models.usercode import OwnCode, own_code
from modyn.models.weights import load
from modyn.proto.storage_pb2_grpc import StorageStub
from modyn.proto.trainer_server_pb2 import ExportedPiece, ExportJob, ExportModelRequest
from modyn.storage.reader import SampleBatch, fetch_model, read_samples
from modyn.trainer_server.progress import Emit
from modyn.trainer_server.runtime import configure, seed_everything

_LOADER = '''\
"""Loads the model of this folder and runs its example. Needs the package `modyn` (for its model and parser code)."""

from pathlib import Path

from modyn.models.exported import check, load, load_decoder

FOLDER = Path(__file__).resolve().parent

model = load(FOLDER)  # a torch.nn.Module in evaluation mode
decoder = load_decoder(FOLDER)  # decoder.inputs({column: pyarrow array}) makes its inputs

if __name__ == "__main__":
    check(FOLDER, model)
    print(f"{type(model).__name__} answers its example as it did when it was exported")
'''


def run(payload: bytes, emit: Emit) -> None:
    """Entry point: exports what a serialised :class:`ExportJob` says and emits :class:`ExportedPiece` messages.

    Raises:
        ModynError: it cannot be exported, for the user.
    """
    job = ExportJob.FromString(payload)
    for piece in pieces(job.request, job.storage_address):
        emit(piece.SerializeToString())


def pieces(request: ExportModelRequest, storage_address: str) -> Iterator[ExportedPiece]:
    """The files of an export, one after the other; notices in between."""
    section = parse_section(ModelSection, from_value(request.model_section), "model")
    data = parse_section(DataSection, from_value(request.data_section), "data")
    root = request.code.root if request.code.HasField("root") else None
    configure("cpu", 1)
    decoder = Decoder(data, root)
    with connect(storage_address) as channel:
        stub = StorageStub(channel)
        weights = fetch_model(stub, request.model)
        sample = _sample(stub, request, decoder)
    seed_everything(0, Purpose.MODEL_INIT, 0)  # whatever is random in a model and not part of its weights
    model = build_model(section, root)
    load(model, weights)
    model.eval()
    inputs = decoder.inputs(sample.columns)
    outputs = _answer(model, inputs)
    code = own_code(section, data, root)
    if code.problem is not None:
        notice = f"the exported code may need more than is exported with it: {code.problem}"
        yield ExportedPiece(notice=notice)
    graph = to_onnx(model, inputs) if request.onnx else None

    yield from _file(exported.WEIGHTS, weights)
    named_inputs = exported.named(inputs, exported.INPUT)
    named_outputs = exported.named(outputs, exported.OUTPUT)
    tensors = {name: tensor.contiguous().clone() for name, tensor in (named_inputs | named_outputs).items()}
    yield from _file(exported.EXAMPLE, save(tensors))
    yield from _file(exported.SAMPLE, _arrow_file(sample))
    for path, source in sorted(code.files.items()):
        yield from _file(f"{exported.CODE}/{path}", source.read_bytes())
    if graph is not None:
        yield from _file(exported.ONNX, graph)
    document = _document(request, section, data, code)
    document["signature"] = {
        "inputs": [_signature(name, tensor) for name, tensor in named_inputs.items()],
        "outputs": [_signature(name, tensor) for name, tensor in named_outputs.items()],
    }
    yield from _file("load_model.py", _LOADER.encode())
    yield from _file("README.md", _readme(document, onnx=graph is not None).encode())
    yield from _file(exported.DESCRIPTION, (json.dumps(document, indent=2) + "\n").encode())


def _sample(stub: StorageStub, request: ExportModelRequest, decoder: Decoder) -> SampleBatch:
    keys = KeySet.from_array([request.key])
    for batch in read_samples(stub, request.dataset, keys, batch_size=1, columns=decoder.columns):
        if len(batch):
            return batch
    raise InvalidInputError(
        f"the sample with key {request.key} of dataset {request.dataset!r}, which was to be the example, was deleted; "
        "name another"
    )


def _answer(model: torch.nn.Module, inputs: Any) -> Any:
    try:
        with torch.inference_mode():
            return model(inputs)
    except ModynError:
        raise
    except Exception as error:
        raise misfit(model, inputs, error) from error


def _arrow_file(sample: SampleBatch) -> bytes:
    """The payload columns of a sample as an Arrow IPC file of one row, with its key."""
    batch = pa.RecordBatch.from_arrays(
        [pa.array(sample.keys), *sample.columns.values()], names=["key", *sample.columns]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _document(request: ExportModelRequest, section: ModelSection, data: DataSection, code: OwnCode) -> dict[str, Any]:
    return {
        "format_version": exported.FORMAT_VERSION,
        "model": section.model_dump(mode="json"),
        "data": data.model_dump(mode="json", exclude={"source"}),
        "code": {"reference": section.id, "files": sorted(code.files), "requires": code.distributions},
        "versions": {
            "modyn": package_version(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "digest": request.model,
        "about": from_value(request.about),
    }


def _signature(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """A tensor with a batch of any size."""
    return {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": [None, *tensor.shape[1:]]}


def _readme(document: dict[str, Any], *, onnx: bool) -> str:
    def line(part: dict[str, Any]) -> str:
        shape = ", ".join("n" if size is None else str(size) for size in part["shape"])
        return f"- `{part['name']}`: {part['dtype']} [{shape}]"

    signature = document["signature"]
    code = " Loading runs the code in `code/`." if document["code"]["files"] else ""
    graph = "\n`model.onnx` is the same model as an ONNX graph; dots in names are underscores there.\n" if onnx else ""
    inputs = "\n".join(line(part) for part in signature["inputs"])
    outputs = "\n".join(line(part) for part in signature["outputs"])
    return f"""# {document["model"]["id"]}

A trained model, `{document["digest"]}`. It needs Python with torch and `modyn` {document["versions"]["modyn"]}, and no
server:

```python
from modyn.models.exported import load

model = load("this folder")  # a torch.nn.Module in evaluation mode
```

`python load_model.py` does so and compares the answer to the example with the recorded one.{code}

Inputs:

{inputs}

Outputs:

{outputs}

`modyn-model.json` has the model and data sections of its pipeline, versions, and where the model came from;
`example.arrow` is one real sample of its data, `example.safetensors` the inputs made of it and the answer.
{graph}"""


def _file(path: str, content: bytes) -> Iterator[ExportedPiece]:
    parts = list(slices(len(content), MESSAGE_BYTES)) or [slice(0, 0)]
    for number, part in enumerate(parts):
        yield ExportedPiece(path=path if number == 0 else "", data=content[part])

"""Telling a client on the same host where samples lie, so that it reads the files itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from modyn.core.arrow import encode_batch
from modyn.core.keysets import KeySet
from modyn.proto import storage_pb2
from modyn.storage.columns import columns_of_keys
from modyn.storage.samples import payload_names
from modyn.storage.view import Span, View, distinct

HOST_FILE = ".host"


class HostToken:
    """A file with a random name of this folder: who reads the same in it reads the same files."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / HOST_FILE
        try:
            self.token = self.path.read_text()
        except OSError:
            self.token = ""
        if not self.token:
            self.token = uuid.uuid4().hex
            temporary = folder / f"{HOST_FILE}-{self.token}"
            try:
                temporary.write_text(self.token)
                os.replace(temporary, self.path)
                self.token = self.path.read_text()  # another process may have been faster
            except OSError:  # not ours to write: nobody reads the files then
                self.token = ""


def locations(view: View, keys: KeySet, columns: Sequence[str], host: HostToken) -> storage_pb2.SampleLocations:
    """Where the samples of existing keys lie, as far as they are not deleted.

    Raises:
        InvalidInputError: there is no such payload column.
    """
    snapshot = view.snapshot
    payload_names(view, columns)
    array = keys.to_array()
    left = view.without_deleted(array)
    answer = storage_pb2.SampleLocations(
        host_file=str(host.path),
        host_token=host.token,
        segments_folder=str(view.folder),
        label_schema=pa.schema([("label", snapshot.label_type)]).serialize().to_pybytes(),
        keys=KeySet.from_array(left).to_proto() if len(left) < len(array) else None,
    )
    if snapshot.schema.payload is not None:
        answer.payload_schema = snapshot.schema.payload.serialize().to_pybytes()
    for index in distinct(snapshot.locate(left)):
        info = snapshot.segments[index]
        answer.segments.add(
            first_key=info.first_key,
            name=info.name,
            num_samples=info.num_samples,
            payload_bytes=info.payload_bytes,
            columns_bytes=info.columns_bytes,
            digest=info.digest,
            kind=info.kind,
            format_version=info.format_version,
        )
    if view.has_late_labels and len(left):
        column = storage_pb2.ReadColumnsRequest.LABEL
        found = columns_of_keys(view, KeySet(array=left), [column], end_key=snapshot.end_key, arrival=Span())
        answer.labels = encode_batch(pa.concat_batches(list(found)).select(["label"]))
    return answer

"""The selector: trigger training sets, selected by policy, kept as immutable files."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np

from modyn.core.arrow import batch_of, encode_batch, rows_per_message, slices
from modyn.core.catalog import Catalog
from modyn.core.config.problems import parse_plugin
from modyn.core.errors import CancelledError, InvalidInputError
from modyn.core.keysets import KeySet, ranges_to_proto
from modyn.core.peers import Peers
from modyn.core.plugins.selection import SELECTION_POLICIES
from modyn.core.rpc import as_arrow_messages
from modyn.core.state import StateDirectory
from modyn.core.values import from_value
from modyn.proto import common_pb2, selector_pb2
from modyn.proto.common_pb2 import ArrowMessage, CollectGarbageRequest, Garbage
from modyn.proto.selector_pb2_grpc import add_SelectorServicer_to_server
from modyn.selector.catalog import SelectorCatalog
from modyn.selector.garbage import collect
from modyn.selector.keyfiles import KeyFiles
from modyn.selector.labels import labels_of
from modyn.selector.lineage import find_training_sets
from modyn.selector.sample_columns import SampleColumnFiles, SampleColumnsRpcs
from modyn.selector.sampling import part
from modyn.selector.selecting import Selecting, StoredTrainingSet, TriggerRequest

BYTES_PER_ROW = 12  # an int64 key and a float32 weight

MAX_RANGES_IN_REPLY = 100_000
"""A training set of more ranges is only to be had through ``ReadTrainingSet``: a message has a largest size."""


class SelectorService(SampleColumnsRpcs):
    """Creates and serves trigger training sets, and keeps columns with entries about samples."""

    def __init__(self, state: StateDirectory, catalog: Catalog, peers: Peers) -> None:
        files = KeyFiles(state.folder("training_sets"))
        self._catalog, self._files = SelectorCatalog(catalog), files
        self.sample_columns = SampleColumnFiles(state.folder("sample_columns"))
        self._selecting = Selecting(self._catalog, files, peers)

    def add_to(self, server: grpc.Server) -> None:
        add_SelectorServicer_to_server(self, server)

    def close(self) -> None:
        """Nothing to release: files and rows are durable when a call returns."""

    def CreateTrainingSet(
        self, request_iterator: Iterator[selector_pb2.CreateTrainingSetRequest], context: grpc.ServicerContext
    ) -> selector_pb2.TrainingSet:
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInputError("CreateTrainingSet: expected a header as the first message")
        chunks = [KeySet.from_proto(_new_data(message)) for message in request_iterator]
        if not context.is_active():  # the stream of a caller that went away may look as if it had ended
            raise CancelledError("the caller of CreateTrainingSet went away; nothing was selected")
        return _reply(self._selecting.create(_parse_header(first.header, KeySet.concat(chunks))))

    def DescribeTrainingSet(
        self, request: selector_pb2.DescribeTrainingSetRequest, context: grpc.ServicerContext
    ) -> selector_pb2.TrainingSet:
        return _reply(self._selecting.describe(request.digest))

    def ReadTrainingSet(
        self, request: selector_pb2.ReadTrainingSetRequest, context: grpc.ServicerContext
    ) -> Iterator[ArrowMessage]:
        count = request.count if request.HasField("count") else None
        return as_arrow_messages(self._read(request.digest, request.offset, count))

    def FindTrainingSets(
        self, request_iterator: Iterator[selector_pb2.FindTrainingSetsRequest], context: grpc.ServicerContext
    ) -> Iterator[selector_pb2.FoundTrainingSet]:
        dataset, chunks = "", []
        for message in request_iterator:
            dataset = dataset or message.dataset
            chunks.append(KeySet.from_proto(message.keys).to_array())
        if not dataset:
            raise InvalidInputError("FindTrainingSets: the first message names no dataset")
        yield from find_training_sets(self._catalog, self._files, dataset, np.concatenate(chunks))

    def CollectSelectionGarbage(
        self, request: CollectGarbageRequest, context: grpc.ServicerContext
    ) -> Iterator[Garbage]:
        return collect(self._catalog, self._files, self.sample_columns, request)

    def _read(self, digest: str, offset: int, count: int | None) -> Iterator[bytes]:
        content = self._selecting.content(digest)
        total = len(content.keys)
        stop = total if count is None else offset + count
        if offset < 0 or stop < offset or stop > total:
            raise InvalidInputError(
                f"training set {digest} has {total} samples; cannot read {'all' if count is None else count} "
                f"from position {offset}"
            )
        for rows in slices(stop - offset, rows_per_message(BYTES_PER_ROW)):
            here = slice(offset + rows.start, offset + rows.stop)
            keys = part(content.keys, here.start, here.stop).to_array()
            weights = content.weights[here] if content.weights is not None else np.ones(len(keys), dtype=np.float32)
            yield encode_batch(batch_of(key=keys, weight=weights))


def _new_data(message: selector_pb2.CreateTrainingSetRequest) -> common_pb2.KeySet:
    if message.WhichOneof("part") != "new_data":
        raise InvalidInputError("CreateTrainingSet: expected one header, then only new_data")
    return message.new_data


def _parse_header(header: selector_pb2.TrainingSetHeader, new_data: KeySet) -> TriggerRequest:
    if not header.pipeline_id or not header.dataset:
        raise InvalidInputError("CreateTrainingSet: the header has no pipeline_id or no dataset")
    if header.trigger_index < 0:
        raise InvalidInputError(f"trigger_index {header.trigger_index}: expected 0 or more")
    if header.seed < 0:
        raise InvalidInputError(f"seed {header.seed}: expected 0 or more")
    tree = from_value(header.selection)
    if not isinstance(tree, dict):
        raise InvalidInputError("CreateTrainingSet: selection is missing; expected a selection_strategy section")
    return TriggerRequest(
        pipeline_id=header.pipeline_id,
        trigger_index=header.trigger_index,
        dataset=header.dataset,
        policy=parse_plugin(SELECTION_POLICIES, tree, "selection_strategy"),
        seed=header.seed,
        new_data=new_data,
        last_timestamp=header.last_timestamp if header.HasField("last_timestamp") else None,
        labels=header.labels if header.HasField("labels") else None,
    )


def _reply(stored: StoredTrainingSet) -> selector_pb2.TrainingSet:
    row, trigger, content = stored.row, stored.trigger, stored.content
    reply = selector_pb2.TrainingSet(
        digest=row.digest,
        dataset=row.dataset,
        num_samples=row.num_samples,
        num_new=trigger.num_new,
        num_unlabelled=trigger.num_unlabelled,
        has_weights=row.has_weights,
        content_digest=stored.content_digest,
        seconds=trigger.seconds,
        labels=labels_of(row),
        keys_digest=row.key_file,
    )
    ranges = content.keys.ranges
    if ranges is not None and len(ranges) <= MAX_RANGES_IN_REPLY and content.weights is None:
        reply.ranges.CopyFrom(ranges_to_proto(ranges))
    return reply

"""Stored models."""

from __future__ import annotations

import threading

import pytest

from modyn.core.digests import digest_bytes
from modyn.core.errors import CorruptDataError, InvalidInputError, NotFoundError
from modyn.proto.storage_pb2 import FetchModelRequest, ModelChunk
from modyn.storage.reader import fetch_model, store_model
from tests.storage.support import StorageServer

MODEL = bytes(range(256)) * 12_345


def test_a_model_is_found_by_the_digest_of_its_bytes(storage: StorageServer) -> None:
    digest = store_model(storage.stub, MODEL)
    assert digest == digest_bytes(MODEL) == store_model(storage.stub, MODEL)
    storage.restart()
    assert fetch_model(storage.stub, digest) == MODEL
    assert storage.stub.DescribeModel(FetchModelRequest(digest=digest)).num_bytes == len(MODEL)
    assert len(list(storage.state.folder("models").iterdir())) == 1


def test_models_are_stored_by_many_at_once(storage: StorageServer) -> None:
    models = [MODEL + bytes([i % 3]) for i in range(9)]
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda m=m: found.append(fetch_model(storage.stub, store_model(storage.stub, m))))
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(models)
    assert len(list(storage.state.folder("models").iterdir())) == 3


@pytest.mark.parametrize("digest", ["", "../../catalog.db", "A" * 40])
def test_wrong_digests_are_refused(storage: StorageServer, digest: str) -> None:
    with pytest.raises(InvalidInputError, match="40 hexadecimal digits"):
        fetch_model(storage.stub, digest)


def test_unknown_and_empty_models_are_refused(storage: StorageServer) -> None:
    with pytest.raises(NotFoundError, match="no model with digest 0000"):
        fetch_model(storage.stub, "0" * 40)
    with pytest.raises(NotFoundError):
        storage.stub.DescribeModel(FetchModelRequest(digest="0" * 40))
    with pytest.raises(InvalidInputError, match="has no bytes"):
        storage.stub.StoreModel(iter([ModelChunk()]))
    assert not list(storage.state.folder("models").iterdir())


def test_a_damaged_model_is_noticed(storage: StorageServer) -> None:
    digest = store_model(storage.stub, MODEL)
    [path] = storage.state.folder("models").iterdir()
    path.write_bytes(MODEL[:-1] + b"?")
    with pytest.raises(CorruptDataError, match=str(path)):
        fetch_model(storage.stub, digest)
    assert store_model(storage.stub, MODEL) == digest, "storing it again repairs it"
    assert fetch_model(storage.stub, digest) == MODEL

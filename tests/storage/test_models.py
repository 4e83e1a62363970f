"""Stored models."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from modyn.core.digests import digest_bytes
from modyn.core.errors import ConflictError, CorruptDataError, InvalidInputError, NotFoundError
from modyn.core.state import StateDirectory
from modyn.proto.common_pb2 import CollectGarbageRequest
from modyn.proto.storage_pb2 import (
    DeleteModelRequest,
    FetchModelRequest,
    ListStoredModelsRequest,
    ModelChunk,
    StoredModel,
)
from modyn.storage.model_store import ModelStore
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


def weights(seed: int, *, step: float = 1e-4) -> bytes:
    """A model that differs a little from those of other seeds."""
    base = np.random.default_rng(0).normal(size=20_000)
    moved = base * (1 + step * np.random.default_rng(seed).normal(size=base.shape))
    return save({"w": moved.astype(np.float32)})


def chain(storage: StorageServer, count: int, interval: int | None = None) -> list[str]:
    """Models each of which was trained from the one before."""
    digests: list[str] = []
    for seed in range(count):
        parent = digests[-1] if digests else None
        digests.append(store_model(storage.stub, weights(seed), parent, interval))
    return digests


def described(storage: StorageServer, digest: str) -> StoredModel:
    return storage.stub.DescribeModel(FetchModelRequest(digest=digest))


@pytest.mark.parametrize(
    ("interval", "positions"),
    [(None, [0, 1, 2, 3, 4, 5]), (1, [0, 0, 0, 0, 0, 0]), (2, [0, 1, 0, 1, 0, 1]), (3, [0, 1, 2, 0, 1, 2])],
)
def test_every_so_many_models_of_a_chain_are_whole(
    storage: StorageServer, interval: int | None, positions: list[int]
) -> None:
    digests = chain(storage, 6, interval)
    models = [described(storage, digest) for digest in digests]
    assert [model.chain_position for model in models] == positions
    for index, model in enumerate(models):
        whole = index - positions[index]
        assert model.delta_of == ("" if whole == index else digests[whole]), "always the last whole one"
        assert model.num_bytes == len(weights(index))
        assert (model.stored_bytes < 0.7 * model.num_bytes) == (whole != index)
    storage.restart()
    assert [fetch_model(storage.stub, digest) for digest in digests] == [weights(seed) for seed in range(6)]
    assert sorted(digests) == [model.digest for model in storage.stub.ListStoredModels(ListStoredModelsRequest())]


def test_what_cannot_be_a_difference_is_whole(storage: StorageServer) -> None:
    first = store_model(storage.stub, weights(0))
    noise = save({"w": np.random.default_rng(9).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)})
    other = save({"w": np.zeros(7, np.float32)})
    for data, parent in ((noise, first), (other, first), (weights(1), "0" * 40), (MODEL, first), (weights(2), "?")):
        if parent == "?":
            with pytest.raises(InvalidInputError, match="40 hexadecimal digits"):
                store_model(storage.stub, data, parent)
            continue
        digest = store_model(storage.stub, data, parent)
        assert described(storage, digest).chain_position == 0
        assert fetch_model(storage.stub, digest) == data
    with pytest.raises(InvalidInputError, match="full_model_interval 0"):
        store_model(storage.stub, weights(3), first, 0)


def test_a_stored_model_keeps_its_form_and_a_base_is_never_a_difference(storage: StorageServer) -> None:
    first, second = chain(storage, 2)
    assert store_model(storage.stub, weights(0), second) == first
    assert described(storage, first).chain_position == 0
    assert store_model(storage.stub, weights(1)) == second
    assert described(storage, second).delta_of == first
    assert len(list(storage.state.folder("models").iterdir())) == 2


def test_damage_names_the_file_and_storing_again_repairs_it(storage: StorageServer) -> None:
    first, second = chain(storage, 2)
    folder = storage.state.folder("models")
    delta, base = folder / f"{second}.delta", folder / f"{first}.safetensors"
    intact = delta.read_bytes()
    delta.write_bytes(intact[:-30] + bytes([intact[-30] ^ 1]) + intact[-29:])
    with pytest.raises(CorruptDataError, match=str(delta)):
        fetch_model(storage.stub, second)
    assert store_model(storage.stub, weights(1), first) == second
    assert fetch_model(storage.stub, second) == weights(1)

    whole = base.read_bytes()
    base.write_bytes(whole[:-1] + b"?")
    with pytest.raises(CorruptDataError, match=str(base)):
        fetch_model(storage.stub, second)
    third = store_model(storage.stub, weights(2), second)
    assert described(storage, third).chain_position == 0, "no difference from damaged bytes"
    base.unlink()
    with pytest.raises(CorruptDataError, match=str(base)):
        fetch_model(storage.stub, second)
    store_model(storage.stub, weights(0))
    assert fetch_model(storage.stub, second) == weights(1)
    delta.write_bytes(b"MODYNDLT")
    with pytest.raises(CorruptDataError, match=str(delta)):
        fetch_model(storage.stub, second)
    assert first in [model.digest for model in storage.stub.ListStoredModels(ListStoredModelsRequest())]


def test_a_model_others_are_differences_from_is_deleted_only_after_rewriting_them(storage: StorageServer) -> None:
    first, second, third = chain(storage, 3)
    with pytest.raises(ConflictError, match=min(second, third)):
        storage.stub.DeleteModel(DeleteModelRequest(digest=first))
    assert fetch_model(storage.stub, first) == weights(0)
    freed = storage.stub.DeleteModel(DeleteModelRequest(digest=third)).freed_bytes
    assert 0 < freed < len(weights(2))
    answer = storage.stub.DeleteModel(DeleteModelRequest(digest=first, rewrite_dependents=True))
    assert list(answer.rewritten) == [second]
    with pytest.raises(NotFoundError):
        fetch_model(storage.stub, first)
    assert fetch_model(storage.stub, second) == weights(1)
    assert described(storage, second).chain_position == 0
    storage.stub.DeleteModel(DeleteModelRequest(digest=second))
    with pytest.raises(NotFoundError):
        storage.stub.DeleteModel(DeleteModelRequest(digest=second))
    assert not list(storage.state.folder("models").iterdir())


def test_deleting_and_storing_at_once_never_loses_a_base(storage: StorageServer) -> None:
    """Whoever wins, whatever is stored can be read."""
    first = store_model(storage.stub, weights(0))
    stored: list[str] = []

    def store(seed: int) -> None:
        stored.append(store_model(storage.stub, weights(seed), first))

    def delete() -> None:
        with contextlib.suppress(ConflictError, NotFoundError):
            storage.stub.DeleteModel(DeleteModelRequest(digest=first, rewrite_dependents=True))

    threads = [threading.Thread(target=store, args=(seed,)) for seed in range(1, 9)]
    threads.insert(3, threading.Thread(target=delete))
    threads.append(threading.Thread(target=delete))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetch_model(storage.stub, digest) for digest in stored) == sorted(weights(s) for s in range(1, 9))


def test_what_nobody_keeps_is_collected(storage: StorageServer) -> None:
    first, second, third, fourth = chain(storage, 4, interval=2)
    request = CollectGarbageRequest(keep=[second], dry_run=True)
    named = list(storage.stub.CollectModelGarbage(request))
    assert [garbage.name for garbage in named] == [fourth, third], "the base of what is kept stays"
    assert not list(storage.stub.CollectModelGarbage(CollectGarbageRequest(older_than_seconds=1000)))
    request.dry_run = False
    collected = list(storage.stub.CollectModelGarbage(request))
    assert [(g.name, g.num_bytes) for g in collected] == [(g.name, g.num_bytes) for g in named]
    assert {path.stem for path in storage.state.folder("models").iterdir()} == {first, second}
    assert [garbage.name for garbage in storage.stub.CollectModelGarbage(CollectGarbageRequest())] == [second, first]


def test_a_model_that_is_about_to_be_used_is_not_collected(storage: StorageServer) -> None:
    digests = chain(storage, 3)
    for path in storage.state.folder("models").iterdir():
        os.utime(path, (1.0, 1.0))
    used = storage.stub.DescribeModel(FetchModelRequest(digest=digests[1], used=True))
    assert used.stored_at > 1.0
    collected = storage.stub.CollectModelGarbage(CollectGarbageRequest(older_than_seconds=1000))
    assert [garbage.name for garbage in collected] == [digests[2]], "nor what it is a difference from"
    assert fetch_model(storage.stub, digests[1]) == weights(1)


def test_leftovers_of_a_crash_are_harmless(storage: StorageServer) -> None:
    first, second = chain(storage, 2)
    folder = storage.state.folder("models")
    (folder / ".tmp-1").write_bytes(b"half")
    (folder / f"{second}.safetensors").write_bytes(weights(1))  # killed between two steps of a rewriting
    storage.restart()
    assert described(storage, second).chain_position == 0
    assert fetch_model(storage.stub, second) == weights(1)
    storage.stub.DeleteModel(DeleteModelRequest(digest=second))
    assert [path.name for path in folder.iterdir()] == [f"{first}.safetensors"]


def test_storing_killed_at_any_moment_leaves_whole_models_only(tmp_path: Path) -> None:
    """A process that stores a chain is killed again and again; what is there can be read, and storing goes on."""
    state = StateDirectory(tmp_path / "state").create()
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from modyn.storage.model_store import ModelStore
        from tests.storage.test_models import weights
        store, parent = ModelStore(Path(sys.argv[1])), None
        print("ready", flush=True)
        for seed in range(400):
            parent = store.store([weights(seed)], parent=parent, full_model_interval=3).digest
        """
    )
    folder = state.folder("models")
    for delay in (0.02, 0.09):
        child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.wait()
        child.stdout.close()
        store = ModelStore(folder)
        models = store.all()
        assert {path.stem for path in folder.iterdir()} == {model.digest for model in models}
        for model in models:
            assert digest_bytes(b"".join(store.fetch(model.digest))) == model.digest
    assert models

"""The selector over real gRPC, with a real storage service behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modyn.core.arrow import MESSAGE_BYTES, concat_messages
from modyn.core.errors import (
    CancelledError,
    ConflictError,
    CorruptDataError,
    InvalidInputError,
    ModynError,
    NotFoundError,
)
from modyn.core.files import TEMPORARY_PREFIX
from modyn.core.keysets import KeyRange, KeySet
from modyn.core.rpc import arrow_stream
from modyn.core.values import to_value
from modyn.proto.selector_pb2 import (
    CreateTrainingSetRequest,
    DescribeTrainingSetRequest,
    ReadTrainingSetRequest,
    TrainingSet,
    TrainingSetHeader,
)
from modyn.proto.storage_pb2 import IngestRequest, RegisterDatasetRequest
from modyn.trainer_server.training_sets import read_training_set
from tests.helpers.services import StorageAndSelector, append_numbers

NEW_DATA = {"name": "NewDataStrategy"}
EVERYTHING = {"name": "NewDataStrategy", "tail_triggers": None}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[StorageAndSelector]:
    services = StorageAndSelector.start(tmp_path / "s")
    yield services
    services.close()


def create(
    services: StorageAndSelector,
    trigger: int,
    new_data: KeySet | Sequence[int],
    selection: dict[str, Any] = NEW_DATA,
    *,
    pipeline: str = "p",
    dataset: str = "numbers",
    seed: int = 0,
) -> TrainingSet:
    keys = new_data if isinstance(new_data, KeySet) else KeySet.from_array(new_data)
    header = TrainingSetHeader(
        pipeline_id=pipeline, trigger_index=trigger, dataset=dataset, selection=to_value(selection), seed=seed
    )
    parts = (CreateTrainingSetRequest(new_data=part) for part in keys.to_protos())
    return services.peers.selector.CreateTrainingSet(iter([CreateTrainingSetRequest(header=header), *parts]))


def read(services: StorageAndSelector, digest: str, **part: int) -> tuple[list[int], list[float]]:
    stream = services.peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=digest, **part))
    table = concat_messages(arrow_stream(stream))
    if table is None:
        return [], []
    assert [(field.name, str(field.type)) for field in table.schema] == [("key", "int64"), ("weight", "float")]
    return table.column("key").to_pylist(), table.column("weight").to_pylist()


def span(start: int, end: int) -> KeySet:
    return KeySet.from_ranges([KeyRange(start, end)])


def test_a_training_set_is_created_described_and_read(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0, 1] * 50)
    made = create(services, 0, span(0, 60))
    assert (made.num_samples, made.num_new, made.num_unlabelled, made.has_weights) == (60, 60, 0, False)
    assert [(r.start, r.end) for r in made.ranges.ranges] == [(0, 60)]
    assert made.dataset == "numbers"
    assert made.seconds > 0
    assert services.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=made.digest)) == made
    assert read(services, made.digest) == (list(range(60)), [1.0] * 60)
    assert read(services, made.digest, offset=55) == (list(range(55, 60)), [1.0] * 5)
    assert read(services, made.digest, offset=10, count=3) == ([10, 11, 12], [1.0] * 3)
    assert read(services, made.digest, offset=60) == ([], [])


def test_the_order_seen_is_the_order_of_the_set(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0] * 100)
    seen = [5, 3, 99, 0, 1, 2, 50]
    made = create(services, 0, seen)
    assert not made.HasField("ranges")
    assert read(services, made.digest)[0] == seen


def test_samples_without_a_label_are_left_out_and_counted(services: StorageAndSelector) -> None:
    labels: list[int | None] = [None if key % 3 == 0 else 1 for key in range(100)]
    append_numbers(services.peers, "numbers", labels)
    first = create(services, 0, span(0, 50), EVERYTHING)
    labelled = [key for key in range(50) if key % 3]
    assert (first.num_samples, first.num_new, first.num_unlabelled) == (len(labelled), 50, 17)
    assert read(services, first.digest)[0] == labelled
    second = create(services, 1, [99, 98, 97, 60], EVERYTHING)
    assert (second.num_new, second.num_unlabelled) == (4, 2)
    assert read(services, second.digest)[0] == [*labelled, 98, 97]


def test_a_trigger_whose_samples_all_lack_labels_gives_an_empty_set(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [None] * 10)
    made = create(services, 0, span(0, 10))
    assert (made.num_samples, made.num_new, made.num_unlabelled) == (0, 10, 10)
    assert read(services, made.digest) == ([], [])


def test_a_trigger_without_new_data_is_fine(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [1] * 10)
    assert create(services, 0, []).num_samples == 0
    assert create(services, 1, span(0, 10), EVERYTHING).num_samples == 10
    assert create(services, 2, [], EVERYTHING).num_samples == 10


@pytest.mark.parametrize("tail", [0, 1, 2, None])
def test_tail_triggers_look_back_over_triggers(services: StorageAndSelector, tail: int | None) -> None:
    append_numbers(services.peers, "numbers", [1] * 100)
    history = [span(0, 10), KeySet.from_array([30, 20, 25]), span(40, 41), KeySet.from_ranges([]), span(50, 60)]
    selection = {"name": "NewDataStrategy", "tail_triggers": tail}
    for index, keys in enumerate(history):
        made = create(services, index, keys, selection)
        first = 0 if tail is None else max(0, index - tail)
        expected = [int(key) for part in history[first : index + 1] for key in part.to_array()]
        assert read(services, made.digest)[0] == expected


def test_repeating_a_trigger_answers_the_same_set(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [1] * 100)
    limited = {"name": "NewDataStrategy", "limit": 10}
    made = create(services, 0, span(0, 50), limited)
    create(services, 1, span(50, 100), limited)
    assert create(services, 0, span(0, 50), limited) == made
    assert create(services, 0, list(range(50)), limited) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_data": span(0, 51)}, "selected before from other data"),
        ({"selection": EVERYTHING}, "with other settings"),
        ({"seed": 1}, "with other settings"),
        ({"trigger": 2}, "came out of order; the next one is 1"),
        ({"trigger": 1, "dataset": "others"}, "selects from dataset 'numbers', not 'others'"),
    ],
)
def test_a_trigger_with_other_inputs_is_a_conflict(
    services: StorageAndSelector, change: dict[str, Any], message: str
) -> None:
    append_numbers(services.peers, "numbers", [1] * 100)
    append_numbers(services.peers, "others", [1] * 100)
    create(services, 0, span(0, 50))
    arguments: dict[str, Any] = {"trigger": 0, "new_data": span(0, 50), **change}
    with pytest.raises(ConflictError, match=message):
        create(services, **arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dataset": "nothing"}, NotFoundError, "nothing"),
        ({"new_data": [1, 2, 1]}, InvalidInputError, "a key twice"),
        ({"new_data": span(90, 101)}, InvalidInputError, "100|101"),
        ({"new_data": [5, -3]}, InvalidInputError, "-3"),
        ({"selection": {"name": "NoStrategy"}}, InvalidInputError, "no selection policy is named 'NoStrategy'"),
        ({"selection": {"name": "NewDataStrategy", "limit": -9}}, InvalidInputError, "limit: value -9: expected"),
        ({"trigger": -1}, InvalidInputError, "trigger_index -1"),
        ({"seed": -1}, InvalidInputError, "seed -1"),
        ({"pipeline": ""}, InvalidInputError, "no pipeline_id"),
    ],
)
def test_bad_requests_leave_nothing_behind(
    services: StorageAndSelector, change: dict[str, Any], error: type[ModynError], message: str
) -> None:
    append_numbers(services.peers, "numbers", [1] * 100)
    arguments: dict[str, Any] = {"trigger": 0, "new_data": span(0, 50), **change}
    with pytest.raises(error, match=message):
        create(services, **arguments)
    assert create(services, 0, span(0, 50)).num_samples == 50


def test_messages_out_of_order_are_refused(services: StorageAndSelector) -> None:
    selector = services.peers.selector
    data = CreateTrainingSetRequest(new_data=span(0, 1).to_proto())
    header = CreateTrainingSetRequest(header=TrainingSetHeader(pipeline_id="p", dataset="numbers"))
    for messages, expected in (
        ([], "expected a header as the first message"),
        ([data], "expected a header as the first message"),
        ([header, header], "one header, then only new_data"),
        ([header], "selection is missing"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            selector.CreateTrainingSet(iter(messages))


@pytest.mark.parametrize(
    "part", [{"offset": -1}, {"offset": 11}, {"count": 11}, {"offset": 5, "count": 6}, {"count": -1}]
)
def test_positions_outside_the_set_are_refused(services: StorageAndSelector, part: dict[str, int]) -> None:
    append_numbers(services.peers, "numbers", [1] * 10)
    made = create(services, 0, span(0, 10))
    with pytest.raises(InvalidInputError, match="has 10 samples"):
        read(services, made.digest, **part)


def test_unknown_digests_are_not_found(services: StorageAndSelector) -> None:
    with pytest.raises(NotFoundError, match="no training set 'abc'"):
        read(services, "abc")
    with pytest.raises(NotFoundError, match=r"no training set .*catalog"):
        services.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest="../../catalog"))


def test_a_damaged_file_is_reported(services: StorageAndSelector, tmp_path: Path) -> None:
    append_numbers(services.peers, "numbers", [1] * 10)
    made = create(services, 0, span(0, 10))
    services.close()
    path = tmp_path / "s" / "training_sets" / f"{made.digest}.arrow"
    path.write_bytes(path.read_bytes()[:100])
    again = StorageAndSelector.start(tmp_path / "s")
    try:
        with pytest.raises(CorruptDataError, match=r"damaged.*run the pipeline again"):
            read(again, made.digest)
    finally:
        again.close()


def test_large_sets_are_streamed_in_messages_of_about_a_mebibyte(services: StorageAndSelector) -> None:
    count = 300_000
    append_numbers(services.peers, "numbers", [1] * count)
    scattered = np.random.default_rng(0).permutation(count)
    made = create(services, 0, KeySet(array=scattered))
    stream = services.peers.selector.ReadTrainingSet(ReadTrainingSetRequest(digest=made.digest))
    messages = list(arrow_stream(stream))
    assert len(messages) == 4
    assert max(map(len, messages)) < 1.1 * MESSAGE_BYTES
    table = concat_messages(messages)
    assert table is not None
    assert (table.column("key").to_numpy() == scattered).all()


def test_many_scattered_keys_with_missing_labels(services: StorageAndSelector) -> None:
    """More runs than fit one request: the cover is wider than the keys, the result is not."""
    labels = [None if key % 7 == 0 else 1 for key in range(60_000)]
    append_numbers(services.peers, "numbers", labels)
    keys = np.arange(0, 60_000, 3)[::-1].copy()
    made = create(services, 0, KeySet(array=keys))
    assert made.num_unlabelled == int((keys % 7 == 0).sum())
    assert read(services, made.digest)[0] == keys[keys % 7 != 0].tolist()


def test_digests_depend_on_content_only(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        services = StorageAndSelector.start(tmp_path / name)
        append_numbers(services.peers, "numbers", [0, 1] * 50)
        if name == "b":  # other pipelines on the same state do not matter
            create(services, 0, span(3, 9), pipeline="other")
        limited = {"name": "NewDataStrategy", "tail_triggers": None, "limit": 30, "limit_reset": "sampleUAR"}
        sets = [create(services, index, span(50 * index, 50 * index + 50), limited) for index in range(2)]
        made.append([(s.digest, s.content_digest) for s in sets])
        services.close()
    assert made[0] == made[1]


def test_a_restarted_selector_knows_everything(tmp_path: Path) -> None:
    services = StorageAndSelector.start(tmp_path / "s")
    append_numbers(services.peers, "numbers", [1] * 100)
    first = create(services, 0, span(0, 50), EVERYTHING)
    services.close()
    (tmp_path / "s" / "training_sets" / f"{TEMPORARY_PREFIX}half.arrow").write_bytes(b"half")
    services = StorageAndSelector.start(tmp_path / "s")
    assert not list((tmp_path / "s" / "training_sets").glob(f"{TEMPORARY_PREFIX}*"))
    assert create(services, 0, span(0, 50), EVERYTHING) == first
    second = create(services, 1, [70, 60], EVERYTHING)
    assert read(services, second.digest)[0] == [*range(50), 70, 60]
    services.close()


def test_a_crash_between_file_and_row_is_repaired_by_repeating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = StorageAndSelector.start(tmp_path / "s")
    append_numbers(services.peers, "numbers", [1] * 100)

    def crash(*_: object) -> None:
        raise KeyError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("modyn.selector.catalog.SelectorCatalog.record", crash)
        with pytest.raises(ModynError, match="power cut"):
            create(services, 0, span(0, 50))
    made = create(services, 0, span(0, 50))
    assert read(services, made.digest)[0] == list(range(50))
    services.close()


def test_both_databases(any_catalog: Any, tmp_path: Path) -> None:
    url = any_catalog.url.render_as_string(hide_password=False)
    services = StorageAndSelector.start(tmp_path / "s", url.replace("postgresql+psycopg", "postgresql"))
    append_numbers(services.peers, "numbers", [1] * 100)
    first = create(services, 0, span(0, 50), EVERYTHING)
    second = create(services, 1, [70, 60], EVERYTHING)
    assert create(services, 0, span(0, 50), EVERYTHING) == first
    assert read(services, second.digest)[0] == [*range(50), 70, 60]
    services.close()


def test_the_data_seen_at_a_trigger_do_not_change_later(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [1] * 10)
    made = create(services, 0, span(0, 10))
    append_numbers(services.peers, "numbers", [1] * 10, batch_id="second")
    described = services.peers.selector.DescribeTrainingSet(DescribeTrainingSetRequest(digest=made.digest))
    assert described.content_digest == made.content_digest


def test_samples_of_a_changed_file_are_replaced_from_then_on(services: StorageAndSelector, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    source = {"format": "parquet", "path": str(folder), "settle_seconds": 0, "label": "label", "timestamp": "timestamp"}
    services.peers.storage.RegisterDataset(RegisterDatasetRequest(name="files", source=to_value(source)))

    def ingest(name: str, values: list[float]) -> None:
        count = len(values)
        table = pa.table({"x": values, "label": [1] * count, "timestamp": list(range(count))})
        pq.write_table(table, folder / f".{name}")
        (folder / f".{name}").rename(folder / name)
        list(services.peers.storage.Ingest(IngestRequest(dataset="files")))

    ingest("a.parquet", [1.0, 2.0])
    ingest("b.parquet", [3.0])
    before = create(services, 0, span(0, 3), EVERYTHING, dataset="files")
    assert read(services, before.digest)[0] == [0, 1, 2]
    ingest("a.parquet", [7.0, 8.0, 9.0])
    after = create(services, 1, span(3, 6), EVERYTHING, dataset="files")
    assert read(services, after.digest)[0] == [2, 3, 4, 5]
    # What a replay of the first stretch sees is what was known then.
    again = create(services, 0, span(0, 3), EVERYTHING, dataset="files", pipeline="replay")
    assert (again.digest, again.content_digest) == (before.digest, before.content_digest)


def test_nothing_is_selected_for_a_caller_that_went_away(services: StorageAndSelector) -> None:
    append_numbers(services.peers, "numbers", [0, 1] * 50)
    header = TrainingSetHeader(pipeline_id="p", trigger_index=0, dataset="numbers", selection=to_value(NEW_DATA))
    messages = [CreateTrainingSetRequest(header=header), CreateTrainingSetRequest(new_data=span(0, 10).to_proto())]

    class Gone:
        def is_active(self) -> bool:
            return False

    with pytest.raises(CancelledError):
        services._services[1].CreateTrainingSet(iter(messages), Gone())  # type: ignore[arg-type]
    assert create(services, 0, span(0, 60)).num_samples == 60


def test_very_many_ranges_are_not_in_the_answer_but_in_the_stream(
    services: StorageAndSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_numbers(services.peers, "numbers", [0, 1] * 50)
    monkeypatch.setattr("modyn.selector.service.MAX_RANGES_IN_REPLY", 1)
    keys = [*range(40), *range(50, 90)]
    made = create(services, 0, keys)
    assert not made.HasField("ranges")
    assert read(services, made.digest)[0] == keys
    assert read_training_set(made, services.peers).keys.to_array().tolist() == keys

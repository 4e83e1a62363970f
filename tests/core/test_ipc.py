"""Arrow IPC streams written by hand, read by Arrow."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modyn.core.arrow import decode_batch, encode_batch
from modyn.core.ipc import stream_of

Make = Callable[[np.random.Generator], Any]

BY_HAND: dict[str, tuple[pa.DataType, Make]] = {
    "int64": (pa.int64(), lambda rng: int(rng.integers(-99, 99))),
    "uint8": (pa.uint8(), lambda rng: int(rng.integers(255))),
    "float16": (pa.float16(), lambda rng: np.float16(rng.integers(9))),
    "float32": (pa.float32(), lambda rng: float(rng.integers(9))),
    "bool": (pa.bool_(), lambda rng: bool(rng.integers(2))),
    "string": (pa.string(), lambda rng: "ä" * int(rng.integers(30))),
    "large_string": (pa.large_string(), lambda rng: "x" * int(rng.integers(30))),
    "binary": (pa.binary(), lambda rng: rng.bytes(int(rng.integers(30)))),
    "large_binary": (pa.large_binary(), lambda rng: rng.bytes(int(rng.integers(30)))),
    "fixed_binary": (pa.binary(5), lambda rng: rng.bytes(5)),
    "fixed_list": (pa.list_(pa.float64(), 3), lambda rng: rng.integers(0, 9, 3).astype(float).tolist()),
    "matrix": (pa.list_(pa.list_(pa.int8(), 2), 3), lambda rng: rng.integers(0, 9, (3, 2)).tolist()),
    "timestamp": (pa.timestamp("us"), lambda rng: datetime.datetime(2000, 1, int(rng.integers(1, 28)))),
    "date": (pa.date32(), lambda rng: datetime.date(2000, 1, int(rng.integers(1, 28)))),
    "decimal": (pa.decimal128(10, 2), lambda rng: decimal.Decimal(int(rng.integers(99)))),
}
BY_ARROW: dict[str, tuple[pa.DataType, Make]] = {
    "list": (pa.list_(pa.int32()), lambda rng: rng.integers(0, 9, rng.integers(4)).tolist()),
    "struct": (pa.struct([("a", pa.int8())]), lambda rng: {"a": int(rng.integers(9))}),
    "null": (pa.null(), lambda _: None),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), lambda rng: "ab"[rng.integers(2)]),
}
KINDS = BY_HAND | BY_ARROW


def column(kind: str, rng: np.random.Generator, length: int, *, nulls: bool) -> pa.Array:
    arrow_type, make = KINDS[kind]
    return pa.array([None if nulls and rng.random() < 0.3 else make(rng) for _ in range(length)], arrow_type)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_arrives_as_it_was(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    by_hand = 0
    for attempt in range(60):
        length = int(rng.integers(0, 40))
        others = rng.choice(list(BY_HAND), attempt % 3).tolist()
        columns = [column(name, rng, length, nulls=attempt % 2 == 1) for name in [kind, *others]]
        batch = pa.record_batch(columns, names=[f"c{index}" for index in range(len(columns))])
        if attempt % 4 == 0:
            batch = batch.replace_schema_metadata({"attempt": str(attempt)})
        if attempt % 5:
            start = int(rng.integers(0, length + 1))
            batch = batch.slice(start, int(rng.integers(0, length - start + 1)))
        by_hand += stream_of(batch) is not None
        found = decode_batch(encode_batch(batch))
        assert found.equals(batch)
        assert found.schema.equals(batch.schema, check_metadata=True)
        found.validate(full=True)
    assert (by_hand > 20) == (kind in BY_HAND)


def test_a_stream_ends_after_its_batch() -> None:
    message = stream_of(pa.record_batch({"x": np.arange(1000), "y": np.ones(1000, np.float32)}))
    assert isinstance(message, bytes)
    with pa.ipc.open_stream(pa.py_buffer(message)) as reader:
        assert reader.read_all().num_rows == 1000


def test_only_the_rows_of_a_view_are_sent() -> None:
    batch = pa.record_batch({"x": np.arange(100_000), "y": pa.array(["text"] * 100_000)})
    assert len(encode_batch(batch.slice(50_000, 10))) < 1_000

"""Values, durations, digests, randomness, Arrow messages, atomic files: small modules, one property each or more."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from modyn.core.arrow import batch_of, concat_messages, decode_batch, encode_batch, int64_column, slices
from modyn.core.digests import Digest, digest_bytes, digest_file, digest_inputs
from modyn.core.durations import SECONDS_PER_UNIT, Duration, format_duration, parse_duration
from modyn.core.errors import CorruptDataError
from modyn.core.files import TEMPORARY_PREFIX, atomic_path, remove_leftovers
from modyn.core.randomness import Purpose, derived_seed, generator
from modyn.core.values import from_value, to_value
from modyn.proto.common_pb2 import Value

_int64 = st.integers(-(2**63), 2**63 - 1)
_trees = st.recursive(
    st.none() | st.booleans() | _int64 | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


# ------------------------------------------------------------------------------------------------------- values


@given(tree=_trees)
def test_values_round_trip_with_their_types(tree: Any) -> None:
    decoded = from_value(Value.FromString(to_value(tree).SerializeToString()))
    assert decoded == tree
    assert repr(_sorted(decoded)) == repr(_sorted(tree))  # 1, 1.0 and True are equal but not the same


def _sorted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return [_sorted(item) for item in tree] if isinstance(tree, list) else tree


def test_an_empty_value_is_none_and_nan_survives() -> None:
    assert from_value(Value()) is None
    assert math.isnan(from_value(to_value(float("nan"))))


@pytest.mark.parametrize("wrong", [{1, 2}, b"bytes", object(), np.int64(3)])
def test_other_types_have_no_value(wrong: object) -> None:
    with pytest.raises(TypeError, match="cannot encode"):
        to_value([wrong])


# ---------------------------------------------------------------------------------------------------- durations


@given(number=st.integers(1, 10**6), unit=st.sampled_from(sorted(SECONDS_PER_UNIT)))
def test_durations_round_trip(number: int, unit: str) -> None:
    seconds = parse_duration(f"{number}{unit}")
    assert seconds == number * SECONDS_PER_UNIT[unit]
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "d", "1.5d", "-1d", "1 d", "1D", "1mo", "1d1h", "١d"[1:]])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize("value", ["0s", 0, -5, True, None, 1.5, [1]])
def test_duration_fields_are_positive(value: object) -> None:
    with pytest.raises(ValidationError, match="expected a duration"):
        TypeAdapter(Duration).validate_python(value)


# ------------------------------------------------------------------------------------------------------ digests


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_digests_do_not_depend_on_how_bytes_are_split(data: bytes, cut: int) -> None:
    assert Digest().update(data[:cut]).update(data[cut:]).hexdigest() == digest_bytes(data)


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "f").write_bytes(data)
    assert digest_file(tmp_path / "f") == digest_bytes(data)


@given(tree=st.dictionaries(st.text(), _trees, min_size=2, max_size=5))
def test_input_digests_do_not_depend_on_key_order(tree: dict[str, Any]) -> None:
    assert digest_inputs(dict(reversed(tree.items()))) == digest_inputs(tree)


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), (1, True), (1, "1"), (None, "null"), ([1, [2]], [1, 2]), ("", None)])
def test_input_digests_tell_types_apart(a: object, b: object) -> None:
    assert digest_inputs({"x": a}) != digest_inputs({"x": b})


# --------------------------------------------------------------------------------------------------- randomness


def test_streams_of_other_seeds_purposes_and_indices_are_unrelated() -> None:
    streams = [
        generator(seed, purpose, index).random(2000)
        for seed in (0, 1, 2**63 - 1)
        for purpose in (Purpose.SHUFFLE, Purpose.SELECTION)
        for index in (0, 1, 10**9)
    ]
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 0.15  # 6 standard deviations of unrelated streams


def test_the_order_of_draws_does_not_matter() -> None:
    first = generator(5, Purpose.SELECTION, 3).random(10)
    generator(5, Purpose.SELECTION, 2).random(1000)
    np.random.default_rng().random(10)
    assert (generator(5, Purpose.SELECTION, 3).random(10) == first).all()


def test_another_process_draws_the_same() -> None:
    code = "from modyn.core.randomness import *; print(derived_seed(9, Purpose.MODEL_INIT, 4))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(printed) == derived_seed(9, Purpose.MODEL_INIT, 4)


def test_purposes_are_never_renumbered() -> None:
    """These numbers are part of what makes an old run repeatable."""
    assert {purpose.name: purpose.value for purpose in Purpose}.items() >= {
        ("SHUFFLE", 1),
        ("SELECTION", 2),
        ("PRESAMPLING", 3),
        ("MODEL_INIT", 4),
        ("TRAINING", 5),
        ("EXAMPLES", 6),
    }


# -------------------------------------------------------------------------------------------------------- Arrow


@given(keys=st.lists(_int64, max_size=50))
def test_bulk_messages_round_trip(keys: list[int]) -> None:
    batch = batch_of(key=np.array(keys, dtype=np.int64), label=pa.array([None] * len(keys), type=pa.int64()))
    decoded = decode_batch(encode_batch(batch))
    assert decoded.equals(batch)
    assert int64_column(decoded, "key").tolist() == keys


@given(rows=st.integers(0, 100), size=st.integers(1, 30))
def test_slices_cover_all_rows_once(rows: int, size: int) -> None:
    covered = [row for part in slices(rows, size) for row in range(part.start, part.stop)]
    assert covered == list(range(rows))


def test_messages_that_are_no_arrow_are_reported() -> None:
    for message in (b"", b"not arrow", encode_batch(batch_of(key=np.arange(10)))[:100]):
        with pytest.raises(CorruptDataError, match="bulk message"):
            decode_batch(message)


def test_an_empty_stream_has_no_table() -> None:
    assert concat_messages([]) is None
    table = concat_messages([encode_batch(batch_of(key=np.arange(i))) for i in (3, 0, 2)])
    assert table is not None
    assert table.column("key").to_pylist() == [0, 1, 2, 0, 1]
    assert table.column("key").num_chunks == 1


# -------------------------------------------------------------------------------------------------------- files


def write_atomically(target: Path, data: bytes) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "f.txt"
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert list(target.parent.iterdir()) == []
    write_atomically(target, b"whole")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"whole"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "f"
    write_atomically(target, b"0" * 100_000)
    stop = threading.Event()
    seen: set[bytes] = set()

    def watch() -> None:
        while not stop.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=watch)
    reader.start()
    for digit in b"123456789":
        write_atomically(target, bytes([digit]) * 100_000)
    stop.set()
    reader.join()
    assert all(len(content) == 100_000 and len(set(content)) == 1 for content in seen)


def test_a_killed_writer_leaves_only_a_leftover(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from modyn.core.files import atomic_path
with atomic_path(Path({str(tmp_path)!r}) / "f") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(TEMPORARY_PREFIX)
    (tmp_path / f"{TEMPORARY_PREFIX}folder").mkdir()
    (tmp_path / "kept").write_text("kept")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
